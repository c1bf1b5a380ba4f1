"""The tasks, one package each. They do not depend on stages, schedules or each other."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

_WHERE = {
    "CausalLM": "causal_lm.task",
    "CausalLMData": "causal_lm.data",
    "Seq2Seq": "seq2seq.task",
    "Seq2SeqData": "seq2seq.data",
    "TextClassificationData": "text_classification.data",
    "TextClassifier": "text_classification.task",
    "TokenClassificationData": "token_classification.data",
    "TokenClassifier": "token_classification.task",
}

__all__ = [
    "CausalLM",
    "CausalLMData",
    "Seq2Seq",
    "Seq2SeqData",
    "TextClassificationData",
    "TextClassifier",
    "TokenClassificationData",
    "TokenClassifier",
]

if TYPE_CHECKING:
    from gradual.tasks.causal_lm.data import CausalLMData
    from gradual.tasks.causal_lm.task import CausalLM
    from gradual.tasks.seq2seq.data import Seq2SeqData
    from gradual.tasks.seq2seq.task import Seq2Seq
    from gradual.tasks.text_classification.data import TextClassificationData
    from gradual.tasks.text_classification.task import TextClassifier
    from gradual.tasks.token_classification.data import TokenClassificationData
    from gradual.tasks.token_classification.task import TokenClassifier


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_WHERE[name]}"), name)

"""Classification and regression of texts, or of pairs of them, with any encoder of ``transformers``."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

_WHERE = {"TextClassificationData": "data", "TextClassifier": "task", "TextSpec": "labels"}

__all__ = ["TextClassificationData", "TextClassifier", "TextSpec"]

if TYPE_CHECKING:
    from gradual.tasks.text_classification.data import TextClassificationData
    from gradual.tasks.text_classification.labels import TextSpec
    from gradual.tasks.text_classification.task import TextClassifier


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_WHERE[name]}"), name)

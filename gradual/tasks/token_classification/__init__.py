"""Tagging of words, such as named entities and parts of speech, with any encoder of ``transformers``."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

_WHERE = {"TagSpec": "labels", "TokenClassificationData": "data", "TokenClassifier": "task"}

__all__ = ["TagSpec", "TokenClassificationData", "TokenClassifier"]

if TYPE_CHECKING:
    from gradual.tasks.token_classification.data import TokenClassificationData
    from gradual.tasks.token_classification.labels import TagSpec
    from gradual.tasks.token_classification.task import TokenClassifier


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_WHERE[name]}"), name)

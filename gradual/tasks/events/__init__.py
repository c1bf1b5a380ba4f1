"""Event extraction with DyGIE++ (Wadden et al., 2019), on documents in its format."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

_WHERE = {
    "Dygie": "model",
    "EventDataModule": "datamodule",
    "EventExtractor": "task",
    "ExtractionScores": "metrics",
    "LabelSpace": "labels",
    "read_documents": "data",
}

__all__ = ["Dygie", "EventDataModule", "EventExtractor", "ExtractionScores", "LabelSpace", "read_documents"]

if TYPE_CHECKING:
    from gradual.tasks.events.data import read_documents
    from gradual.tasks.events.datamodule import EventDataModule
    from gradual.tasks.events.labels import LabelSpace
    from gradual.tasks.events.metrics import ExtractionScores
    from gradual.tasks.events.model import Dygie
    from gradual.tasks.events.task import EventExtractor


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_WHERE[name]}"), name)

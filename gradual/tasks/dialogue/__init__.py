"""Dialogue state tracking with SUMBT (Lee et al., 2019), on files in the layout of MultiWOZ 2.0."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

_WHERE = {
    "BeliefScores": "metrics",
    "DialogueDataModule": "datamodule",
    "DialogueStateTracker": "task",
    "Ontology": "data",
    "Sumbt": "model",
    "read_dialogues": "data",
}

__all__ = [
    "BeliefScores",
    "DialogueDataModule",
    "DialogueStateTracker",
    "Ontology",
    "Sumbt",
    "read_dialogues",
]

if TYPE_CHECKING:
    from gradual.tasks.dialogue.data import Ontology, read_dialogues
    from gradual.tasks.dialogue.datamodule import DialogueDataModule
    from gradual.tasks.dialogue.metrics import BeliefScores
    from gradual.tasks.dialogue.model import Sumbt
    from gradual.tasks.dialogue.task import DialogueStateTracker


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_WHERE[name]}"), name)

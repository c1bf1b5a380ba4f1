"""Gradual fine-tuning: adapt a model to a scarce domain, stage by stage (Xu et al., 2021).

Importing the package is quick: torch and Lightning come in with the first name that needs them.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.2.0"

_WHERE = {
    "BertAdam": "gradual.stage.optim",
    "CollapseConfig": "gradual.settings",
    "Domains": "gradual.data.domains",
    "FileDataModule": "gradual.data.files",
    "InputError": "gradual.errors",
    "LRScheduleConfig": "gradual.settings",
    "MixedDomainDataModule": "gradual.data.module",
    "OptimizerConfig": "gradual.settings",
    "RunResult": "gradual.experiment.results",
    "Schedule": "gradual.schedule",
    "SearchConfig": "gradual.experiment.search.settings",
    "SearchResult": "gradual.experiment.search.driver",
    "Source": "gradual.data.sources",
    "Stage": "gradual.schedule",
    "StageOverrides": "gradual.settings",
    "StageResult": "gradual.runs.result",
    "Strategy": "gradual.experiment.strategies",
    "TrainSettings": "gradual.settings",
    "compare": "gradual.experiment.api",
    "fit": "gradual.experiment.api",
    "search": "gradual.experiment.search.api",
}

__all__ = [
    "BertAdam",
    "CollapseConfig",
    "Domains",
    "FileDataModule",
    "InputError",
    "LRScheduleConfig",
    "MixedDomainDataModule",
    "OptimizerConfig",
    "RunResult",
    "Schedule",
    "SearchConfig",
    "SearchResult",
    "Source",
    "Stage",
    "StageOverrides",
    "StageResult",
    "Strategy",
    "TrainSettings",
    "__version__",
    "compare",
    "fit",
    "search",
]

if TYPE_CHECKING:
    from gradual.data.domains import Domains
    from gradual.data.files import FileDataModule
    from gradual.data.module import MixedDomainDataModule
    from gradual.data.sources import Source
    from gradual.errors import InputError
    from gradual.experiment.api import compare, fit
    from gradual.experiment.results import RunResult
    from gradual.experiment.search.api import search
    from gradual.experiment.search.driver import SearchResult
    from gradual.experiment.search.settings import SearchConfig
    from gradual.experiment.strategies import Strategy
    from gradual.runs.result import StageResult
    from gradual.schedule import Schedule, Stage
    from gradual.settings import CollapseConfig, LRScheduleConfig, OptimizerConfig, StageOverrides, TrainSettings
    from gradual.stage.optim import BertAdam


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_WHERE[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)

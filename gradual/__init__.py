"""Gradual fine-tuning: adapt a model to a scarce domain, stage by stage (Xu et al., 2021).

Importing the package is quick: torch and Lightning come in with the first name that needs them.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_WHERE = {
    "CollapseConfig": "gradual.defaults",
    "Domains": "gradual.datamodule",
    "FileDataModule": "gradual.files",
    "InputError": "gradual.errors",
    "LRScheduleConfig": "gradual.schedule",
    "Defaults": "gradual.defaults",
    "MixedDomainDataModule": "gradual.datamodule",
    "OptimizerConfig": "gradual.schedule",
    "RunResult": "gradual.results",
    "Schedule": "gradual.schedule",
    "Stage": "gradual.schedule",
    "StageResult": "gradual.runs",
    "StageSettings": "gradual.schedule",
    "Strategy": "gradual.strategies",
    "compare": "gradual.comparison",
    "fit": "gradual.driver",
}

__all__ = [
    "CollapseConfig",
    "Defaults",
    "Domains",
    "FileDataModule",
    "InputError",
    "LRScheduleConfig",
    "MixedDomainDataModule",
    "OptimizerConfig",
    "RunResult",
    "Schedule",
    "Stage",
    "StageResult",
    "StageSettings",
    "Strategy",
    "__version__",
    "compare",
    "fit",
]

if TYPE_CHECKING:
    from gradual.comparison import compare
    from gradual.datamodule import Domains, MixedDomainDataModule
    from gradual.defaults import CollapseConfig, Defaults
    from gradual.driver import fit
    from gradual.errors import InputError
    from gradual.files import FileDataModule
    from gradual.results import RunResult
    from gradual.runs import StageResult
    from gradual.schedule import LRScheduleConfig, OptimizerConfig, Schedule, Stage, StageSettings
    from gradual.strategies import Strategy


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_WHERE[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)

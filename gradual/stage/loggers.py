"""Loggers of a stage: each stage has a run or a version of its own, named by its seed and path.

A logger that was given, as an object or by its class, stands for those of all stages. What a stage logs to is written
down in its folder, so that it goes on there when it is resumed.
"""

from __future__ import annotations

import copy
import csv
import json
import logging
import sys
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import CSVLogger, Logger, MLFlowLogger, TensorBoardLogger, WandbLogger
from lightning.pytorch.utilities import rank_zero_only

from gradual.errors import InputError
from gradual.runs.directory import StageDirectory
from gradual.runs.files import read_json, write_atomically
from gradual.stage.resume.lightning_internals import logger_arguments, mlflow_synchronous, wandb_settings

_log = logging.getLogger(__name__)

_KNOWN = (TensorBoardLogger, CSVLogger, WandbLogger, MLFlowLogger)
_NAMES = ("run_name", "version", "name")  # arguments of other loggers that tell their runs apart
_PARENT_RUN = "mlflow.parentRunId"  # MLflow's own tag

_in_wandb: list[Logger] = []  # of stages whose run may be open; W&B has one at a time in a process
_shared: WeakKeyDictionary[Logger, Path | None] = WeakKeyDictionary()  # their first stage; None once it was said


def copied(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """A Trainer's arguments, copied for one stage; loggers are not, since copying one may open its run.

    Raises:
        InputError: One of them cannot be copied.
    """
    memo: dict[int, Any] = {id(logger): logger for logger in _listed(arguments.get("logger"))}
    copies = {}
    for name, value in arguments.items():
        try:
            copies[name] = copy.deepcopy(value, memo)
        except Exception as error:  # copying anything may raise anything
            raise InputError(
                f"{name} cannot be copied ({type(error).__name__}: {error}), and each stage needs one of its own: open "
                "files, locks and the like when training starts."
            ) from error
    return copies


def stage_loggers(given: Any, directory: StageDirectory) -> tuple[list[Logger] | bool, list[Callback]]:
    """The loggers of a stage, and the callbacks that they need.

    Args:
        given: The Trainer's argument: None or True for a run of TensorBoard in the stage's folder, False for none.
        directory: The stage's folder.
    """
    finish_runs()
    if given is None or given is True:
        path = directory.path
        own = TensorBoardLogger(str(path.parent), name=path.name, version="", default_hp_metric=False)
        return [own], []
    loggers = _listed(given)
    if not loggers:
        return False, []
    record = directory.path / "loggers.json"
    before = [*_read(record, loggers), *[None] * len(loggers)]
    place = _Place.of(directory.path)
    made = [_of_stage(logger, place, version) for logger, version in zip(loggers, before)]
    return made, [KeepVersions(record)]


def finish_runs() -> None:
    """End the run of W&B that an earlier stage logged to: while it is open, every logger would use it."""
    wandb = sys.modules.get("wandb")
    if _in_wandb and wandb is not None and wandb.run is not None:
        wandb.finish()
    _in_wandb.clear()


class KeepVersions(Callback):
    """Writes down what a stage logs to.

    Args:
        record: The file.
    """

    def __init__(self, record: Path):
        self.record = record

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write, now that the runs are there."""
        if trainer.is_global_zero:
            runs = [
                {"class": type(logger).__name__, "version": str(logger.version) if isinstance(logger, _KNOWN) else None}
                for logger in trainer.loggers
            ]
            write_atomically(self.record, json.dumps(runs, indent=2) + "\n")


@dataclass(frozen=True)
class _Place:
    """Where a stage stands: the name of its run directory, and the path below it."""

    folder: Path
    run: str
    path: str

    @classmethod
    def of(cls, folder: Path) -> _Place:
        whole = folder.absolute()
        root = next((parent.parent for parent in whole.parents if parent.name.startswith("seed-")), whole.parent)
        return cls(folder, root.name, whole.relative_to(root).as_posix())


def _listed(given: Any) -> list[Logger]:
    if isinstance(given, Logger):
        return [given]
    return list(given) if isinstance(given, Iterable) else []


def _read(record: Path, loggers: list[Logger]) -> list[str | None]:
    """What each logger of a stage logged to before the stage was resumed; None where that is not known."""
    try:
        runs = read_json(record) if record.exists() else []
        return [run["version"] if run["class"] == type(logger).__name__ else None for run, logger in zip(runs, loggers)]
    except (InputError, TypeError, KeyError):
        _log.warning("%s is damaged: the stage's loggers begin anew.", record)
        return []


def _of_stage(logger: Logger, place: _Place, version: str | None) -> Logger:
    """A stage's logger, made like ``logger``; ``version`` is what it logged to before the stage was resumed."""
    made: Logger | None
    if isinstance(logger, TensorBoardLogger | CSVLogger):
        made = _versioned(logger, place, version)
    elif isinstance(logger, MLFlowLogger):
        made = _of_mlflow(logger, place, version)
    elif isinstance(logger, WandbLogger):
        made = _of_wandb(logger, place, version)
    else:
        made = _named(logger, place)
    if made is not None:
        return made
    first = _shared.setdefault(logger, place.folder)
    if first is not None and first != place.folder:
        _shared[logger] = None
        rank_zero_only(_log.warning)(
            "All stages log to one %s, since another one for each cannot be made of it.", type(logger).__name__
        )
    return logger


def _versioned(logger: TensorBoardLogger | CSVLogger, place: _Place, version: str | None) -> Logger | None:
    """A logger of files, with the stage's folder below that of the version that was given, or of the experiment."""
    kind = TensorBoardLogger if isinstance(logger, TensorBoardLogger) else CSVLogger
    arguments = logger_arguments(logger, kind)
    if arguments is None:
        return None
    given = arguments["version"]
    parent = place.run if given is None else given if isinstance(given, str) else f"version_{given}"
    wanted, number = f"{parent}/{place.path}".removeprefix("/"), 1
    while True:
        arguments["version"] = version or (wanted if number == 1 else f"{wanted}-{number}")
        made = _remade(logger, kind, arguments)
        if version or not Path(made.log_dir).exists():  # else it is another experiment's
            break
        number += 1
    if isinstance(made, CSVLogger):
        rank_zero_only(_append)(made)
    return made


def _append(logger: CSVLogger) -> None:
    """Open a logger that goes on in its file; Lightning's removes it."""
    path = Path(logger.log_dir) / "metrics.csv"
    aside = path.with_name("metrics.csv.before")
    if path.exists():
        path.replace(aside)
    if aside.exists():  # after a kill in between, too
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it says that it will remove the file
            writer: Any = logger.experiment
        aside.replace(path)
        with path.open(newline="", encoding="utf-8") as file:
            writer.metrics_keys = next(csv.reader(file), [])


def _of_mlflow(logger: MLFlowLogger, place: _Place, version: str | None) -> Logger | None:
    """A logger of a run that is named after the stage, below the run that was given."""
    arguments = logger_arguments(logger, MLFlowLogger, synchronous=mlflow_synchronous(logger))
    if arguments is None:
        return None
    tags = dict(arguments["tags"] or {})
    if arguments["run_id"] is not None:
        tags[_PARENT_RUN] = arguments["run_id"]
    name = f"{arguments['run_name'] or place.run}/{place.path}"
    return _remade(logger, MLFlowLogger, {**arguments, "run_name": name, "tags": tags, "run_id": version})


def _of_wandb(logger: WandbLogger, place: _Place, version: str | None) -> Logger | None:
    """A logger of a run that is named after the stage, in a group of the experiment; None where a run is open."""
    wandb = sys.modules.get("wandb")
    settings = wandb_settings(logger)
    arguments = logger_arguments(logger, WandbLogger, version=None, dir=None, anonymous=None, kwargs={})
    if not settings or arguments is None or arguments["experiment"] is not None or (wandb and wandb.run is not None):
        return None
    name, folder, id_ = (settings.pop(key) for key in ("name", "dir", "id"))
    if id_ is not None:
        id_ = f"{id_}-{place.path.replace('/', '-')}"
    settings |= {"group": settings.get("group") or place.run, "anonymous": settings.get("anonymous")}
    arguments |= {**settings, "name": f"{name}/{place.path}" if name else place.path, "save_dir": folder}
    made = _remade(logger, WandbLogger, {**arguments, "id": version or id_})
    _in_wandb.append(made)
    return made


def _named(logger: Logger, place: _Place) -> Logger | None:
    """Another logger, made anew with the stage in its name; None where it takes no name, or cannot be made."""
    arguments = logger_arguments(logger, type(logger))
    name = next((name for name in _NAMES if name in (arguments or {})), None)
    if arguments is None or name is None:
        return None
    arguments[name] = f"{arguments[name] or place.run}/{place.path}"
    try:
        return type(logger)(**arguments)
    except Exception:  # it is no class of ours
        return None


def _remade(logger: Any, kind: Any, arguments: Mapping[str, Any]) -> Any:
    """A logger of the same class, made anew by ``kind``; what a subclass has of its own stays as it is."""
    made = object.__new__(type(logger))  # copying may open its run
    vars(made).update(vars(logger))
    kind.__init__(made, **arguments)
    return made

"""Loggers of a stage: each stage logs to its own run or version, named by its seed and path.

The logger that the user passes is a template for those of the stages. Each stage records in its folder what it logs to,
and continues there when it is resumed.
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
from gradual.files import read_json, write_atomically
from gradual.runs.directory import StageDirectory
from gradual.stage.resume.lightning_internals import logger_arguments, mlflow_synchronous, wandb_settings

_log = logging.getLogger(__name__)

_KNOWN = (TensorBoardLogger, CSVLogger, WandbLogger, MLFlowLogger)
_NAMES = ("run_name", "version", "name")  # arguments by which other loggers distinguish runs
_PARENT_RUN = "mlflow.parentRunId"  # MLflow's own tag

_in_wandb: list[Logger] = []  # loggers of stages whose run may be open; W&B allows one at a time in a process
_shared: WeakKeyDictionary[Logger, Path | None] = WeakKeyDictionary()  # their first stage; None after the warning


def copied(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Copy a Trainer's arguments for a stage, except for loggers, since copying one may open its run.

    Raises:
        InputError: An argument cannot be copied.
    """
    memo: dict[int, Any] = {id(logger): logger for logger in _listed(arguments.get("logger"))}
    copies = {}
    for name, value in arguments.items():
        try:
            copies[name] = copy.deepcopy(value, memo)
        except Exception as error:  # copying arbitrary objects may raise anything
            raise InputError(
                f"{name} cannot be copied ({type(error).__name__}: {error}), but each stage needs its own copy: open "
                "files, locks and the like only when training starts."
            ) from error
    return copies


def stage_loggers(given: Any, directory: StageDirectory) -> tuple[list[Logger] | bool, list[Callback]]:
    """Make the loggers of a stage, and the callbacks that they need.

    Args:
        given: The Trainer's argument ``logger``: None or True to log to TensorBoard in the stage's folder, False for no
            logger.
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
    """End the W&B run of an earlier stage, which every logger would use while it is open."""
    wandb = sys.modules.get("wandb")
    if _in_wandb and wandb is not None and wandb.run is not None:
        wandb.finish()
    _in_wandb.clear()


class KeepVersions(Callback):
    """Records what a stage logs to.

    Args:
        record: The file.
    """

    def __init__(self, record: Path):
        self.record = record

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the file, now that the runs exist."""
        if trainer.is_global_zero:
            runs = [
                {"class": type(logger).__name__, "version": str(logger.version) if isinstance(logger, _KNOWN) else None}
                for logger in trainer.loggers
            ]
            write_atomically(self.record, json.dumps(runs, indent=2) + "\n")


@dataclass(frozen=True)
class _Place:
    """The place of a stage: its folder, the name of the run directory, and the path within it."""

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
    """What each logger of a stage logged to before the stage was resumed; None if unknown."""
    try:
        runs = read_json(record) if record.exists() else []
        return [run["version"] if run["class"] == type(logger).__name__ else None for run, logger in zip(runs, loggers)]
    except (InputError, TypeError, KeyError):
        _log.warning("%s is damaged: the stage's loggers start from scratch.", record)
        return []


def _of_stage(logger: Logger, place: _Place, version: str | None) -> Logger:
    """Make a stage's logger after ``logger``; ``version`` is what it logged to before the stage was resumed."""
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
            "All stages share one %s, since it cannot be made again for each of them.", type(logger).__name__
        )
    return logger


def _versioned(logger: TensorBoardLogger | CSVLogger, place: _Place, version: str | None) -> Logger | None:
    """A logger that writes files, in a folder below that of the version passed in, or else of the run directory."""
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
        if version or not Path(made.log_dir).exists():  # an existing folder belongs to another experiment
            break
        number += 1
    if isinstance(made, CSVLogger):
        rank_zero_only(_append)(made)
    return made


def _append(logger: CSVLogger) -> None:
    """Open a logger so that it continues its file, which Lightning would remove."""
    path = Path(logger.log_dir) / "metrics.csv"
    aside = path.with_name("metrics.csv.before")
    if path.exists():
        path.replace(aside)
    if aside.exists():  # also if the process was killed in between
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the file's removal
            writer: Any = logger.experiment
        aside.replace(path)
        with path.open(newline="", encoding="utf-8") as file:
            writer.metrics_keys = next(csv.reader(file), [])


def _of_mlflow(logger: MLFlowLogger, place: _Place, version: str | None) -> Logger | None:
    """A logger whose run is named after the stage, nested in the run that was passed in."""
    arguments = logger_arguments(logger, MLFlowLogger, synchronous=mlflow_synchronous(logger))
    if arguments is None:
        return None
    tags = dict(arguments["tags"] or {})
    if arguments["run_id"] is not None:
        tags[_PARENT_RUN] = arguments["run_id"]
    name = f"{arguments['run_name'] or place.run}/{place.path}"
    return _remade(logger, MLFlowLogger, {**arguments, "run_name": name, "tags": tags, "run_id": version})


def _of_wandb(logger: WandbLogger, place: _Place, version: str | None) -> Logger | None:
    """A logger whose run is named after the stage, in a group for the experiment; None if a run is open."""
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
    """Any other logger, made with the stage in its name; None if it takes no name, or cannot be made."""
    arguments = logger_arguments(logger, type(logger))
    name = next((name for name in _NAMES if name in (arguments or {})), None)
    if arguments is None or name is None:
        return None
    arguments[name] = f"{arguments[name] or place.run}/{place.path}"
    try:
        return type(logger)(**arguments)
    except Exception:  # the class may raise anything
        return None


def _remade(logger: Any, kind: Any, arguments: Mapping[str, Any]) -> Any:
    """A logger of the same class, initialized by ``kind``, with a copy of the attributes that a subclass adds."""
    made = object.__new__(type(logger))  # copying may open its run
    vars(made).update(vars(logger))
    kind.__init__(made, **arguments)
    return made

"""What a run records of its pretrained model and tokenizer: what now has their names must be the same."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback

from gradual.errors import InputError
from gradual.files import read_json
from gradual.runs.fingerprint import without_tokenizer


def check_folder(run: Path | None, name: str, option: str) -> None:
    """Refuse a folder that was there when a run was trained and is not now: the hub is not asked for its name.

    Args:
        run: The run directory; None for a checkpoint that is in none, of which nothing is known.
        name: The pretrained model or the tokenizer, as the run names it.
        option: The option that names another folder.

    Raises:
        InputError: There is no such folder.
    """
    if run is not None and name and not Path(name).exists() and _was_folder(run, name):
        raise InputError(
            f"The folder {name} does not exist: run the command in the folder where {run} was trained, or say where it "
            f"is with {option} FOLDER."
        )


def check_tokenizer(run: Path | None, tokenizer: Any, name: str, option: str) -> None:
    """Refuse a tokenizer that is not the one that a run was trained with.

    Args:
        run: The run directory; None for a checkpoint that is in none, of which nothing is known.
        tokenizer: The tokenizer.
        name: Its folder, or its name on the hub.
        option: The option that names another folder.

    Raises:
        InputError: The run has recorded another one.
    """
    known = set() if run is None else {*_recorded_tokenizers(_experiment(run))}
    if known and without_tokenizer(tokenizer) not in known:
        raise InputError(
            f"{name} has another tokenizer than the one that {run} was trained with: say where that one is with "
            f"{option} FOLDER."
        )


class SameTokenizer(Callback):
    """Checks the tokenizer of a data module as soon as it is set up.

    Args:
        run: The run directory.
        option: The option that names another tokenizer.
    """

    def __init__(self, run: Path, option: str):
        self._run, self._option = run, option

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Check the tokenizer, if examples depend on one."""
        data: Any = trainer.datamodule  # type: ignore[attr-defined]  # the Trainer sets it
        tokenizer = data.example_settings().get("tokenizer")
        if tokenizer is not None:
            check_tokenizer(self._run, tokenizer, str(getattr(data, "tokenizer", "The data")), self._option)


def _experiment(run: Path) -> Mapping[str, Any]:
    return dict(read_json(run / "experiment.json"))


def _recorded_tokenizers(experiment: Mapping[str, Any]) -> Iterator[str]:
    """Their digests, of all data that the run was trained on; none in what earlier versions recorded."""
    for data in (experiment.get("data"), *experiment.get("other_data", {}).values()):
        settings = data.get("example_settings", {}) if isinstance(data, Mapping) else {}
        if settings.get("tokenizer") is not None:
            yield settings["tokenizer"]


def _was_folder(run: Path, name: str) -> bool:
    """Whether a name looks like a path, or is that of a model of which the run has seen weight files."""
    if Path(name).is_absolute() or name.startswith((".", "~")) or name.count("/") > 1:
        return True
    model = _experiment(run).get("model")
    modules = model.get("modules", {}) if isinstance(model, Mapping) else {}
    own = modules.get("", {})
    return own.get("pretrained") == name and bool(own.get("pretrained_weights"))

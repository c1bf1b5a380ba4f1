"""What training in stages needs: of a model, of its data, and of what is installed."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from lightning.pytorch import LightningModule
from lightning.pytorch.trainer.states import TrainerStatus
from lightning.pytorch.utilities.model_helpers import is_overridden

from gradual.data.module import MixedDomainDataModule
from gradual.errors import InputError


def check_requirements(model: LightningModule, datamodule: MixedDomainDataModule, monitor: str) -> None:
    """Refuse a model that lacks a step that its data asks for, and data that a stage cannot do without.

    Raises:
        InputError: There is no ``training_step`` or ``validation_step``, no validation data, or test data and no
            ``test_step``; or another Trainer is training the model.
    """
    model = getattr(model, "_orig_mod", model)  # of a compiled one
    name, domains = type(model).__name__, datamodule.domains
    if is_trained(model):
        raise InputError(f"A Trainer is training this {name} already: each stage makes a Trainer of its own.")
    if not is_overridden("training_step", model):
        raise InputError(f"{name} has no training_step: add one that returns the loss of a batch.")
    if not is_overridden("validation_step", model):
        raise InputError(
            f"{name} has no validation_step, so nothing says when a stage has converged: add one that logs '{monitor}'."
        )
    if domains.val is None:
        raise InputError("There is no validation data, so nothing says when a stage has converged: add val.")
    if domains.test is not None and not is_overridden("test_step", model):
        raise InputError(f"There is test data, but {name} has no test_step: add one, or leave the test data out.")


def is_trained(model: LightningModule) -> bool:
    """Whether a Trainer is at work on the model; one that is done stays attached to it."""
    try:
        return model.trainer.state.status == TrainerStatus.RUNNING
    except RuntimeError:  # none was ever attached
        return False


@contextmanager
def installed() -> Iterator[None]:
    """While it is open, a class of a configuration whose package is not installed is said in a sentence.

    Raises:
        InputError: Lightning says so of one, such as a logger.
    """
    try:
        yield
    except Exception as error:  # the parser wraps what classes raise
        chain, cause = [str(error)], error.__cause__
        while cause is not None:
            chain, cause = [*chain, str(cause)], cause.__cause__
        missing = re.search(r"Requirement '([\w-]+)[^']*' not met", chain[-1])
        if missing is None:
            raise
        named = re.search(r"class_path '([\w.]+)'", " ".join(chain))
        raise InputError(
            f"{named[1] if named else 'A class'} needs the package {missing[1]}, which is not installed: pip install "
            f"{missing[1]}."
        ) from error

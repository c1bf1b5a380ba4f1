"""Requirements of training in stages: on the model, on the data, and on installed packages."""

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
    """Check that the model has a step for each part of the data, and that there is validation data.

    Raises:
        InputError: The model has no ``training_step`` or ``validation_step``, or no ``test_step`` for its test data;
            there is no validation data; or another Trainer is training the model.
    """
    model = getattr(model, "_orig_mod", model)  # of a compiled one
    name, domains = type(model).__name__, datamodule.domains
    if is_trained(model):
        raise InputError(f"This {name} is already being trained by a Trainer: each stage makes its own Trainer.")
    if not is_overridden("training_step", model):
        raise InputError(f"{name} has no training_step: add one that returns the loss of a batch.")
    if not is_overridden("validation_step", model):
        raise InputError(
            f"{name} has no validation_step, which is needed to detect convergence: add one that logs '{monitor}'."
        )
    if domains.val is None:
        raise InputError("There is no validation data, which is needed to detect convergence: add val.")
    if domains.test is not None and not is_overridden("test_step", model):
        raise InputError(f"There is test data, but {name} has no test_step: add one, or leave the test data out.")


def is_trained(model: LightningModule) -> bool:
    """Whether a Trainer is training the model; a Trainer that has finished stays attached to it."""
    try:
        return model.trainer.state.status == TrainerStatus.RUNNING
    except RuntimeError:  # no Trainer was ever attached
        return False


@contextmanager
def installed() -> Iterator[None]:
    """Turn the error for a class whose package is not installed into a sentence.

    Raises:
        InputError: Lightning raised such an error for a class in the configuration, such as a logger.
    """
    try:
        yield
    except Exception as error:  # the parser wraps exceptions of the classes
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

"""Puts pretrained models into training mode: they come in evaluation mode, and Lightning trains them so."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator

from lightning.pytorch import Callback, LightningModule, Trainer
from torch import nn

from gradual.logging import say_once


class TrainingModes(Callback):
    """Puts a module's ``transformers`` models into training mode before a stage, as the trainers of that library do.

    A model of which no parameter is trained stays as it is until one is (a callback may unfreeze it). Other submodules
    in evaluation mode are left alone and named: someone may have put them there on purpose.
    """

    def __init__(self) -> None:
        self._frozen: list[tuple[str, nn.Module]] = []

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Set the modes, before the first look at the validation data."""
        trained, self._frozen = set_modes(pl_module)
        _say_trained(trained)
        left = [f"'{name}' ({type(part).__name__})" for name, part in _in_evaluation_mode(pl_module)]
        if left:
            say_once(
                logging.WARNING,
                f"In evaluation mode, and trained so (no dropout, fixed batch statistics): {', '.join(left)}. If that "
                "is not meant, call their train() before the fit.",
            )

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Look for models that were unfrozen."""
        self._thaw()

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Look again: callbacks unfreeze here."""
        self._thaw()

    def _thaw(self) -> None:
        thawed = [(name, part) for name, part in self._frozen if _is_trained(part)]
        self._frozen = [(name, part) for name, part in self._frozen if not _is_trained(part)]
        for _, part in thawed:
            part.train()
        _say_trained(thawed)


def set_modes(module: nn.Module) -> tuple[list[tuple[str, nn.Module]], list[tuple[str, nn.Module]]]:
    """Put ``module``, and all of its ``transformers`` models that are trained, into training mode.

    Returns:
        What was in evaluation mode, by name: what is in training mode now, and the models of which no parameter is
        trained, which are not.
    """
    pretrained = [(name, part) for name, part in _pretrained(module) if not part.training]
    frozen = [(name, part) for name, part in pretrained if not _is_trained(part)]
    kept = [(part, part.training) for _, model in frozen for part in model.modules()]
    trained = []
    for name, part in [("", module), *((name, part) for name, part in pretrained if _is_trained(part))]:
        if not part.training:  # else it was, or is part of another one
            part.train()
            trained.append((name, part))
    for part, training in kept:
        part.training = training
    return trained, frozen


def _pretrained(module: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    library = sys.modules.get("transformers.modeling_utils")  # not imported: then there is none of its models
    if library is not None:
        yield from ((name, part) for name, part in module.named_modules() if isinstance(part, library.PreTrainedModel))


def _is_trained(module: nn.Module) -> bool:
    return any(parameter.requires_grad for parameter in module.parameters())


def _in_evaluation_mode(module: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """The outermost submodules in evaluation mode."""
    found: list[str] = []
    for name, part in module.named_modules():
        if not part.training and not any(name.startswith(f"{outer}.") for outer in found):
            found.append(name)
            yield name, part


def _say_trained(models: list[tuple[str, nn.Module]]) -> None:
    if models:
        named = ", ".join(f"'{name}' ({type(part).__name__})" if name else type(part).__name__ for name, part in models)
        say_once(
            logging.WARNING, f"Put into training mode, for dropout: {named}. Pretrained models come in evaluation mode."
        )

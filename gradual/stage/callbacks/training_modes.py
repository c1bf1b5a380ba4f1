"""Training mode for pretrained models, which are loaded in evaluation mode, and which Lightning trains as they are."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator

from lightning.pytorch import Callback, LightningModule, Trainer
from torch import nn

from gradual.logging import say_once


class TrainingModes(Callback):
    """Puts a module's ``transformers`` models into training mode before a stage, as that library's Trainer does.

    A model that is frozen as a whole is left as it is until a callback unfreezes some of it. Other submodules in
    evaluation mode are left alone, since this may be intended, and are named in a warning. After the stage, all modes
    are as they were when the module was passed in, so that every stage starts alike.

    Args:
        module: The module, before any callback has changed it.
    """

    def __init__(self, module: nn.Module) -> None:
        self._given = _modes(module)
        self._frozen: list[tuple[str, nn.Module]] = []

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Set the modes before the sanity check on the validation data, and record those of layers made since."""
        self._given = {**_modes(pl_module), **self._given}
        trained, self._frozen = set_modes(pl_module)
        _say_trained(trained)
        left = [f"'{name}' ({type(part).__name__})" for name, part in _in_evaluation_mode(pl_module)]
        if left:
            say_once(
                logging.WARNING,
                f"In evaluation mode during training (no dropout, fixed batch statistics): {', '.join(left)}. If this "
                "is not intended, call train() on them before the fit.",
            )

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Set the modes of models that have been unfrozen."""
        self._thaw()

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Set them again, since this is where callbacks unfreeze."""
        self._thaw()

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Set the modes as they were before the stage."""
        self._reset()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Set the modes as they were before the stage, as for another attempt at it."""
        self._reset()

    def _reset(self) -> None:
        for part, training in self._given.values():
            part.training = training

    def _thaw(self) -> None:
        thawed = [(name, part) for name, part in self._frozen if _is_trained(part)]
        self._frozen = [(name, part) for name, part in self._frozen if not _is_trained(part)]
        for _, part in thawed:
            part.train()
        _say_trained(thawed)


def set_modes(module: nn.Module) -> tuple[list[tuple[str, nn.Module]], list[tuple[str, nn.Module]]]:
    """Put ``module``, and those of its ``transformers`` models that are not entirely frozen, into training mode.

    Returns:
        The modules that were in evaluation mode, with their names: those that are in training mode now, and the frozen
        models, which are not.
    """
    pretrained = [(name, part) for name, part in _pretrained(module) if not part.training]
    frozen = [(name, part) for name, part in pretrained if not _is_trained(part)]
    kept = [(part, part.training) for _, model in frozen for part in model.modules()]
    trained = []
    for name, part in [("", module), *((name, part) for name, part in pretrained if _is_trained(part))]:
        if not part.training:  # otherwise it was before, or it is part of another model
            part.train()
            trained.append((name, part))
    for part, training in kept:
        part.training = training
    return trained, frozen


def _modes(module: nn.Module) -> dict[int, tuple[nn.Module, bool]]:
    """Each part of a module and whether it is in training mode, by its identity: metrics are equal by their states."""
    return {id(part): (part, part.training) for part in module.modules()}


def _pretrained(module: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    library = sys.modules.get("transformers.modeling_utils")  # if it is not imported, there are none of its models
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
            logging.WARNING, f"Put into training mode, for dropout: {named}. Pretrained models load in evaluation mode."
        )

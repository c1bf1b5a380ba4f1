"""Which parts of a module are trained: kept across an interruption, and reset after each stage.

Callbacks such as ``BackboneFinetuning`` unfreeze parts of a module, or change their training mode, in the middle of a
stage. Lightning saves none of this, so a resumed stage would continue with parts that are frozen.
"""

from __future__ import annotations

from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from torch import nn

from gradual.nn.compiled import plain_name
from gradual.nn.frozen import check_saved


class Trainable(Callback):
    """Saves which parameters are frozen, which optimizer group each is in, and which modules are in evaluation mode.

    It must come after all callbacks that change these. At the end of a stage it freezes and unfreezes parameters as
    they were when the module was passed in, so that every stage starts alike. It refuses to train what no
    checkpoint holds, such as weights under an adapter that a callback has unfrozen.

    Args:
        module: The module, before any callback has changed it.
    """

    def __init__(self, module: LightningModule):
        self._given = _requires_grad(module)
        self._restored: dict[str, Any] | None = None
        self._trainer: Trainer | None = None
        self._evaluating: list[str] = []

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Remember the Trainer, which has the optimizers."""
        self._trainer = trainer

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Record layers that the module has made since, and add the optimizers' groups that callbacks had added."""
        self._given = {**_requires_grad(pl_module), **self._given}
        if self._restored is None:
            return
        parameters = {plain_name(name): parameter for name, parameter in pl_module.named_parameters()}
        for optimizer, groups in zip(trainer.optimizers, self._restored["groups"]):
            known = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
            for names in groups[len(optimizer.param_groups) :]:
                added = [parameters[name] for name in names if name in parameters]
                if len(added) == len(names) and not any(id(parameter) in known for parameter in added):
                    optimizer.add_param_group({"params": added})  # the optimizer's state restores its rates

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Freeze and unfreeze parameters, and set the modes of modules, as they were."""
        if self._restored is not None:
            frozen, untracked, evaluating = (set(self._restored[key]) for key in ("frozen", "untracked", "evaluating"))
            for name, parameter in pl_module.named_parameters():
                parameter.requires_grad_(plain_name(name) not in frozen)
            for name, module in pl_module.named_modules():
                module.training = plain_name(name) not in evaluating
                if isinstance(module, nn.modules.batchnorm._BatchNorm):
                    module.track_running_stats = plain_name(name) not in untracked
        self._restored = None
        self._evaluating = _evaluating(pl_module)
        _check_trained(trainer, pl_module)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Record the modes of modules, which differ during a validation."""
        self._evaluating = _evaluating(pl_module)
        _check_trained(trainer, pl_module)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Freeze and unfreeze the parameters as they were before the stage."""
        self._reset(pl_module)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Freeze and unfreeze the parameters as they were before the stage."""
        self._reset(pl_module)

    def state_dict(self) -> dict[str, Any]:
        """The names of what is frozen, in each optimizer group, and in evaluation mode, and the optimizers' classes."""
        assert self._trainer is not None
        module = self._trainer.lightning_module
        names = {id(parameter): plain_name(name) for name, parameter in module.named_parameters()}
        groups = [
            [[names.get(id(parameter), "") for parameter in group["params"]] for group in optimizer.param_groups]
            for optimizer in self._trainer.optimizers
        ]
        return {
            "frozen": [plain_name(name) for name, trains in _requires_grad(module).items() if not trains],
            "groups": groups,
            "optimizers": [type(optimizer).__qualname__ for optimizer in self._trainer.optimizers],
            "evaluating": _evaluating(module) if self._trainer.training else self._evaluating,
            "untracked": [
                plain_name(name)
                for name, part in module.named_modules()
                if isinstance(part, nn.modules.batchnorm._BatchNorm) and not part.track_running_stats
            ],
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Keep the names until the module and its optimizers are ready."""
        self._restored = state_dict

    def _reset(self, module: LightningModule) -> None:
        for name, parameter in module.named_parameters():
            if name in self._given:
                parameter.requires_grad_(self._given[name])


def _check_trained(trainer: Trainer, module: LightningModule) -> None:
    optimized = {id(p) for optimizer in trainer.optimizers for group in optimizer.param_groups for p in group["params"]}
    trained = [name for name, p in module.named_parameters() if p.requires_grad and id(p) in optimized]
    check_saved(module, trained)


def _requires_grad(module: nn.Module) -> dict[str, bool]:
    return {name: parameter.requires_grad for name, parameter in module.named_parameters()}


def _evaluating(module: nn.Module) -> list[str]:
    return [plain_name(name) for name, part in module.named_modules() if not part.training]

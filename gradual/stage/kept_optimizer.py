"""The optimizer state that the next stage starts from: the setting ``optimizer.state: keep``.

It is part of the checkpoint of the best validation, so that it belongs to the weights that the next stage starts from,
and not to those at the end of the stage. Only what an optimizer keeps for each parameter is carried over (Adam's
moments and step count, the momentum of SGD). The learning rates and all else of its groups are those of the new stage.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.strategies import Strategy

from gradual.config_dataclasses import merge
from gradual.errors import InputError
from gradual.nn.compiled import plain_name
from gradual.runs.checkpoint import read_checkpoint
from gradual.schedule import Stage
from gradual.settings import TrainSettings, is_configured
from gradual.stage.optim import DEFAULT_CLASS, trainable_parameters
from gradual.stage.resume.trainable import Trainable

_SHOWN = 3  # names in a message


def keeps_optimizer(stage: Stage, defaults: TrainSettings) -> bool:
    """Whether a stage, unless it is a first one, begins with the optimizer's state of the stage before."""
    return merge(defaults.optimizer, stage.optimizer).state == "keep"


def check_kept_optimizer(
    model: LightningModule, stage: Stage, before: Stage, defaults: TrainSettings, strategy: Strategy
) -> None:
    """Check, before anything trains, that a stage can keep the optimizer's state of the stage before.

    Args:
        model: The model; parameters that it does not have yet are not checked.
        stage: The stage.
        before: The stage before it.
        defaults: What holds where a stage says nothing.
        strategy: The Trainer's strategy.

    Raises:
        InputError: It cannot: the optimizers differ, the stage trains other parameters or begins another adapter, or
            the strategy divides the state.
    """
    if not keeps_optimizer(stage, defaults):
        return
    if strategy.restore_checkpoint_after_setup:
        raise InputError(
            f"optimizer.state: keep needs the whole state of the optimizer, which {type(strategy).__name__} divides: "
            "use optimizer.state: fresh."
        )
    if stage.adapter == "merge":
        raise InputError(
            "optimizer.state: keep and adapter: merge exclude each other: a new adapter has no state to keep."
        )
    now, then = merge(defaults.optimizer, stage.optimizer), merge(defaults.optimizer, before.optimizer)
    classes = [
        (config.class_path or DEFAULT_CLASS) if is_configured(config) else "the module's own" for config in (then, now)
    ]
    if classes[0] != classes[1]:
        raise InputError(
            f"optimizer.state: keep needs the same optimizer as before, not {classes[1]} after {classes[0]}."
        )
    if now.trainable_by_name != then.trainable_by_name:
        trained = trainable_parameters(model, then.trainable_by_name)
        _refuse_new(
            [name for name, is_trained in trainable_parameters(model, now.trainable_by_name).items() if is_trained],
            {name for name, is_trained in trained.items() if is_trained},
        )


def check_saved_state(checkpoint: Path) -> dict[str, Any]:
    """Read a stage's checkpoint, which must have the state of its optimizer.

    Raises:
        InputError: It has none.
    """
    content = read_checkpoint(checkpoint)
    if "optimizer_states" not in content:
        raise InputError(
            f"{checkpoint} has no state of the optimizer, since no stage after it kept it (optimizer.state: keep) when "
            "it was trained: choose another run_dir."
        )
    return content


class KeptOptimizer(Callback):
    """Begins a stage with the state that the optimizers had at the best validation of the stage before.

    Args:
        checkpoint: The ``best.ckpt`` of the stage before.
    """

    def __init__(self, checkpoint: Path):
        self.checkpoint = checkpoint

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Give each parameter its state, by its name.

        Raises:
            InputError: The optimizers are others, or they train parameters that were not trained before.
        """
        content = check_saved_state(self.checkpoint)
        saved = content["callbacks"][Trainable.__qualname__]
        classes = [type(optimizer).__qualname__ for optimizer in trainer.optimizers]
        if classes != saved["optimizers"]:
            raise InputError(
                f"optimizer.state: keep needs the same optimizer as before, not {', '.join(classes)} after "
                f"{', '.join(saved['optimizers'])}."
            )
        names = {id(parameter): plain_name(name) for name, parameter in pl_module.named_parameters()}
        for optimizer, groups, state in zip(trainer.optimizers, saved["groups"], content["optimizer_states"]):
            places = {name: place for place, name in enumerate(name for group in groups for name in group)}
            own = [names.get(id(parameter), "") for group in optimizer.param_groups for parameter in group["params"]]
            _refuse_new(own, places.keys())
            kept = {k: state["state"][places[name]] for k, name in enumerate(own) if places[name] in state["state"]}
            optimizer.load_state_dict(optimizer.state_dict() | {"state": kept})


def _refuse_new(trained: list[str], before: Any) -> None:
    new = [name for name in trained if name not in before]
    if new:
        listed = ", ".join([*new[:_SHOWN], *(["..."] if len(new) > _SHOWN else [])])
        raise InputError(
            f"optimizer.state: keep has no state for parameters that the stage before did not train ({listed}): use "
            "optimizer.state: fresh in this stage."
        )

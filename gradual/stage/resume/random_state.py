"""Random states in checkpoints: Lightning saves none, and without them a resumed stage draws other dropout masks."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer, seed_everything
from lightning.pytorch.trainer.states import TrainerFn

from gradual.data.order import derive_seed
from gradual.distributed import of_all_processes, rank_and_world_size
from gradual.errors import InputError


class RandomState(Callback):
    """Saves the global random states of Python, NumPy and torch with each checkpoint, and restores them on resuming.

    Each process has its own states, so that processes do not drop the same units; a checkpoint holds those of all.

    Args:
        is_later: Whether the stage begins with the weights of another one. Whether the module makes layers then depends
            on whether it trained that stage in the same process; training draws the same numbers in either case.
    """

    def __init__(self, is_later: bool = False) -> None:
        self.is_later = is_later
        self._before_layers: dict[str, Any] | None = None
        self._restored: dict[str, Any] | None = None
        self._before_validation: dict[str, Any] | None = None

    def state_dict(self) -> dict[str, Any]:
        """The states of all processes, in types that can be loaded without running code.

        During a validation these are the states from before the validation, which is run again on resuming.
        """
        return {"processes": of_all_processes(self._before_validation or _get_states())}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Keep the states until training starts, since what comes before draws random numbers, too.

        Raises:
            InputError: The number of processes has changed.
        """
        states = state_dict["processes"]
        rank, world_size = rank_and_world_size()
        if len(states) != world_size:
            raise InputError(
                f"The stage was started with {len(states)} processes and cannot be resumed with {world_size}: "
                "use as many devices and nodes as before, or another run_dir."
            )
        self._restored = states[rank]

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Keep the states of a later stage from before the module makes its layers."""
        if self.is_later and stage == TrainerFn.FITTING:
            self._before_layers = _get_states()

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Go back to the states from before."""
        if self._before_layers is not None:
            _set_states(self._before_layers)
        self._before_layers = None

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Keep the states for a checkpoint that is saved during the validation."""
        self._before_validation = _get_states()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Drop the states from before the validation."""
        self._before_validation = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Put the restored states in place; in a new stage, give each process its own."""
        if self._restored is not None:
            _set_states(self._restored)
        elif trainer.global_rank > 0:
            seed = derive_seed(torch.initial_seed(), "rank", trainer.global_rank)
            seed_everything(seed, verbose=False)
        self._restored = None


def _get_states() -> dict[str, Any]:
    version, internal, gauss = random.getstate()
    name, keys, *rest = np.random.get_state()  # noqa: NPY002 - it is the global state that is saved
    state = {
        "python": [version, list(internal), gauss],
        "numpy": [str(name), np.asarray(keys).tolist(), *rest],
        "torch": torch.get_rng_state(),
    }
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state()
    return state


def _set_states(state: dict[str, Any]) -> None:
    version, internal, gauss = state["python"]
    random.setstate((version, tuple(internal), gauss))
    name, keys, *rest = state["numpy"]
    np.random.set_state((name, np.array(keys, dtype=np.uint32), *rest))  # noqa: NPY002
    torch.set_rng_state(state["torch"].cpu())
    if torch.cuda.is_available() and "cuda" in state:
        torch.cuda.set_rng_state(state["cuda"].cpu())

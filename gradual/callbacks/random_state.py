"""Random states in checkpoints: Lightning saves none, and without them a resumed stage has other dropout masks."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer


class RandomState(Callback):
    """Saves the global random states of Python, NumPy and torch with each checkpoint, and restores them on resuming."""

    def __init__(self) -> None:
        self._restored: dict[str, Any] | None = None

    def state_dict(self) -> dict[str, Any]:
        """The states, in types that load without running code."""
        version, internal, gauss = random.getstate()
        name, keys, *rest = np.random.get_state()  # noqa: NPY002 - the global state is what is to be saved
        state = {
            "python": [version, list(internal), gauss],
            "numpy": [str(name), np.asarray(keys).tolist(), *rest],
            "torch": torch.get_rng_state(),
        }
        if torch.cuda.is_available():
            state["cuda"] = torch.cuda.get_rng_state()
        return state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Keep the states until training starts: what happens before draws random numbers too."""
        self._restored = state_dict

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Put the restored states in place."""
        if self._restored is None:
            return
        version, internal, gauss = self._restored["python"]
        random.setstate((version, tuple(internal), gauss))
        name, keys, *rest = self._restored["numpy"]
        np.random.set_state((name, np.array(keys, dtype=np.uint32), *rest))  # noqa: NPY002
        torch.set_rng_state(self._restored["torch"].cpu())
        if torch.cuda.is_available() and "cuda" in self._restored:
            torch.cuda.set_rng_state(self._restored["cuda"].cpu())
        self._restored = None

"""Checkpoint files that are whole or not there."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

import torch
from lightning.fabric.plugins import TorchCheckpointIO
from torch import nn

from gradual.checksums import seal
from gradual.compiled import named_as_in
from gradual.plain import from_plain, to_plain


class WholeCheckpointIO(TorchCheckpointIO):
    """Writes checkpoints so that a crash at any moment leaves a good one, and damage is noticed.

    A file is written under another name in its own folder, ends with its checksum, is brought to the disk and then
    moved to its place. (Lightning writes into the system's temporary folder, from where a move may be a copy, and does
    not wait for the disk.) It holds plain data only, as ``gradual.plain`` says.

    Args:
        fallbacks: Where a file that is replaced is moved to, for files that have such a place.
        module: The module that checkpoints are loaded into; they may come from one that was compiled otherwise.
    """

    def __init__(self, fallbacks: Mapping[Path, Path], module: nn.Module):
        self._fallbacks, self._module = fallbacks, module

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        """Write a checkpoint.

        Raises:
            InputError: A state in it could not be read back.
        """
        checkpoint = to_plain(checkpoint)
        if "://" in str(path):  # a user's own callback may save elsewhere
            super().save_checkpoint(checkpoint, path, storage_options)
            return
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f"{path.name}.tmp")
        try:
            with temporary.open("w+b") as file:
                _save(checkpoint, file)
                seal(file)
                file.flush()
                os.fsync(file.fileno())
            if path in self._fallbacks and path.exists():
                path.replace(self._fallbacks[path])
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
        with suppress(OSError):  # not every file system can
            _sync_folder(path.parent)

    def load_checkpoint(self, path: Any, map_location: Any = "cpu", weights_only: bool | None = None) -> dict[str, Any]:
        """Read a checkpoint; unless told otherwise, without running code from it."""
        checkpoint = from_plain(super().load_checkpoint(path, map_location, weights_only is not False))
        if "state_dict" in checkpoint:
            checkpoint["state_dict"] = named_as_in(self._module, checkpoint["state_dict"])
        return checkpoint


def _save(checkpoint: dict[str, Any], file: IO[bytes]) -> None:
    try:
        torch.save(checkpoint, file)
    except RuntimeError as error:
        if isinstance(error.__context__, OSError):  # what went wrong, under torch's account of where
            raise error.__context__ from None
        raise


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

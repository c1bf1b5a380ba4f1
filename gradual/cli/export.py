"""Write the weights of a stage's checkpoint as safetensors, a format that can hold tensors but no code.

The tensors have their names in the model, without the prefix of compiled modules. The metadata of the file has the
class of the model, its hyperparameters and, as JSON, the meaning of its outputs: the slots and their values in dialogue
state tracking, the labels in event extraction.
"""

from __future__ import annotations

import argparse
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gradual import __version__
from gradual.errors import InputError
from gradual.files import whole_file


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``gradual export``."""
    parser.add_argument("checkpoint", metavar="CHECKPOINT", type=Path, help="a stage's checkpoint, such as best.ckpt")
    parser.add_argument("--out", metavar="FILE", type=Path, required=True, help="the .safetensors file to write")


def run(arguments: argparse.Namespace) -> None:
    """Export the weights of a checkpoint, and print how many tensors there are.

    Raises:
        InputError: The checkpoint cannot be used, or the file cannot be written.
    """
    count = export(arguments.checkpoint, arguments.out)
    print(f"{arguments.out}: {count} tensors of {arguments.checkpoint}")


def export(checkpoint: str | Path, out: str | Path) -> int:
    """Write the weights of a checkpoint to a file, completely or not at all.

    Args:
        checkpoint: A stage's checkpoint, such as ``best.ckpt``.
        out: The file; its name must end in ``.safetensors``.

    Returns:
        The number of tensors.

    Raises:
        InputError: The checkpoint is missing, damaged or of another kind, or the file cannot be written.
    """
    out = Path(out)
    if out.suffix != ".safetensors":
        raise InputError(f"--out is {out}: its name must end in .safetensors.")

    import torch
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    from gradual.nn.compiled import plain_name
    from gradual.runs.checkpoint import read_checkpoint

    content = read_checkpoint(checkpoint)
    # copies, because a file cannot hold one tensor under two names
    tensors = {
        plain_name(name): tensor.clone(memory_format=torch.contiguous_format)
        for name, tensor in content["state_dict"].items()
    }
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(out) as temporary:
            save_file(tensors, temporary, metadata=_metadata(content))
    except (OSError, SafetensorError) as error:
        raise InputError(f"--out {out} cannot be written: {_reason(error)}.") from error
    return len(tensors)


def _reason(error: Exception) -> str:
    """The system's own message; safetensors only has its number."""
    number = re.search(r"\(os error (\d+)\)", str(error))
    return os.strerror(int(number[1])) if number else str(getattr(error, "strerror", None) or error)


def _metadata(content: Mapping[str, Any]) -> dict[str, str]:
    """What a checkpoint says about its model in plain data, as the format's mapping from text to text."""
    hyperparameters = dict(content.get("hyper_parameters") or {})
    said = {
        "class": hyperparameters.pop("_class_path", None),
        "hyperparameters": {name: value for name, value in hyperparameters.items() if name != "_instantiator"},
        "slots": content.get("slots"),
        "labels": content.get("labels"),
        "max_span_width": content.get("max_span_width"),
    }
    metadata = {"format": "pt", "gradual": __version__}
    for name, value in said.items():
        try:
            text = value if isinstance(value, str) else json.dumps(value, allow_nan=False, ensure_ascii=False)
        except (TypeError, ValueError):  # not plain data
            continue
        if value:
            metadata[name] = text
    return metadata

"""The pretrained head of a classifier whose labels are in another order than those of the data, or are other ones."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from typing import Any

import torch
from torch import nn

from gradual.nn.lacking import body_of

_SHOWN = 5
_NO_NAME = re.compile(r"LABEL_\d+|-?\d+")


def suit_head(model: Any, known: Sequence[str], labels: Sequence[str], new: Collection[str]) -> tuple[set[str], str]:
    """Make the outputs of a pretrained head those of our labels, in place.

    If it knows the same labels by name, in upper or lower case, its outputs are put in our order. If one side has no
    names, only numbers or ``LABEL_0``, they are taken as they are. If the names differ, its last layer is drawn anew,
    as ``transformers`` does for another number of labels.

    Args:
        model: A classifier or tagger of ``transformers``, as it was loaded.
        known: The labels of the pretrained head in the order of its outputs.
        labels: Ours.
        new: The names of weights that are not pretrained; nothing is done if the last layer is among them.

    Returns:
        The names of the weights that were drawn anew, and what users should be told; both may be empty.
    """
    name, layer = _last_layer(model, len(labels))
    if layer is None or f"{name}.weight" in new or len(known) != len(labels) or list(known) == list(labels):
        return set(), ""
    if order := _order(known, labels):
        with torch.no_grad():
            for parameter in layer.parameters(recurse=False):
                parameter.copy_(parameter[order])
        return set(), ""
    if [label.removeprefix("LABEL_") for label in known] == list(labels):
        return set(), ""
    if any(all(map(_NO_NAME.fullmatch, names)) for names in (known, labels)):
        pairs = [f"{theirs} is {ours}" for theirs, ours in zip(known, labels)]
        return set(), f"The outputs of the pretrained head are taken in their order: {_some(pairs)}."
    _draw(model, name)
    drawn = {f"{name}.{weight}" for weight, _ in layer.named_parameters(recurse=False)}
    return drawn, f"The pretrained head was trained for other labels ({_some(known)}): {name} is drawn anew, at random."


def _last_layer(model: Any, outputs: int) -> tuple[str, nn.Linear | None]:
    """The last linear layer of the head, if it has this number of outputs."""
    body = f"{body_of(model)}."
    layers = [(name, part) for name, part in model.named_modules() if isinstance(part, nn.Linear)]
    own = [(name, part) for name, part in layers if not name.startswith(body) and part.weight.shape[0] == outputs]
    return own[-1] if own else ("", None)


def _order(known: Sequence[str], labels: Sequence[str]) -> list[int] | None:
    """Where each of our labels is among those that are known; None if they are not the same."""
    for spelled in (str, str.casefold):
        places = {spelled(label): at for at, label in enumerate(known)}
        ours = [spelled(label) for label in labels]
        if len(places) == len(known) and places.keys() == set(ours):
            return [places[label] for label in ours]
    return None


def _draw(model: Any, name: str) -> None:
    """Draw a layer anew as ``transformers`` draws one that a file lacks; others keep their weights."""
    at = model.get_submodule(name)
    for parameter in at.parameters(recurse=False):
        parameter._is_hf_initialized = False
    parts = name.split(".")
    for depth in range(len(parts) + 1):  # a layer may be drawn by a module around it
        model.get_submodule(".".join(parts[:depth]))._is_hf_initialized = False
    model.initialize_weights()


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")

"""Names of scores."""

from __future__ import annotations

import re


def without_split(name: str) -> str:
    """A score's name without its split: ``loss`` for ``val/loss`` and ``val_loss``."""
    return re.sub(r"^(train|val|test)[/_]", "", name)

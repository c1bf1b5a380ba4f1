"""What a pretrained model's files lack of its weights: heads and poolers may be new, anything else is a mistake."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from typing import Any

from gradual.errors import InputError


def new_weights(model: Any, info: Mapping[str, Any], name: str, head: bool) -> set[str]:
    """The names of the weights that were not loaded but drawn at random.

    Args:
        model: A model of ``transformers`` that was loaded.
        info: What ``from_pretrained`` says of it with ``output_loading_info``.
        name: The folder or hub name.
        head: Whether it may lack what stands beside its base model. Poolers may be lacking in any case.

    Raises:
        InputError: It lacks other weights, or has them in another shape.
    """
    shapes = {key: (found, wanted) for key, found, wanted in info.get("mismatched_keys", ())}
    owned = {key for key, _ in model.named_parameters()} - _computed(model)  # tied weights once, no buffers
    body = f"{body_of(model)}." if head else ""
    needed = {key for key in owned if key.startswith(body) and "pooler" not in key}
    lacking = set(info.get("missing_keys", ()))
    what = f"of the {len(needed)} weights that {type(model).__name__} needs"
    if missing := lacking & needed:
        prefix = _prefix(missing, info.get("unexpected_keys", ()), f"{model.base_model_prefix}.")
        advice = f"; its names begin with '{prefix}', which must be removed" if prefix else ""
        raise InputError(f"'{name}' lacks {len(missing)} {what}, such as {min(missing)}{advice}.")
    if wrong := shapes.keys() & needed:
        found, wanted = (" x ".join(map(str, shape)) or "a number" for shape in shapes[min(wrong)])
        raise InputError(
            f"'{name}' has {len(wrong)} {what} in another shape than its config.json says: {min(wrong)} is {found}, "
            f"not {wanted}."
        )
    return (lacking | shapes.keys()) & owned


def body_of(model: Any) -> str:
    """The name of the part of a model that is beside its head: its base model.

    Code that is not from ``transformers`` may not say which it is; then it is the largest part.
    """
    if hasattr(model, model.base_model_prefix):
        return str(model.base_model_prefix)
    sizes = {name: sum(p.numel() for p in part.parameters()) for name, part in model.named_children()}
    return max(sizes, key=sizes.__getitem__)


def outermost(model: Any, weights: Collection[str]) -> list[str]:
    """The names of the largest modules all of whose weights are among ``weights``, and of weights beside these."""
    others = [name for name, _ in model.named_parameters() if name not in weights]
    found: dict[str, None] = {}
    for name in weights:
        parts = name.split(".")
        modules = (".".join(parts[:depth]) for depth in range(1, len(parts)))
        found[next((one for one in modules if not any(other.startswith(f"{one}.") for other in others)), name)] = None
    return sorted(found)


def _computed(model: Any) -> set[str]:
    """Tables of sines, which some models do not save and compute when they are loaded."""
    tables = [name for name, part in model.named_modules() if "Sinusoidal" in type(part).__name__]
    return {f"{name}.weight" for name in tables}


def _prefix(missing: Collection[str], unexpected: Collection[str], base: str) -> str | None:
    """What stands before most of the missing names in the file, such as ``module.``, if anything does."""
    wanted = {*missing, *(name.removeprefix(base) for name in missing)}
    prefixes: Counter[str] = Counter()
    for name in unexpected:
        parts = name.split(".")
        at = next((at for at in range(1, len(parts)) if ".".join(parts[at:]) in wanted), None)
        if at is not None:
            prefixes[".".join(parts[:at]) + "."] += 1
    if not prefixes:
        return None
    prefix, count = prefixes.most_common(1)[0]
    return prefix if 2 * count >= len(missing) else None

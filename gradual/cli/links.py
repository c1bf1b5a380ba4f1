"""Settings of the data that are taken from the model if the configuration leaves them open."""

from __future__ import annotations

import pkgutil

from jsonargparse import Namespace

from gradual.tasks.base import TaskModule


def link_encoder(config: Namespace) -> list[str]:
    """Let the data use the tokenizer of the model's encoder, and trust its code if the model does.

    The encoder is the model's ``encoder`` or ``pretrained``. This is only done for models of the package and classes
    derived from them, because the ``encoder`` of another model may be anything. A tokenizer in the configuration of the
    data is kept.

    Args:
        config: The configuration, in which the settings are filled in.

    Returns:
        The names of the settings that were filled in.
    """
    model, data = config.model, config.data
    cls = pkgutil.resolve_name(model.class_path)
    if not (isinstance(cls, type) and issubclass(cls, TaskModule)):
        return []
    arguments, taken, filled = model.get("init_args"), data.get("init_args"), []
    links = (("encoder", "tokenizer"), ("pretrained", "tokenizer"), ("trust_remote_code", "trust_remote_code"))
    for source, target in links:
        if arguments and taken and target in taken and not taken[target] and arguments.get(source):
            taken[target] = arguments[source]
            filled.append(f"data.init_args.{target}")
    return filled

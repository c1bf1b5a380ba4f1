"""Pretrained encoders and tokenizers, from a folder or a hub."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from transformers import AutoConfig, AutoModel, AutoTokenizer
from transformers.utils import logging as transformers_logging

from gradual.dropout import quicken_dropout
from gradual.errors import InputError


def load_encoder(name: str, layers: int | None = None, trust_remote_code: bool = False) -> Any:
    """A pretrained encoder, without the pooling head that nothing here would train.

    Args:
        name: A folder, or a model of the hub.
        layers: Keep the first so many layers; None keeps all.
        trust_remote_code: Run Python code that comes with the encoder.

    Raises:
        InputError: There is no such encoder, it has fewer layers, or it comes with code that is not trusted.
    """
    config = _load(AutoConfig, "an encoder", name, trust_remote_code)
    if layers is not None:
        if not 1 <= layers <= config.num_hidden_layers:
            available = config.num_hidden_layers
            raise InputError(f"encoder_layers is {layers}: '{name}' has {available}; accepted are 1 to that.")
        config.num_hidden_layers = layers
    with _quiet():
        encoder = _load(AutoModel, "an encoder", name, trust_remote_code, config=config)
    if getattr(encoder, "pooler", None) is not None:
        encoder.pooler = None
    quicken_dropout(encoder)
    return encoder


def load_tokenizer(name: str, words: bool = False, trust_remote_code: bool = False) -> Any:
    """The fast tokenizer of an encoder.

    Args:
        name: A folder, or a model of the hub.
        words: It is given texts that are split into words already.
        trust_remote_code: Run Python code that comes with the tokenizer.

    Raises:
        InputError: There is none, or it comes with code that is not trusted.
    """
    tokenizer = _load(AutoTokenizer, "a tokenizer", name, trust_remote_code)
    if words and getattr(tokenizer, "add_prefix_space", None) is False:  # RoBERTa's: a word has a space before it
        tokenizer = _load(AutoTokenizer, "a tokenizer", name, trust_remote_code, add_prefix_space=True)
    if len(tokenizer) <= len(tokenizer.all_special_ids):  # made from nothing: every word would be unknown
        raise InputError(f"'{name}' has no tokenizer files, such as tokenizer.json.")
    if not tokenizer.is_fast:
        raise InputError(f"'{name}' has no fast tokenizer; accepted are encoders with a tokenizer.json.")
    return tokenizer


def _load(auto_class: Any, what: str, name: str, trust_remote_code: bool, **arguments: Any) -> Any:
    try:  # never None: transformers would ask on the terminal
        return auto_class.from_pretrained(name, trust_remote_code=bool(trust_remote_code), **arguments)
    except Exception as error:  # a damaged file may raise anything, down in the libraries that read it
        if not trust_remote_code and "trust_remote_code" in str(error):
            raise InputError(
                f"{name!r} comes with Python code of its own, which is not run: read it, and give the model "
                f"trust_remote_code: true where you trust it."
            ) from error
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise InputError(
            f"{name!r} cannot be loaded as {what}: accepted is a folder made by save_pretrained or a hub's name "
            f"({reason})."
        ) from error


@contextmanager
def _quiet() -> Iterator[None]:
    """No progress bar while weights load, and no warning for every weight of the layers left out."""
    verbosity, progress = transformers_logging.get_verbosity(), transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()
    transformers_logging.set_verbosity_error()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(verbosity)
        if progress:
            transformers_logging.enable_progress_bar()

"""Pretrained encoders and tokenizers, from a folder or a hub."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import torch
from tokenizers import pre_tokenizers
from transformers import AutoConfig, AutoModel, AutoTokenizer
from transformers.utils import logging as transformers_logging

from gradual.errors import InputError
from gradual.nn.fast_cpu import quicken

_LIMITLESS = 1 << 30  # a tokenizer without a limit gives a huge number
# these number their positions from behind the padding token's id: 514 of them are for 512 word pieces
_POSITIONS_BEHIND_PADDING = (
    *("camembert", "data2vec-text", "esm", "ibert", "lilt", "longformer", "luke", "markuplm", "mpnet"),
    *("roberta", "roberta-prelayernorm", "xlm-roberta", "xlm-roberta-xl", "xmod"),
)


def load_encoder(name: str, layers: int | None = None, trust_remote_code: bool = False) -> Any:
    """A pretrained encoder in float32, whatever its file has, without the pooling head that nothing here would train.

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
        encoder = _load(AutoModel, "an encoder", name, trust_remote_code, config=config, dtype=torch.float32)
    if getattr(encoder, "pooler", None) is not None:
        encoder.pooler = None
    quicken(encoder)
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
    if not name:
        raise InputError(
            "tokenizer is empty: give the data the folder or the hub's name of an encoder (--data.tokenizer)."
        )
    tokenizer = _load(AutoTokenizer, "a tokenizer", name, trust_remote_code)
    if words and getattr(tokenizer, "add_prefix_space", None) is False:  # RoBERTa's: a word has a space before it
        tokenizer = _load(AutoTokenizer, "a tokenizer", name, trust_remote_code, add_prefix_space=True)
    if words and tokenizer.is_fast:  # one of the generic class only says so
        _put_space_before_words(tokenizer.backend_tokenizer.pre_tokenizer)
    if len(tokenizer) <= len(tokenizer.all_special_ids):  # made from nothing: every word would be unknown
        raise InputError(f"'{name}' has no tokenizer files, such as tokenizer.json.")
    if not tokenizer.is_fast:
        raise InputError(f"'{name}' has no fast tokenizer; accepted are encoders with a tokenizer.json.")
    return tokenizer


def resolve_max_length(
    tokenizer: Any, name: str, max_length: int | None = None, trust_remote_code: bool = False
) -> int | None:
    """How many word pieces of a text are encoded, special ones included.

    Args:
        tokenizer: What ``load_tokenizer`` gave.
        name: The folder or the hub's name that it came from; where a configuration is there, the encoder has a say too.
        max_length: What a user asks for; None for all that can be had.
        trust_remote_code: Run Python code that comes with the encoder.

    Returns:
        ``max_length``, else the most that tokenizer and encoder take; None where these have no limit.

    Raises:
        InputError: More is asked for than they take.
    """
    longest = min(tokenizer.model_max_length, _LIMITLESS)
    with suppress(InputError):  # a folder may hold a tokenizer alone
        longest = min(longest, _positions(_load(AutoConfig, "an encoder", name, trust_remote_code)))
    if max_length is not None and max_length > longest:
        raise InputError(f"max_length is {max_length}: '{name}' takes at most {longest} word pieces.")
    return max_length or (None if longest == _LIMITLESS else longest)


def _positions(config: Any) -> int:
    positions = getattr(config, "max_position_embeddings", None)
    relative = not getattr(config, "position_biased_input", True)  # such positions have no end
    if relative or not isinstance(positions, int):
        return _LIMITLESS
    behind = config.model_type in _POSITIONS_BEHIND_PADDING
    return positions - (config.pad_token_id or 0) - 1 if behind else positions


def padding_piece(tokenizer: Any, name: str) -> int:
    """The id of a tokenizer's padding token.

    Raises:
        InputError: It has none.
    """
    if tokenizer.pad_token_id is None:
        raise InputError(
            f"The tokenizer of '{name}' has no padding token, which batches of texts need: name one of its tokens as "
            "pad_token in its tokenizer_config.json."
        )
    return int(tokenizer.pad_token_id)


def _put_space_before_words(part: Any) -> None:
    if isinstance(part, pre_tokenizers.ByteLevel):
        part.add_prefix_space = True
    elif isinstance(part, pre_tokenizers.Sequence):
        for inner in part:  # type: ignore[attr-defined]  # by index, which its stub does not know
            _put_space_before_words(inner)


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

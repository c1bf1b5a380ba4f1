"""Pretrained encoders and tokenizers, loaded from a folder or from the Hugging Face Hub."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import pre_tokenizers
from transformers import AutoConfig, AutoModel, AutoTokenizer, GenerationConfig
from transformers.utils import logging as transformers_logging

from gradual.digest import digest
from gradual.errors import InputError
from gradual.nn.fast_cpu import quicken
from gradual.nn.label_order import suit_head
from gradual.nn.lacking import new_weights, outermost

_NO_LIMIT = 1 << 30  # a tokenizer without a limit reports a huge number
# these number positions from the padding token's id plus 1: 514 positions hold 512 word pieces
_POSITIONS_AFTER_PADDING = (
    *("camembert", "data2vec-text", "esm", "ibert", "lilt", "longformer", "luke", "markuplm", "mpnet"),
    *("roberta", "roberta-prelayernorm", "xlm-roberta", "xlm-roberta-xl", "xmod"),
)


def load_encoder(name: str, layers: int | None = None, trust_remote_code: bool = False) -> Any:
    """Load a pretrained encoder in float32, whatever precision its file has, and without the pooling head.

    Args:
        name: A folder, or a model on the hub.
        layers: Number of layers to keep, counted from the first; None keeps all.
        trust_remote_code: Run Python code that comes with the encoder.

    Raises:
        InputError: There is no such encoder, it has fewer layers, its files lack weights, or it comes with code that is
            not trusted.
    """
    config = _load(AutoConfig, "an encoder", name, trust_remote_code)
    if layers is not None:
        if not 1 <= layers <= config.num_hidden_layers:
            most = config.num_hidden_layers
            raise InputError(f"encoder_layers is {layers}: it must be from 1 to {most}, the layers of '{name}'.")
        config.num_hidden_layers = layers
    encoder, info = _load_weights(AutoModel, "an encoder", name, trust_remote_code, config=config)
    new_weights(encoder, info, name, head=False)
    if getattr(encoder, "pooler", None) is not None:
        encoder.pooler = None
    quicken(encoder)
    return encoder


@dataclass(frozen=True)
class LoadedModel:
    """A pretrained model with a head.

    Attributes:
        model: The model.
        new: The names of its weights that are not pretrained but drawn at random.
        remarks: What users should be told of these, sentences.
    """

    model: Any
    new: set[str]
    remarks: tuple[str, ...]


def load_model(
    name: str, auto_class: str, changes: Mapping[str, Any], trust_remote_code: bool = False, **arguments: Any
) -> LoadedModel:
    """Load a pretrained model with a head in float32.

    A head or a pooler that it lacks is drawn at random. The outputs of a head that knows the labels are put in the
    order of ``id2label``, see ``gradual.nn.label_order``.

    Args:
        name: A folder, or a model on the hub.
        auto_class: The class of ``transformers`` that knows which model to make, such as
            ``AutoModelForSequenceClassification``.
        changes: Entries of the configuration that differ from those of the pretrained model.
        trust_remote_code: Run Python code that comes with the model.
        **arguments: Further arguments of ``from_pretrained``.

    Raises:
        InputError: There is no such model, the class does not load models of its type, its files lack weights other
            than those of the head (or any, if it generates texts), or it comes with code that is not trusted.
    """
    if not name:
        raise InputError("pretrained is empty: set --model.pretrained to a folder, or to a model's name on the hub.")
    config = _load(AutoConfig, "a model", name, trust_remote_code)
    _check_type(config, name, auto_class, trust_remote_code)
    known = _labels(config.id2label)
    config.update(dict(changes))
    made = getattr(transformers, auto_class)
    model, info = _load_weights(made, "a model", name, trust_remote_code, config=config, **arguments)
    new = new_weights(model, info, name, head=not model.can_generate())
    remarks = [f"New layers, drawn at random: {', '.join(outermost(model, new))}."] if new else []
    labels = _labels(changes.get("id2label"))
    if len(labels) > 1:
        drawn, remark = suit_head(model, known, labels, new)
        new, remarks = new | drawn, [*remarks, remark] if remark else remarks
    return LoadedModel(model, new, tuple(remarks))


def _labels(by_output: Mapping[int, str] | None) -> list[str]:
    return [str(label) for _, label in sorted((by_output or {}).items())]


@dataclass(frozen=True)
class Architecture:
    """What is known of a pretrained model without its weights.

    Attributes:
        kind: Its type in ``transformers``, such as ``bert``.
        parameters: The number of its parameters.
        names: The names of its weights.
    """

    kind: str
    parameters: int
    names: tuple[str, ...]


def architecture_of(name: str, auto_class: str) -> Architecture:
    """Look at a pretrained model as a class of ``transformers`` loads it, without reading its weights.

    Args:
        name: Its folder or hub name.
        auto_class: The class, such as ``AutoModelForSequenceClassification``.

    Raises:
        InputError: There is no such model, or the class does not load models of its type.
    """
    config = _load(AutoConfig, "a model", name, trust_remote_code=False)
    _check_type(config, name, auto_class, trust_remote_code=False)
    with torch.device("meta"):
        model = getattr(transformers, auto_class).from_config(config)
    weights = dict(model.named_parameters())
    return Architecture(str(config.model_type), sum(weight.numel() for weight in weights.values()), tuple(weights))


def _check_type(config: Any, name: str, auto_class: str, trust_remote_code: bool) -> None:
    """Refuse models that a class does not load, and masked language models where a causal one is wanted."""
    cls = getattr(transformers, auto_class)
    if type(config) not in cls._model_mapping:
        if auto_class not in (getattr(config, "auto_map", None) or {}):
            raise InputError(f"'{name}' is a model of the type {config.model_type}, which is no {auto_class}.")
        if not trust_remote_code:
            raise _untrusted(name)
    masked = type(config) in transformers.AutoModelForMaskedLM._model_mapping
    if auto_class == "AutoModelForCausalLM" and masked and not getattr(config, "is_decoder", False):
        raise InputError(
            f"'{name}' is a model of the type {config.model_type}, which sees the tokens that a causal language model "
            "must predict: take a decoder, such as a Llama or GPT-2 model."
        )


def weights_of(name: str) -> dict[str, str]:
    """Digests of samples of a pretrained model's weight files, by name; empty for a model on the hub."""
    folder = Path(name)
    found = {}
    for path in sorted(each for kind in ("*.safetensors", "*.bin") for each in folder.glob(kind)):
        with path.open("rb") as file, mmap(file.fileno(), 0, access=ACCESS_READ) as content:
            found[path.name] = digest(content)
    return found


def model_from_config(config: Mapping[str, Any], auto_class: str, generation: Mapping[str, Any] | None = None) -> Any:
    """Make a model with random weights.

    Args:
        config: What its configuration's ``to_dict`` returned.
        auto_class: Its Auto class in ``transformers``.
        generation: What its generation configuration's ``to_dict`` returned.

    Raises:
        InputError: ``transformers`` has no such model: it came with code of its own.
    """
    known = dict(config)
    try:
        model = getattr(transformers, auto_class).from_config(AutoConfig.for_model(known.pop("model_type"), **known))
    except (ValueError, KeyError) as error:
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise InputError(f"The checkpoint's model cannot be made from its configuration ({reason}).") from error
    if generation is not None:
        model.generation_config = GenerationConfig.from_dict(dict(generation))
    return model


def load_tokenizer(name: str, words: bool = False, trust_remote_code: bool = False) -> Any:
    """Load the fast tokenizer of an encoder.

    Args:
        name: A folder, or a model on the hub.
        words: Whether its inputs are already split into words.
        trust_remote_code: Run Python code that comes with the tokenizer.

    Raises:
        InputError: There is no fast tokenizer, or it comes with code that is not trusted.
    """
    if not name:
        raise InputError(
            "tokenizer is empty: set --data.tokenizer to the folder of an encoder, or to its name on the hub."
        )
    tokenizer = _load(AutoTokenizer, "a tokenizer", name, trust_remote_code)
    if (
        words and getattr(tokenizer, "add_prefix_space", None) is False
    ):  # as RoBERTa's, which expects a space before a word
        tokenizer = _load(AutoTokenizer, "a tokenizer", name, trust_remote_code, add_prefix_space=True)
    if words and tokenizer.is_fast:  # the generic class takes the argument but ignores it
        _put_space_before_words(tokenizer.backend_tokenizer.pre_tokenizer)
    if len(tokenizer) <= len(
        tokenizer.all_special_ids
    ):  # without files transformers makes an empty one, to which every word is unknown
        raise InputError(f"'{name}' has no tokenizer files, such as tokenizer.json.")
    if not tokenizer.is_fast:
        raise InputError(f"'{name}' has no fast tokenizer: it must have a tokenizer.json.")
    return tokenizer


def resolve_max_length(
    tokenizer: Any,
    name: str,
    max_length: int | None = None,
    trust_remote_code: bool = False,
    setting: str = "max_length",
) -> int | None:
    """Determine the maximum number of word pieces per text, special tokens included.

    Args:
        tokenizer: A tokenizer from ``load_tokenizer``.
        name: The folder or hub name it was loaded from; an encoder there limits the length, too.
        max_length: The limit that a user set; None for as much as possible.
        trust_remote_code: Run Python code that comes with the encoder.
        setting: What the user's limit is called.

    Returns:
        ``max_length``, or the limit of tokenizer and encoder where it is None; None where these have no limit.

    Raises:
        InputError: ``max_length`` exceeds the limit of tokenizer and encoder.
    """
    longest = min(tokenizer.model_max_length, _NO_LIMIT)
    with suppress(InputError):  # a folder may hold only a tokenizer
        longest = min(longest, _positions(_load(AutoConfig, "an encoder", name, trust_remote_code)))
    if max_length is not None and max_length > longest:
        raise InputError(f"{setting} is {max_length}: '{name}' takes at most {longest} word pieces.")
    return max_length or (None if longest == _NO_LIMIT else longest)


def end_with_decoder(name: str, trust_remote_code: bool = False) -> int | None:
    """The token that ends a text, if the model in a folder or on the hub is an encoder with a decoder; None if not."""
    with suppress(InputError):  # a folder may hold only a tokenizer, and loading the model says what is wrong with it
        config = _load(AutoConfig, "a model", name, trust_remote_code)
        end = config.eos_token_id if config.is_encoder_decoder else None
        return end if isinstance(end, int) else None
    return None


def _positions(config: Any) -> int:
    positions = getattr(config, "max_position_embeddings", None)
    relative = not getattr(config, "position_biased_input", True)  # relative positions have no limit
    if relative or not isinstance(positions, int):
        return _NO_LIMIT
    behind = config.model_type in _POSITIONS_AFTER_PADDING
    return positions - (config.pad_token_id or 0) - 1 if behind else positions


def padding_piece(tokenizer: Any, name: str) -> int:
    """Return the id of a tokenizer's padding token.

    Raises:
        InputError: The tokenizer has no padding token.
    """
    if tokenizer.pad_token_id is None:
        raise InputError(
            f"The tokenizer of '{name}' has no padding token, which batches of texts need: set one of its tokens as "
            "pad_token in its tokenizer_config.json."
        )
    return int(tokenizer.pad_token_id)


def _put_space_before_words(part: Any) -> None:
    if isinstance(part, pre_tokenizers.ByteLevel):
        part.add_prefix_space = True
    elif isinstance(part, pre_tokenizers.Sequence):
        for inner in part:  # type: ignore[attr-defined]  # it supports indexing, which its stub lacks
            _put_space_before_words(inner)


def _load(auto_class: Any, what: str, name: str, trust_remote_code: bool, **arguments: Any) -> Any:
    try:  # a bool, since with None transformers would ask on the terminal
        return auto_class.from_pretrained(name, trust_remote_code=bool(trust_remote_code), **arguments)
    except Exception as error:  # a damaged file may raise anything in the libraries that read it
        if not trust_remote_code and "trust_remote_code" in str(error):
            raise _untrusted(name) from error
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise InputError(
            f"{name!r} cannot be loaded as {what}: it must be a folder written by save_pretrained, or a name on the "
            f"hub ({reason})."
        ) from error


def _untrusted(name: str) -> InputError:
    return InputError(
        f"{name!r} comes with Python code of its own, which is not run: read it and, if you trust it, set the model's "
        "trust_remote_code to true."
    )


def _load_weights(
    auto_class: Any, what: str, name: str, trust_remote_code: bool, **arguments: Any
) -> tuple[Any, Mapping[str, Any]]:
    """Load a model in float32; returns also what ``transformers`` says of its weights."""
    settings = {"dtype": torch.float32, "ignore_mismatched_sizes": True, "output_loading_info": True}
    with quiet_transformers():
        loaded = _load(auto_class, what, name, trust_remote_code, **settings, **arguments)
    return loaded if isinstance(loaded, tuple) else (loaded, {})  # a model's own code may say nothing


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Hide progress bars while weights are read or written, and the warnings about the weights of other layers."""
    verbosity, progress = transformers_logging.get_verbosity(), transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()
    transformers_logging.set_verbosity_error()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(verbosity)
        if progress:
            transformers_logging.enable_progress_bar()

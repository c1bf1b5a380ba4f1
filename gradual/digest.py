"""Digests of values that are the same in every process, and fixed samples of what is too large to read in full."""

from __future__ import annotations

import dataclasses
import enum
import functools
import hashlib
import mmap
import types
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from gradual.files import sha256

_GOLDEN = 0x9E3779B97F4A7C15
"""Its multiples modulo 2**64 are spread evenly over all numbers."""
_MAX_BYTES = 1 << 20  # of an array that is read in full; of a larger one, a sample is read
_SAMPLE = 1 << 14  # entries in that sample
_RUN = 128  # adjacent entries in a sample: about what one access to a memory-mapped file reads

Update = Callable[[bytes], None]


class Undigestible(Exception):
    """A value has no content that would be the same in another process; the message says what it is."""


def digest(value: Any) -> str:
    """Compute a short digest of tensors, arrays, plain data, and objects made of these.

    The order of mappings and sets does not matter. Of an array larger than a megabyte, such as a memory-mapped one, a
    fixed sample of entries is read.

    Raises:
        Undigestible: Part of the value, such as an open file or a generator, means nothing in another process.
    """
    digester = hashlib.sha256()
    try:
        _feed(digester.update, value, ())
    except RecursionError:
        raise Undigestible("data nested too deeply") from None
    return digester.hexdigest()[:16]


def digest_of_files(paths: Iterable[Path]) -> str:
    """Compute a digest of all bytes of some files, in their order.

    Raises:
        InputError: A file cannot be read.
    """
    return digest([sha256(path) for path in paths])


def entries(tensor: Tensor, number: int) -> Tensor:
    """Return a fixed sample of a tensor's entries, on the CPU, shape (entries,); all of them where there are few."""
    tensor = tensor.detach()
    if not tensor.ndim:
        return tensor.reshape(1).cpu()
    index = np.unravel_index(sample_positions(tensor.numel(), number), tuple(tensor.shape))
    return tensor[tuple(torch.from_numpy(axis) for axis in index)].cpu()


@functools.lru_cache(maxsize=256)
def sample_positions(size: int, number: int, run: int = _RUN) -> npt.NDArray[np.int64]:
    """Choose about ``number`` sorted positions among ``size``, in runs; all of them where there are not many more."""
    if size <= 4 * number:
        return np.arange(size, dtype=np.int64)
    starts = [((step * _GOLDEN) % 2**64 * (size - run + 1)) >> 64 for step in range(number // run)]
    return np.unique(np.add.outer(np.array(sorted(starts), dtype=np.int64), np.arange(run)))


def _feed(update: Update, value: Any, above: tuple[int, ...]) -> None:
    """Feed a value to a digest; ``above`` holds the ids of the containers that it is in."""
    if id(value) in above:
        update(b"cycle;")
        return
    if isinstance(value, Tensor):
        _feed_tensor(update, value, above)
    elif isinstance(value, np.ndarray | np.generic):
        _feed_array(update, np.asarray(value), above)
    elif isinstance(value, enum.Enum):
        _name(update, f"{class_name(type(value))}.{value.name}")
    elif isinstance(value, str):
        _bytes(update, "str", value.encode("utf-8", "surrogatepass"))
    elif value is None or isinstance(value, bool | int | float | complex):
        _name(update, f"{type(value).__name__} {value!r}")
    elif isinstance(value, bytes | bytearray | memoryview | mmap.mmap):
        _feed_array(update, _as_array(value), above)
    elif isinstance(value, type | types.FunctionType | types.BuiltinFunctionType):
        _name(update, class_name(value))
    else:
        _feed_parts(update, value, (*above, id(value)))


def _feed_parts(update: Update, value: Any, above: tuple[int, ...]) -> None:
    """Feed a value part by part."""
    if isinstance(value, Mapping):
        _name(update, f"mapping {len(value)}")
        for key in sorted(value, key=digest):
            _feed(update, key, above)
            _feed(update, value[key], above)
    elif isinstance(value, set | frozenset):
        _name(update, f"set {sorted(digest(part) for part in value)}")
    elif isinstance(value, list | tuple):
        _name(update, f"{'list' if isinstance(value, list) else 'tuple'} {len(value)}")
        for part in value:
            _feed(update, part, above)
    elif dataclasses.is_dataclass(value):
        _name(update, class_name(type(value)))
        for field in dataclasses.fields(value):
            _feed(update, getattr(value, field.name), above)
    else:
        _feed_object(update, value, above)


def _feed_object(update: Update, value: Any, above: tuple[int, ...]) -> None:
    """Feed what pickle would save of an object: how to make it, its state and its items."""
    try:
        reduced = value.__reduce_ex__(4)
    except Exception as error:  # each class has its own reason
        raise Undigestible(f"a {type(value).__name__}") from error
    _name(update, class_name(type(value)))
    if isinstance(reduced, str):  # the name of a global object
        _name(update, reduced)
        return
    for part in reduced:
        _feed(update, part if part is None or isinstance(part, tuple | dict) else _listed(part), above)


def _listed(part: Any) -> Any:
    """Return the items of an iterator, as pickle receives them, and anything else unchanged."""
    return list(part) if hasattr(part, "__next__") else part


def _feed_tensor(update: Update, tensor: Tensor, above: tuple[int, ...]) -> None:
    tensor = tensor.detach()
    _name(update, f"tensor {tensor.dtype}")
    if tensor.is_quantized:
        tensor = tensor.dequantize()
    if tensor.is_nested:
        _feed(update, list(tensor.unbind()), above)
        return
    _name(update, f"{tuple(tensor.shape)}")
    if tensor.layout != torch.strided:
        sparse = tensor.to_sparse().coalesce()
        _feed(update, [sparse.indices(), sparse.values()], above)
    elif tensor.numel() and not tensor.is_meta:
        small = tensor.numel() * tensor.element_size() <= _MAX_BYTES
        flat = tensor.cpu().reshape(-1) if small else entries(tensor, _SAMPLE)
        update(flat.resolve_conj().resolve_neg().contiguous().view(torch.uint8).numpy().tobytes())


def _feed_array(update: Update, array: npt.NDArray[Any], above: tuple[int, ...]) -> None:
    _name(update, f"array {array.dtype.str} {array.shape}")
    if array.dtype.hasobject:
        _feed(update, array.tolist(), above)
    elif array.nbytes <= _MAX_BYTES:
        update(array.tobytes())
    else:
        update(array[np.unravel_index(sample_positions(array.size, _SAMPLE), array.shape)].tobytes())


def _as_array(buffer: Any) -> npt.NDArray[Any]:
    try:
        return np.frombuffer(buffer, dtype=np.uint8)
    except (ValueError, BufferError) as error:  # the memory of a closed file, or not contiguous
        raise Undigestible(f"a {type(buffer).__name__}") from error


def _name(update: Update, text: str) -> None:
    update(text.encode("utf-8", "surrogatepass"))
    update(b";")


def _bytes(update: Update, kind: str, content: bytes) -> None:
    _name(update, f"{kind} {len(content)}")
    update(content)


def class_name(named: Any) -> str:
    """Return the name of a class or function without its module, which differs when a script is imported."""
    return str(getattr(named, "__qualname__", type(named).__qualname__))

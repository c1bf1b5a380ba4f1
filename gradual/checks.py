"""Checks of arguments and settings: against their type hints, and against ranges and other rules.

An error is one sentence: the argument's name, the value found, what it must be and, for common mistakes, what to write
instead. NumPy numbers are converted to Python's own. Nothing here depends on torch.
"""

from __future__ import annotations

import functools
import inspect
import math
import numbers
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Set
from dataclasses import dataclass, fields, replace
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, ParamSpec, TypeVar, Union, get_args, get_origin, get_type_hints

from gradual.errors import InputError, did_you_mean

P = ParamSpec("P")
R = TypeVar("R")

type_hints: Callable[[Any], dict[str, Any]] = functools.cache(get_type_hints)
"""Returns the type hints of a function or class, which are resolved once."""

_MAX_SHOWN = 80  # characters of a value in a message
_PLAIN = {int: "an integer", float: "a number", str: "text", NoneType: "None", Path: "a path"}


def _unchanged(value: Any) -> Any:
    return value


@dataclass(frozen=True)
class Accepted:
    """A rule for a value.

    Attributes:
        words: What the value must be, to follow "it must be" in a message.
        wrong: Returns None for a value that is accepted, and otherwise advice on what to write instead, which may be
            empty.
        convert: Turns an accepted value into the one that is used.
    """

    words: str
    wrong: Callable[[Any], str | None]
    convert: Callable[[Any], Any] = _unchanged

    def check(self, name: str, value: Any) -> Any:
        """Check a value and return it converted.

        Raises:
            InputError: The value is not accepted; the message begins with ``name``.
        """
        advice = self.wrong(value)
        if advice is not None:
            raise InputError(f"{name} is {found(value)}: it must be {self.words}{f'; {advice}' if advice else ''}.")
        return self.convert(value)

    def advised(self, advice: Callable[[Any], str]) -> Accepted:
        """Return the same rule with other advice for values that are not accepted."""
        return replace(self, wrong=lambda value: None if self.wrong(value) is None else advice(value))


def integer(least: int | None = None, most: int | None = None) -> Accepted:
    """Accept integers in a range, but not True and False."""
    words = "an integer"
    if least is not None:
        words += f" of at least {least}" if most is None else f" from {least} to {most}"

    def wrong(value: Any) -> str | None:
        inside = _fits(value, int) and (least is None or value >= least) and (most is None or value <= most)
        return None if inside else ""

    return Accepted(words, wrong, int)


def number(least: float | None = None, *, above: float | None = None, below: float | None = None) -> Accepted:
    """Accept finite numbers in a range; they are converted to float."""
    words = "a number"
    if above is not None and below is not None:
        words += f" between {above} and {below}"
    elif least is not None:
        words += f" of at least {least}" if below is None else f" from {least} to below {below}"
    elif above is not None:
        words += f" above {above}"

    def wrong(value: Any) -> str | None:
        inside = _fits(value, float) and math.isfinite(value) and (least is None or value >= least)
        return None if inside and (above is None or value > above) and (below is None or value < below) else ""

    return Accepted(words, wrong, float)


def of_hint(hint: Any) -> Accepted:
    """Accept what fits a type hint: plain types, classes, unions, literals, functions, lists and mappings of these."""
    return Accepted(
        _words(hint),
        lambda value: None if _fits(value, hint) else _advice(value, hint),
        lambda value: _converted(value, hint),
    )


def check(name: str, value: Any, hint: Any, accepted: Accepted | None = None) -> Any:
    """Check the value of an argument or field and return it converted.

    Args:
        name: What the value is called in a message.
        value: The value.
        hint: The type hint; a value of None is accepted where it is part of the hint.
        accepted: The rule for other values; None for the type hint.

    Raises:
        InputError: The value is not accepted.
    """
    if value is None and _fits(None, hint):
        return None
    if accepted is None:
        return of_hint(hint).check(name, value)
    return (replace(accepted, words=f"{accepted.words}, or None") if _fits(None, hint) else accepted).check(name, value)


def check_fields(config: Any, pattern: str = "{}", **accepted: Accepted) -> None:
    """Check the fields of a dataclass, to be called from ``__post_init__``, and replace them by the converted values.

    Args:
        config: The dataclass, frozen or not.
        pattern: How a field is called in messages, such as ``optimizer.{}``.
        accepted: Rules for fields whose type hint does not say everything.
    """
    hints = type_hints(type(config))
    for each in fields(config):
        name, value = each.name, getattr(config, each.name)
        object.__setattr__(config, name, check(pattern.format(name), value, hints[name], accepted.get(name)))


def checked(**accepted: Accepted) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Decorate a function so that its arguments are checked before it runs, including missing and unknown ones.

    Args:
        accepted: Rules for arguments whose type hint does not say everything.
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        signature = inspect.signature(function)

        @functools.wraps(function)
        def checking(*args: P.args, **kwargs: P.kwargs) -> R:
            bound = _bound(function, signature, args, kwargs)
            hints = type_hints(function)
            for name, value in bound.arguments.items():
                if name in hints and signature.parameters[name].kind not in (
                    inspect.Parameter.VAR_POSITIONAL,
                    inspect.Parameter.VAR_KEYWORD,
                ):
                    bound.arguments[name] = check(name, value, hints[name], accepted.get(name))
            return function(*bound.args, **bound.kwargs)

        return checking

    return decorate


def found(value: Any) -> str:
    """Describe a value in a message: the value itself if it is plain and short, otherwise its type."""
    if isinstance(value, type):
        return f"the class {value.__name__}"
    if value is None or isinstance(value, str | bytes | numbers.Number):
        text = repr(value)
        return text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}..."
    if isinstance(value, os.PathLike):
        return f"the path {os.fspath(value)!r}"
    if inspect.isroutine(value):
        name = getattr(value, "__name__", "")
        return "a function" if not name or name == "<lambda>" else f"the function {name}"
    if type(value) in (list, tuple, dict, set):
        parts = [*value, *(value.values() if isinstance(value, dict) else ())]
        plain = all(part is None or isinstance(part, str | numbers.Number) for part in parts)
        text = repr(value)
        return text if plain and len(text) <= _MAX_SHOWN and "\n" not in text else _article(type(value).__name__)
    return _article(type(value).__name__)


def is_number(value: Any) -> bool:
    """Whether a value is a real number of Python or NumPy; True and False are not."""
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def is_listed(value: Any) -> bool:
    """Whether a value is a list or another ordered iterable; text, mappings and sets are not."""
    return isinstance(value, Iterable) and not isinstance(value, str | bytes | Mapping | Set)


def _bound(
    function: Callable[..., Any], signature: inspect.Signature, args: Any, kwargs: Any
) -> inspect.BoundArguments:
    try:
        return signature.bind(*args, **kwargs)
    except TypeError as error:
        made = function.__name__ == "__init__"
        owner = type(args[0]).__name__ if made else f"gradual.{function.__name__}"
        parameters = list(signature.parameters.values())[made:]
        accepted = [each.name for each in parameters if each.kind is not each.VAR_KEYWORD]
        several = len(accepted) < len(parameters)
        listed = [each.name for each in parameters if not several or each.kind is each.POSITIONAL_OR_KEYWORD]
        takes = f"it takes {', '.join(listed)}{' and settings by name' if several else ''}."
        for name in kwargs:
            if not several and name not in accepted:
                hint = did_you_mean(name, accepted)
                raise InputError(f"{owner} has no argument '{name}'; {takes}{hint}") from None
        raise InputError(f"{owner}: {error}; {takes}") from None


def _kinds(hint: Any) -> tuple[Any, ...]:
    """The members of a union, or the type itself."""
    return get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)


def _fits(value: Any, hint: Any) -> bool:
    kinds = _kinds(hint)
    if len(kinds) > 1:
        return any(_fits(value, kind) for kind in kinds)
    origin, inside = get_origin(hint) or hint, get_args(hint)
    if origin is Any or isinstance(origin, TypeVar):
        return True
    if origin is Literal:
        return any(type(value) is type(literal) and value == literal for literal in inside)
    if origin is int:
        return isinstance(value, numbers.Integral) and not isinstance(value, bool)
    if origin is float:
        return is_number(value) and not math.isnan(value)
    if origin is None:
        return value is None
    if origin is Path:
        return isinstance(value, os.PathLike)
    if origin is Callable:
        return callable(value)
    if issubclass(origin, Mapping):
        return isinstance(value, Mapping) and all(
            _fits(part, of) for pair in value.items() for part, of in zip(pair, inside)
        )
    if issubclass(origin, Iterable) and inside and origin is not tuple:
        listed = isinstance(value, list | tuple) if origin is list else is_listed(value)
        return listed and (isinstance(value, Iterator) or all(_fits(part, inside[0]) for part in value))
    return isinstance(value, origin)


def _converted(value: Any, hint: Any) -> Any:
    """Convert a value that fits to Python's own numbers and lists."""
    kind = next(kind for kind in _kinds(hint) if _fits(value, kind))
    origin, inside = get_origin(kind) or kind, get_args(kind)
    if origin in (int, float):
        return origin(value)
    if origin is list or isinstance(value, Iterator):
        return [_converted(part, inside[0]) for part in value]
    if origin is dict and inside:
        return {name: _converted(part, inside[1]) for name, part in value.items()}
    return value


def _advice(value: Any, hint: Any) -> str:
    """Advise to make an instance of a class, or name the entry of a list that is wrong."""
    for kind in _kinds(hint):
        origin, inside = get_origin(kind) or kind, get_args(kind)
        if isinstance(value, type) and isinstance(origin, type) and issubclass(value, origin):
            return f"make an instance: {value.__name__}(...)"
        listed = isinstance(origin, type) and issubclass(origin, Iterable) and not issubclass(origin, Mapping)
        if isinstance(value, list | tuple) and inside and listed:
            wrong = next((part for part in value if not _fits(part, inside[0])), None)
            if wrong is not None:
                advice = _advice(wrong, inside[0])
                return f"it holds {found(wrong)}{f', {advice}' if advice else ''}"
    return ""


def _words(hint: Any) -> str:
    options = [option for kind in _kinds(hint) for option in _options(kind)]
    if "a number" in options:
        options = [option for option in options if option != "an integer"]
    options = sorted(dict.fromkeys(options), key=lambda option: option == "None")
    return " or ".join([", ".join(options[:-1]), options[-1]] if len(options) > 1 else options)


def _options(kind: Any) -> list[str]:
    origin, inside = get_origin(kind) or kind, get_args(kind)
    if origin is bool:
        return ["True", "False"]
    if origin is Literal:
        return [repr(literal) for literal in inside]
    if origin in _PLAIN:
        return [_PLAIN[origin]]
    if origin is Callable:
        return ["a function"]
    if not isinstance(origin, type):
        return ["anything"]
    if issubclass(origin, Mapping):
        return ["a mapping"]
    if inside and issubclass(origin, Iterable):
        parts = [f"{option.split()[-1]}s" for kind in _kinds(inside[0]) for option in _options(kind)]
        return [f"a list of {' and '.join([', '.join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)}"]
    return [_article(origin.__name__)]


def _article(name: str) -> str:
    return f"{'an' if name[:1].lower() in 'aeiou' else 'a'} {name}"

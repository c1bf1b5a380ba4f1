"""What arguments and settings may be, checked where they enter: by their type hints, and by what a table adds.

A refusal is one sentence: the argument's name, what was found, what it must be, and, for common mistakes, what to write
instead. Numbers of numpy's become Python's own. Nothing here knows torch.
"""

from __future__ import annotations

import difflib
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

from gradual.errors import InputError

P = ParamSpec("P")
R = TypeVar("R")

_LONGEST = 80
_PLAIN = {int: "an integer", float: "a number", str: "text", NoneType: "None", Path: "a path"}


def _as_it_is(value: Any) -> Any:
    return value


@dataclass(frozen=True)
class Accepted:
    """What a value must be.

    Attributes:
        words: After "it must be".
        wrong: None for a value that is accepted; for others advice on what to write instead, which may be empty.
        convert: Makes the value that is used of the one that was given.
    """

    words: str
    wrong: Callable[[Any], str | None]
    convert: Callable[[Any], Any] = _as_it_is

    def check(self, name: str, value: Any) -> Any:
        """The value, converted.

        Raises:
            InputError: It is not accepted; ``name`` says what it is the value of.
        """
        advice = self.wrong(value)
        if advice is not None:
            raise InputError(f"{name} is {found(value)}: it must be {self.words}{f'; {advice}' if advice else ''}.")
        return self.convert(value)

    def advised(self, advice: Callable[[Any], str]) -> Accepted:
        """The same, with advice for values that are refused."""
        return replace(self, wrong=lambda value: None if self.wrong(value) is None else advice(value))


def integer(least: int | None = None, most: int | None = None) -> Accepted:
    """An integer in a range; True and False are none."""
    words = "an integer"
    if least is not None:
        words += f" of at least {least}" if most is None else f" from {least} to {most}"

    def wrong(value: Any) -> str | None:
        inside = _fits(value, int) and (least is None or value >= least) and (most is None or value <= most)
        return None if inside else ""

    return Accepted(words, wrong, int)


def number(least: float | None = None, *, above: float | None = None, below: float | None = None) -> Accepted:
    """A finite number in a range, as a float."""
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
    """What a type hint says: plain types, classes, unions, literals, functions, lists and mappings of these."""
    return Accepted(
        _words(hint),
        lambda value: None if _fits(value, hint) else _advice(value, hint),
        lambda value: _converted(value, hint),
    )


def check(name: str, value: Any, hint: Any, accepted: Accepted | None = None) -> Any:
    """The value of an argument or field, converted: what ``accepted`` says, else its type hint; None where that has it.

    Raises:
        InputError: It is not accepted.
    """
    if value is None and _fits(None, hint):
        return None
    if accepted is None:
        return of_hint(hint).check(name, value)
    return (replace(accepted, words=f"{accepted.words}, or None") if _fits(None, hint) else accepted).check(name, value)


def check_fields(config: Any, pattern: str = "{}", **accepted: Accepted) -> None:
    """Check the fields of a dataclass, from its ``__post_init__``; converted values take their places.

    Args:
        config: The dataclass, frozen or not.
        pattern: Makes a field's name in a message, e.g. ``optimizer.{}``.
        accepted: What a field must be, where its type hint does not say all of it.
    """
    hints = get_type_hints(type(config))
    for each in fields(config):
        name, value = each.name, getattr(config, each.name)
        object.__setattr__(config, name, check(pattern.format(name), value, hints[name], accepted.get(name)))


def checked(**accepted: Accepted) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """A decorator: the function's arguments are checked by name before it runs, calls that do not fit included.

    Args:
        accepted: What an argument must be, where its type hint does not say all of it.
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        signature = inspect.signature(function)

        @functools.wraps(function)
        def checking(*args: P.args, **kwargs: P.kwargs) -> R:
            bound = _bound(function, signature, args, kwargs)
            hints = _hints(function)
            for name, value in bound.arguments.items():
                if name in hints and signature.parameters[name].kind not in (
                    inspect.Parameter.VAR_POSITIONAL,
                    inspect.Parameter.VAR_KEYWORD,
                ):
                    bound.arguments[name] = check(name, value, hints[name], accepted.get(name))
            return function(*bound.args, **bound.kwargs)

        return checking

    return decorate


def did_you_mean(name: Any, names: Iterable[str]) -> str:
    """A question for the nearest of ``names``, to put behind a sentence; empty where none is near."""
    names, name = list(names), str(name)
    longer = [other for other in names if other.endswith((f"_{name}", f".{name}"))]
    close = longer or difflib.get_close_matches(name, names, n=1)
    return f" Did you mean '{close[0]}'?" if close else ""


def found(value: Any) -> str:
    """A value in a message: itself where it is plain and short, else what it is."""
    if isinstance(value, type):
        return f"the class {value.__name__}"
    if value is None or isinstance(value, str | bytes | numbers.Number):
        text = repr(value)
        return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."
    if isinstance(value, os.PathLike):
        return f"the path {os.fspath(value)!r}"
    if inspect.isroutine(value):
        name = getattr(value, "__name__", "")
        return "a function" if not name or name == "<lambda>" else f"the function {name}"
    if type(value) in (list, tuple, dict, set):
        parts = [*value, *(value.values() if isinstance(value, dict) else ())]
        plain = all(part is None or isinstance(part, str | numbers.Number) for part in parts)
        text = repr(value)
        return text if plain and len(text) <= _LONGEST and "\n" not in text else _article(type(value).__name__)
    return _article(type(value).__name__)


def is_listed(value: Any) -> bool:
    """Whether a value is a list of some kind; text, mappings and sets, which have no order, are not."""
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
        takes = f"it takes {', '.join(accepted)}{' and settings by name' if several else ''}."
        for name in kwargs:
            if not several and name not in accepted:
                hint = did_you_mean(name, accepted)
                raise InputError(f"{owner} has no argument '{name}'; {takes}{hint}") from None
        raise InputError(f"{owner}: {error}; {takes}") from None


@functools.cache
def _hints(owner: Any) -> dict[str, Any]:
    return get_type_hints(owner)


def _kinds(hint: Any) -> tuple[Any, ...]:
    """The members of a union, or the type alone."""
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
        return isinstance(value, numbers.Real) and not isinstance(value, bool) and not math.isnan(value)
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
    """``value``, which fits, with Python's own numbers and lists."""
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
    """What to write instead of a class where its instance belongs, and which entry of a list is the wrong one."""
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

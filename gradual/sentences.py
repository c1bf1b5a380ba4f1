"""What the parser of the command line says of a mistake, as one sentence."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence

_WORDS = {
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "str": "text",
    "list": "a list",
    "dict": "a mapping",
    "NoneType": "null",
}
_IN_GROUP = re.compile(r"""Parser key "([\w.]+)": Unable to load config (['"].*?['"]) - (Parser key "([\w.]+)".*)""")
_TYPE = re.compile(
    r'Parser key "([\w.]+)": (?:Expected an? (.+)\. Got value'
    r"|Does not validate against any of the Union subtypes Subtypes: \[(.+?)\] Errors: .* Given value): (.*)"
)
_UNKNOWN = re.compile(r"(?:[Uu]nrecognized arguments: --|accept (?:nested key|option|key) '|Option ')([\w.]+)")


def sentence_of(message: str, known: Sequence[str]) -> str:
    """The parser's message as one sentence.

    Args:
        message: The message, of any number of lines.
        known: The names of all settings.
    """
    sentence = " ".join(line.strip() for line in message.splitlines() if line.strip())
    while (group := _IN_GROUP.match(sentence)) and group[4] != group[1]:
        sentence = group[3]  # what is wrong is inside of it
    if group:
        return _of_group(group[1], group[2], known)
    if (mistake := _TYPE.fullmatch(sentence)) and (accepted := _accepted(mistake[2] or mistake[3])):
        return f"{mistake[1]} is {mistake[4]!r}: accepted is {accepted}."
    if "arguments are required" in sentence:
        return f"{sentence}. Give a configuration: --config FILE."
    if unknown := _UNKNOWN.search(sentence):
        close = difflib.get_close_matches(unknown[1], sorted(set(known)), n=1)
        return f"{sentence.rstrip('.')}." + (f" Did you mean '{close[0]}'?" if close else "")
    return sentence


def _of_group(name: str, value: str, known: Sequence[str]) -> str:
    inside = [other for other in known if other.startswith(f"{name}.") and not other.endswith(".help")]
    single = next(one for one in inside if not any(other.startswith(f"{one}.") for other in inside))
    return (
        f"{name} is {value}: it is a group of settings; accepted are a mapping of them, a file with one, or single "
        f"ones, such as --{single}."
    )


def _accepted(types: str) -> str | None:
    """Types as words; None where there are none for one of them."""
    words: list[str] = []
    for part in _split(types):
        kind = re.fullmatch(r"<class '(\w+)'>|(list|dict)\[.*\]|typing\.Literal\[(.*)\]", part)
        if kind is None or not (kind[3] or (kind[1] or kind[2]) in _WORDS):
            return None
        words += [word.strip(" '\"") for word in kind[3].split(",")] if kind[3] else [_WORDS[kind[1] or kind[2]]]
    if _WORDS["float"] in words and _WORDS["int"] in words:
        words.remove(_WORDS["int"])
    words = list(dict.fromkeys(words))
    return " or ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def _split(types: str) -> list[str]:
    """The parts between commas that are not in brackets."""
    parts, depth = [""], 0
    for character in types:
        depth += (character == "[") - (character == "]")
        if character == "," and not depth:
            parts.append("")
        else:
            parts[-1] += character
    return [part.strip() for part in parts]

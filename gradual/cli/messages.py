"""The parser's error messages, rewritten as one sentence each."""

from __future__ import annotations

import ast
import importlib
import re
from collections.abc import Iterable, Sequence

from gradual.cli.class_paths import GROUPS_OF_SETTINGS, public_path, what_is_wrong
from gradual.cli.setting_names import nearest_setting

_WORDS = {
    "int": "an integer",
    "float": "a number",
    "bool": "true or false",
    "str": "text",
    "list": "a list",
    "dict": "a mapping",
    "NoneType": "null",
}
_BASES = ("lightning.LightningModule", "gradual.MixedDomainDataModule")  # used if no class is given
_VALUES = {"optimizer": "class_path", "lr_schedule": "name"}  # the setting that is meant if a group is given a value
_OF_OTHERS = {
    "ckpt_path": "--ckpt_path is a setting of gradual validate, test and predict; training resumes by itself.",
    "resume": "There is no setting --resume: the same command resumes where it stopped.",
}
_IN_GROUP = re.compile(r"""Parser key "([\w.]+)": Unable to load config (['"].*?['"]) - (Parser key "([\w.]+)".*)""")
_TYPE = re.compile(
    r'Parser key "([\w.]+)": (?:Expected an? (.+)\. Got value'
    r"|Does not validate against any of the Union subtypes Subtypes: \[(.+?)\] Errors: .* Given value): (.*)"
)
_CLASS = re.compile(
    r'Parser key "([\w.]+)"(?: element \d+)?: .*?Subtypes: \[(.*?)\] Errors: (.*) '
    r"Given value type: .*? Given value:(.*)"
)
_NO_FILE = re.compile(r"""Parser key "config": File does not exist: '(.*)'""")
_EXTRA = re.compile(r"[Uu]nrecognized arguments: (.*)")
_UNKNOWN = re.compile(r"(?:accept (?:nested key|option|key) '|Option ')(.*?)'")
_REQUIRED = re.compile(r"the following arguments are required: (.*)")
_NO_VALUE = re.compile(r"argument (?:-\w/)?(--[\w.]+)[^:]*: expected one argument")


def sentence_of(message: str, known: Sequence[str]) -> str:
    """The parser's message as one sentence.

    Args:
        message: The message, of any number of lines.
        known: The names of all settings.
    """
    sentence = " ".join(line.strip() for line in message.splitlines() if line.strip())
    while (group := _IN_GROUP.match(sentence)) and group[4] != group[1]:
        sentence = group[3]  # the mistake is inside the group
    if group:
        return _of_group(group[1], group[2][1:-1], known)
    if (mistake := _TYPE.fullmatch(sentence)) and (accepted := _accepted(mistake[2] or mistake[3])):
        value = "null" if mistake[4] == "None" else repr(mistake[4])
        example = f", such as [{mistake[4]}]" if accepted == _WORDS["list"] and mistake[4].isalnum() else ""
        return f"{mistake[1]} is {value}: it must be {accepted}{example}."
    if (mistake := _CLASS.fullmatch(sentence)) and (said := _of_class(*mistake.groups())):
        return said
    if no_file := _NO_FILE.fullmatch(sentence):
        return f"--config {no_file[1]} does not exist: give a configuration file, as gradual init writes it."
    if missing := _REQUIRED.search(sentence):
        return _of_missing(missing[1])
    if no_value := _NO_VALUE.search(sentence):
        return f"{no_value[1]} has no value: give one, as in {no_value[1]}=VALUE."
    if extra := _EXTRA.search(sentence):
        return _of_extra(extra[1], known)
    if unknown := _UNKNOWN.search(sentence):
        closest = nearest_setting(unknown[1], known)
        return f"There is no setting '{unknown[1]}'." + (f" Did you mean '{closest}'?" if closest else "")
    return sentence


def sentence_of_class(message: str, path: str, group: str, known: Sequence[str]) -> str:
    """The parser's message about the settings of a class as one sentence.

    Args:
        message: The message.
        path: The class path, or the setting that has the settings of the class as a mapping.
        group: ``model``, ``data`` or such a setting; empty for other classes.
        known: The names of the settings of the class.
    """
    prefix = f"{group}." if group else ""
    if missing := _REQUIRED.search(message):
        names = missing[1].split(", ")
        options = listed(f"--{prefix}{name}" for name in names)
        in_a_file = f"init_args: {{{', '.join(f'{name}: ...' for name in names)}}}"
        return f"{path} needs {listed(names)}: give {f'{options}, or ' if group else ''}{in_a_file}."
    if unknown := _EXTRA.search(message) or _UNKNOWN.search(message):
        name = unknown[1].removeprefix("--").partition("=")[0].partition(" ")[0]
        if name == "class_path" and path != group:
            return _beside(group or "A setting", path)
        if path in _BASES:
            return f"{group} has the setting '{name}' but no class: give --{group} CLASS, or class_path in the file."
        settings = sorted({other for other in known if other != "help" and not other.endswith(".help")})
        wanted = [f"{prefix}{other}" for other in settings]
        closest = nearest_setting(f"{prefix}{name}", wanted)
        if closest not in wanted:
            closest = None
        said = f"{path} has no setting '{name}'"
        if closest:
            return f"{said}. Did you mean '{closest}'?"
        return f"{said}; its settings are {listed(settings)}." if settings else f"{said}; it has none."
    return sentence_of(message.replace('Parser key "', f'Parser key "{prefix}', 1), known)


def _with_settings_beside(value: str) -> str | None:
    """The class path in a mapping, or in one of a list, that has the settings of the class beside it."""
    try:
        given = ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return None
    for item in given if isinstance(given, list) else [given]:
        if isinstance(item, dict) and "class_path" in item and {*item} - {"class_path", "init_args", "dict_kwargs"}:
            return str(item["class_path"])
    return None


def _beside(name: str, path: str) -> str:
    return (
        f"{name} has settings beside class_path; they belong in init_args: {{class_path: {path}, init_args: {{...}}}}."
    )


def listed(parts: Iterable[str]) -> str:
    """Join words as in ``a, b and c``."""
    *most, last = parts
    return f"{', '.join(most)} and {last}" if most else last


def _of_group(name: str, value: str, known: Sequence[str]) -> str:
    given = "null" if value in ("null", "None") else repr(value)
    meant = _VALUES.get(name.rpartition(".")[2])
    if meant and given != "null" and re.fullmatch(r"[A-Za-z][\w.]*", value):
        return f"{name} is {given}: it is a group of settings. Did you mean --{name}.{meant}={_full_path(value)}?"
    inside = [other for other in known if other.startswith(f"{name}.") and not other.endswith((".help", ".class_path"))]
    single = next(one for one in inside if not any(other.startswith(f"{one}.") for other in inside))
    return f"{name} is {given}: it is a group of settings, such as --{single}; leave it out to keep the defaults."


def _full_path(name: str) -> str:
    """The name of one of torch's optimizers, with its module."""
    optimizers = importlib.import_module("torch.optim")
    return f"torch.optim.{name}" if "." not in name and hasattr(optimizers, name) else name


def _of_class(key: str, types: str, errors: str, value: str) -> str | None:
    """Explain what is wrong with the value of a setting that takes a class; None for other settings."""
    parts = _split(types)
    bases = tuple(dict.fromkeys(base for part in parts for base in _classes_of(part)))
    if not bases:
        return None
    value = value.strip()
    for base in bases:
        if public_path(base) in GROUPS_OF_SETTINGS:
            _, example = GROUPS_OF_SETTINGS[public_path(base)]
            shown = value if re.fullmatch(r"[\w.+-]+|\[.*\]", value) else repr(value)
            return f"{key} is {shown}: it must be a mapping of settings, such as {example}."
    if mixed := _with_settings_beside(value):
        return _beside(key, mixed)
    if path := re.search(r"[Pp]roblem with given class_path '([^']*)'", errors):
        value = path[1]
    elif path := re.search(r"'class_path': '([^']*)'|class_path='([^']*)'", value):
        value = path[1] or path[2]
    plain = [part for part in parts if not _classes_of(part)]
    others = [] if key in ("model", "data") else [word for part in plain if (word := _accepted(part))]
    if not re.fullmatch(r"[A-Za-z_][\w.]*", value) and others:
        names = " or ".join(base.__name__ for base in bases)
        return f"{key} is {value!r}: it must be {', '.join(others)} or the path of a {names} class."
    return what_is_wrong(key, value, bases)


def _classes_of(part: str) -> list[type]:
    """The importable classes in the text of a type."""
    found = []
    for path in re.findall(r"<class '([\w.]+\.\w+)'>", part) or re.findall(r"\[((?:\w+\.)+\w+)\]", part):
        module, _, name = path.rpartition(".")
        try:
            cls = getattr(importlib.import_module(module), name, None)
        except ImportError:
            continue
        if isinstance(cls, type) and not module.startswith(("collections", "typing", "datetime")):
            found.append(cls)
    return list(dict.fromkeys(found))


def _of_missing(names: str) -> str:
    missing = [name.rpartition(".")[2] for name in names.split(", ")]
    if not set(missing) <= {"model", "data"}:
        return f"The following arguments are missing: {names}."
    options = listed([f"--{name} my_module.My{name.capitalize()}" for name in sorted(missing, reverse=True)])
    what = "There is no model" if missing == ["model"] else "There is no data"
    what = "There are no model and no data" if len(missing) > 1 else what
    return f"{what}: give a configuration, as in --config FILE, or {options}."


def _of_extra(found: str, known: Sequence[str]) -> str:
    """Explain that options do not exist, or that values belong to no option."""
    names = [part[2:].partition("=")[0] for part in found.split() if part.startswith("--") and len(part) > 2]
    if not names:
        return (
            f"{found!r} belongs to no setting: write settings as --NAME VALUE, and a list as one value, as in "
            "--schedule '[4000, 500, 0]'."
        )
    said = []
    for name in names:
        closest = nearest_setting(name, known)
        hint = f" Did you mean --{closest}?" if closest else ""
        said.append(_OF_OTHERS.get(name) or f"There is no setting --{name}.{hint}")
    return " ".join(said)


def _accepted(types: str) -> str | None:
    """A type in words; None if there are no words for a part of it."""
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
    """Split at the commas outside brackets."""
    parts, depth = [""], 0
    for character in types:
        depth += (character == "[") - (character == "]")
        if character == "," and not depth:
            parts.append("")
        else:
            parts[-1] += character
    return [part.strip() for part in parts]

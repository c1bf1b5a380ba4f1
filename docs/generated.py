"""What the handbook takes from the program: the help of each command, each setting, and where names are documented."""

import contextlib
import io
import os
import pkgutil
import re
import sys
from unittest import mock

from gradual.__main__ import main
from gradual.cli.class_paths import OWN_CLASSES, public_path
from gradual.cli.commands import LIGHTNING_COMMANDS
from gradual.cli.help import described, shown_settings
from gradual.cli.lightning_cli_internals import actions_of
from gradual.cli.parsers import class_settings, command_parser

_COLUMNS = "96"  # of the help


def fill_in(app, name, source):
    """Replace ``<!-- generated: commands -->`` and the like by what is generated."""
    made = {"commands": commands, "settings": settings, "classes": classes}
    source[0] = re.sub(r"<!-- generated: (\w+) -->", lambda found: made[found[1]](), source[0])


def commands():
    """A section a command, with its help."""
    found = re.findall(r"^    (\w[\w-]*)(?:  |\n)", _help("--help").partition("\ncommands:")[2], re.MULTILINE)
    return "\n".join(f"## {name}\n\n```text\n{_help(name, '--help')}\n```\n" for name in found)


def settings():
    """A section for each group of settings of ``gradual compare``, with those that other commands add."""
    sections = {}
    for command in ("compare", "fit", "predict", *LIGHTNING_COMMANDS):
        for title, actions in shown_settings(command, actions_of(command_parser(command))):
            known = sections.setdefault(title, {})
            known.update({one.dest: one for one in actions if one.option_strings and one.dest not in known})
    parts = []
    for title, actions in sections.items():
        entries = [_entry(one) for one in actions.values() if not one.dest.endswith("help")]
        parts.append(f"## {title}\n\n" + "\n\n".join(entries))
    return "\n\n".join([*parts, _overrides()])


def _overrides():
    """A section with what a stage can override."""
    own = [one for one in actions_of(command_parser("fit")) if re.fullmatch(r"last_stage\.\w+", one.dest)]
    names = {one.dest.partition(".")[2]: one for one in own if one.option_strings}
    entries = [_entry(one, name) for name, one in names.items() if name not in ("optimizer", "lr_schedule")]
    text = (
        "What a stage, `later_stages`, `last_stage` and a strategy can override, besides `optimizer` and `lr_schedule`:"
    )
    return f"## Overrides\n\n{text}\n\n" + "\n\n".join(entries)


def classes():
    """A section a class of the package, with its settings."""
    parts = []
    for group, paths in OWN_CLASSES.items():
        for path, text in paths.items():
            entries = [
                _entry(one, name=one.dest) for one in class_settings(group, path) if not one.dest.endswith("help")
            ]
            name = path.rpartition(".")[2]
            parts.append(f"## {name}\n\n`--{group} {name}`: {text}.\n\n" + "\n\n".join(entries))
    return "\n\n".join(parts)


def _entry(action, name=None):
    """A setting, with its type and default; under another name it has no entry in the index."""
    found = described(action)
    default = f"default `{_plain(found.default)}`" if found.default not in (None, "") else ""
    about = ", ".join(filter(None, [found.kind and f"`{found.kind}`", default]))
    lines = [f"```{{confval}} {name or action.dest}", *([":no-index:"] if name else []), "", about, ""]
    return "\n".join([*lines, _markdown(found.markup), "```"])


def _markdown(text):
    """A help text as a sentence of Markdown; names in it have the marks of docstrings."""
    text = re.sub(r":\w+:`~?([^`]*)`", r"``\1``", text.rstrip("."))
    parts = re.split(r"(``[^`]*``|`[^`]*`)", text[:1].upper() + text[1:] + ".")
    return "".join(one if one.startswith("`") else re.sub(r"([*_<>{}\[\]\\])", r"\\\1", one) for one in parts)


def _plain(value):
    return str(value).lower() if isinstance(value, bool) else value


def _help(*arguments):
    shown = io.StringIO()
    given = [mock.patch.object(sys, "argv", ["gradual"]), mock.patch.dict(os.environ, {"COLUMNS": _COLUMNS})]
    with contextlib.ExitStack() as stack:
        for one in [*given, contextlib.redirect_stdout(shown), contextlib.suppress(SystemExit)]:
            stack.enter_context(one)
        main(list(arguments))
    return shown.getvalue().rstrip()


def resolve_name(app, env, node, content):
    """Link a name of the package by the path under which it is documented; names of other packages stay text."""
    if node.get("refdomain") != "py":
        return None
    target = node["reftarget"]
    if target.partition(".")[0] != "gradual":
        return content
    try:
        path = public_path(pkgutil.resolve_name(target))
    except (AttributeError, ImportError):
        return None
    domain = env.domains["py"]
    found = domain.resolve_any_xref(env, node["refdoc"], app.builder, path, node, content)
    return found[0][1] if found else content

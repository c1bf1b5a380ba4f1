"""What the command line says against what configuration files say: it holds, or it is refused with the reason."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml
from jsonargparse import Namespace

from gradual.cli.messages import listed
from gradual.errors import InputError

COMPARISON = ("strategies", "seeds", "metrics", "baseline", "jobs", "ray")
"""Settings of ``gradual compare`` alone."""

_EXPERIMENT_SETTINGS = {  # what a stage calls them: what the experiment calls them
    "max_epochs": "trainer.max_epochs",
    "gradient_clip_val": "trainer.gradient_clip_val",
    "patience": "patience",
    "batch_size": "data.batch_size",
}
_GROUPS = ("optimizer", "lr_schedule")


def ordered(arguments: Sequence[str]) -> list[str]:
    """The same arguments with configuration files, then classes, before all others that follow the command's name.

    The parser lets whatever comes last hold; so a file never changes what an option says, wherever it stands, and a
    class does not drop settings that were given before it.
    """
    command, rest = list(arguments[:1]), list(arguments[1:])
    groups: dict[str, list[str]] = {"--config": [], "--model": [], "--data": [], "": []}
    while rest:
        argument = rest.pop(0)
        name, equals, _ = argument.partition("=")
        group = groups["--config" if name == "-c" else name if name in groups else ""]
        group.append(argument)
        if group is not groups[""] and not equals and rest:
            group.append(rest.pop(0))
    return [*command, *(argument for group in groups.values() for argument in group)]


def named_settings(arguments: Sequence[str]) -> dict[str, str]:
    """The settings that options name, with the text given for each; a mapping for a group counts by its entries."""
    named: dict[str, str] = {}
    for position, argument in enumerate(arguments):
        if not argument.startswith("--"):
            continue
        name, equals, value = argument[2:].partition("=")
        if not equals and position + 1 < len(arguments):
            value = arguments[position + 1]
        name = name.rstrip("+").replace(".init_args.", ".")
        for full_name, text in _entries(name, value):
            named[full_name] = text
    return named


def _entries(name: str, text: str) -> Iterator[tuple[str, str]]:
    try:
        value = yaml.safe_load(text) if text.lstrip().startswith("{") and name not in COMPARISON else None
    except yaml.YAMLError:  # the parser says so
        value = None
    if not isinstance(value, Mapping):
        yield name, text
        return
    for key, part in value.items():
        prefix = name if key == "init_args" else f"{name}.{key}"
        yield from _entries(prefix, yaml.safe_dump(part, default_flow_style=True).removesuffix("\n...\n").strip())


def check_command(command: str, named: Mapping[str, str]) -> None:
    """Refuse options that a command ignores; a file that all commands share may have them.

    Raises:
        InputError: There is one.
    """
    for name in named:
        top = name.partition(".")[0]
        if top in COMPARISON and command != "compare":
            instead = " Did you mean --seed_everything?" if top == "seeds" else ""
            raise InputError(f"--{top} is a setting of gradual compare: gradual {command} would ignore it.{instead}")
        if top == "predictions" and command != "predict":
            raise InputError(f"--{top} is a setting of gradual predict: gradual {command} would ignore it.")
        if top == "seed_everything" and command == "compare":
            raise InputError("gradual compare trains with each of --seeds, and would ignore --seed_everything.")


def settle(config: Namespace, command: str, named: Mapping[str, str]) -> list[str]:
    """Let the command line hold over what files say of single stages and of strategies.

    Args:
        config: The configuration that was parsed; changed where the command line holds.
        command: The subcommand.
        named: The command line's settings, as ``named_settings`` gives them.

    Returns:
        Sentences that say what in the files is not used.

    Raises:
        InputError: Something of the command line would have no effect.
    """
    config.schedule, config.strategies = copy.deepcopy(config.schedule), copy.deepcopy(config.strategies)
    paths: dict[str, Any] = {} if "schedule" in named else {"the schedule": config.schedule}
    if command == "compare" and isinstance(config.strategies, Mapping):
        _check_schedule(config.strategies, named)
        on_the_command_line = named.get("strategies", "").lstrip().startswith("{")  # else names select from a file
        from_files = {} if on_the_command_line else config.strategies
        paths = {f"the strategy '{name}'": path for name, path in from_files.items()}
    overrides = [*_of_groups(config, named), *(found for path in paths.items() for found in _of_path(*path, named))]
    refused = [override for override in overrides if override.field not in _EXPERIMENT_SETTINGS]
    if refused:
        first = refused[0]
        raise InputError(
            f"--{first.option} {named[first.option]} would not hold in {listed(o.text for o in refused)}, which a file "
            f"sets: {first.way_out}, or change the file."
        )
    notes: dict[str, list[str]] = {}
    for override in overrides:
        notes.setdefault(override.option, []).append(override.text)
        override.drop()
    return [
        f"--{option} {named[option]} holds in every stage; what the files say of {listed(texts)} is not used."
        for option, texts in notes.items()
    ]


@dataclass
class _Override:
    """What a file says of one setting of single stages, where an option says it for more of them."""

    option: str
    field: str
    where: str
    holder: Any

    @property
    def text(self) -> str:
        return f"{self.where} ({self.field}: {self.holder[self.field.rpartition('.')[2]]})"

    @property
    def way_out(self) -> str:
        if self.where in ("later_stages", "last_stage"):
            return f"give --{self.where}.{self.field} as well"
        return "give the stages on the command line as well"

    def drop(self) -> None:
        name = self.field.rpartition(".")[2]
        if isinstance(self.holder, Namespace):
            self.holder[name] = None
        else:
            del self.holder[name]


def _of_groups(config: Namespace, named: Mapping[str, str]) -> Iterator[_Override]:
    for where in ("later_stages", "last_stage"):  # the last stage comes before the later ones, wherever they are set
        settings = config.get(where)
        if not isinstance(settings, Namespace):
            continue
        for field, holder in _fields(settings):
            option = _strongest(field, (), named)
            if option and f"{where}.{field}" not in named:
                yield _Override(option, field, where, holder)


def _of_path(where: str, path: Any, named: Mapping[str, str]) -> Iterator[_Override]:
    stages = path.get("schedule") if isinstance(path, Mapping) else path
    if not isinstance(stages, list):
        return
    for index, stage in enumerate(stages):
        if not isinstance(stage, Mapping | Namespace):
            continue
        below = ("later_stages", "last_stage")[: (index > 0) + (0 < index == len(stages) - 1)]
        # entries that YAML's anchors share are dropped once for each stage
        stages[index] = stage = copy.deepcopy(stage)
        for field, holder in _fields(stage):
            if option := _strongest(field, below, named):
                yield _Override(option, field, f"stage {index + 1} of {where}", holder)


def _fields(settings: Mapping[str, Any] | Namespace, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The names of what is set, with the mapping that holds each."""
    for name, value in list(vars(settings).items() if isinstance(settings, Namespace) else settings.items()):
        if name in _GROUPS and isinstance(value, Mapping | Namespace):
            yield from _fields(value, f"{name}.")
        elif name != "amount" and value is not None:
            yield prefix + name, settings


def _strongest(field: str, below: Sequence[str], named: Mapping[str, str]) -> str | None:
    """The option of the narrowest setting that says something of ``field`` for these stages, where there is one."""
    options = [*(f"{where}.{field}" for where in reversed(below)), _EXPERIMENT_SETTINGS.get(field, field)]
    return next((option for option in options if option in named), None)


def _check_schedule(strategies: Mapping[str, Any], named: Mapping[str, str]) -> None:
    if "schedule" in named:
        raise InputError(
            f"--schedule {named['schedule']} would do nothing: the strategies {listed(map(repr, strategies))} have "
            "amounts of their own. Leave it out, or derive the paper's four strategies from it with --strategies null."
        )

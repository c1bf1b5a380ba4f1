"""Command line against configuration files: an option applies everywhere, or is refused with the reason."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml
from jsonargparse import Namespace

from gradual.cli.messages import listed
from gradual.errors import InputError
from gradual.experiment.strategies import IN_DOMAIN_ONLY, MIXED, follows_schedule

COMPARISON = ("strategies", "controls", "seeds", "metrics", "baseline", "jobs", "ray")
"""The settings that only ``gradual compare`` has, and ``gradual search`` some of them."""

SEARCH = ("budget", "budget_in", "confirm_seeds", "search")
"""The settings that only ``gradual search`` has."""

SEARCH_AND_COMPARISON = ("metrics", "jobs", "ray")

_EVALUATION = ("validate", "test", "predict")
_OF_EVALUATION = (
    *("help", "config", "print_config", "model", "data", "trainer", "ckpt_path", "verbose", "predictions"),
    *("return_predictions", "seed_everything"),
)

_EXPERIMENT_SETTINGS = {  # by the name that a stage has for it, the option for the whole experiment
    "max_epochs": "trainer.max_epochs",
    "max_steps": "trainer.max_steps",
    "gradient_clip_val": "trainer.gradient_clip_val",
    "patience": "patience",
    "batch_size": "data.batch_size",
}
_GROUPS = ("optimizer", "lr_schedule")
_POSITIONS = ("later_stages", "last_stage")  # the narrower one last


def ordered(arguments: Sequence[str]) -> list[str]:
    """The same arguments with the configuration files first, then the classes, then all others.

    In the parser the last one wins. In this order a file never overrides an option, wherever it was given, and a class
    does not discard settings that were given before it.
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
    """The text given for each setting on the command line; a mapping for a group is split into its settings."""
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
    except yaml.YAMLError:  # the parser reports it
        value = None
    if not isinstance(value, Mapping):
        yield name, text
        return
    for key, part in value.items():
        prefix = name if key == "init_args" else f"{name}.{key}"
        yield from _entries(prefix, yaml.safe_dump(part, default_flow_style=True).removesuffix("\n...\n").strip())


def check_command(command: str, named: Mapping[str, str]) -> None:
    """Refuse options that a command would ignore; files, which all commands share, may have them.

    Raises:
        InputError: The command would ignore one of ``named``.
    """
    for name in named:
        top = name.partition(".")[0]
        if top in SEARCH and command != "search":
            raise InputError(f"--{top} is a setting of gradual search: gradual {command} would ignore it.")
        if top in COMPARISON and command != "compare" and (command != "search" or top not in SEARCH_AND_COMPARISON):
            instead = " Did you mean --seed_everything?" if top == "seeds" else ""
            if command == "search":
                instead = " Did you mean --confirm_seeds?" if top == "seeds" else ""
            raise InputError(f"--{top} is a setting of gradual compare: gradual {command} would ignore it.{instead}")
        if command in _EVALUATION and top not in _OF_EVALUATION:
            instead = f" Give the run directory by itself: gradual {command} RUN_DIR." if top == "run_dir" else ""
            raise InputError(f"--{name} is a setting of training: gradual {command} would ignore it.{instead}")
        if top == "predictions" and command != "predict":
            raise InputError(f"--{top} is a setting of gradual predict: gradual {command} would ignore it.")
        if top == "seed_everything" and command == "compare":
            raise InputError("gradual compare takes its seeds from --seeds and would ignore --seed_everything.")


def settle(config: Namespace, command: str, named: Mapping[str, str]) -> list[str]:
    """Give the command line precedence over what files say of single stages and strategies.

    Args:
        config: The parsed configuration; overrides that options replace are removed from it.
        command: The subcommand.
        named: The settings on the command line, as ``named_settings`` returns them.

    Returns:
        One sentence for each option that replaces something in the files.

    Raises:
        InputError: An option would not apply everywhere.
    """
    config.schedule, config.strategies = copy.deepcopy(config.schedule), copy.deepcopy(config.strategies)
    notes = [*_of_monitor(config, named), *_of_batches(config, named)]
    _check_positions(config, command, named)
    compared: dict[str, Any] = {}
    if command == "compare" and isinstance(config.strategies, dict):
        compared = config.strategies
    on_command_line = named.get("strategies", "").lstrip().startswith("{")  # else names select from a file
    if compared and "schedule" in named:
        _check_schedule(compared, named["schedule"], on_command_line)
    overrides = [*_of_positions(config, named)]
    if not _typed(named.get("schedule", "")) and (not compared or any(map(follows_schedule, compared.values()))):
        overrides += _of_stages("the schedule", config.schedule, named)
    for name in () if on_command_line else compared:
        compared[name] = copy.deepcopy(compared[name])  # YAML's aliases are one object: each strategy gets its own
        overrides += _of_strategy(name, compared[name], named)
    refused = [override for override in overrides if override.way_out]
    if refused:
        first = refused[0]
        raise InputError(
            f"--{first.option} {named[first.option]} would not apply to {listed(o.text for o in refused)}, which a "
            f"file sets: {first.way_out}, or change the file."
        )
    replaced: dict[str, list[str]] = {}
    for override in overrides:
        replaced.setdefault(override.option, []).append(override.text)
        override.drop()
    replacing = (f"--{option} {named[option]} replaces {listed(texts)}" for option, texts in replaced.items())
    return [*notes, *(f"{one} of the files." for one in replacing)]


def _typed(schedule: str) -> bool:
    """Whether a schedule on the command line is written there, not in a file that it names."""
    return schedule.lstrip().startswith("[")


def _of_monitor(config: Namespace, named: Mapping[str, str]) -> Iterator[str]:
    """Let the name of a score say which values are better; what a file says is of the file's score."""
    if "monitor" in named and "mode" not in named and config.get("mode", "auto") != "auto":
        yield f"--monitor {named['monitor']} replaces the mode '{config.mode}' of the files as well: it is auto."
        config.mode = "auto"


def _of_batches(config: Namespace, named: Mapping[str, str]) -> Iterator[str]:
    """Let the size of a batch on the command line replace the number of tokens that a file sets instead.

    Raises:
        InputError: The command line has both.
    """
    settings = config.get("data.init_args")
    if "data.batch_size" not in named or not settings or settings.get("batch_tokens") is None:
        return
    if "data.batch_tokens" in named:
        raise InputError("--data.batch_size would have no effect beside --data.batch_tokens: give one of them.")
    yield f"--data.batch_size {named['data.batch_size']} replaces batch_tokens: {settings.batch_tokens} of the files."
    settings.batch_tokens = None


def _check_positions(config: Namespace, command: str, named: Mapping[str, str]) -> None:
    """Refuse settings of later stages for a schedule of one stage.

    Raises:
        InputError: One is on the command line.
    """
    if command in ("compare", "search") or not isinstance(config.schedule, list) or len(config.schedule) != 1:
        return
    for name in named:
        position, _, setting = name.partition(".")
        if position in _POSITIONS:
            instead = f": give --{_experiment_option(setting)}" if setting else ""
            raise InputError(f"--{name} would have no effect, since the schedule has a single stage{instead}.")


@dataclass
class _Override:
    """A setting that a file overrides and that an option of wider scope sets, too.

    Attributes:
        option: The option.
        field: The setting, by its name in a stage.
        where: What the file overrides it for.
        holder: The mapping that has it.
        way_out: What to do instead, where the option cannot simply replace it.
    """

    option: str
    field: str
    where: str
    holder: Any
    way_out: str = ""

    @property
    def text(self) -> str:
        return f"{self.where} ({self.field}: {self.holder[self.field.rpartition('.')[2]]})"

    def drop(self) -> None:
        name = self.field.rpartition(".")[2]
        if isinstance(self.holder, Namespace):
            self.holder[name] = None
        else:
            del self.holder[name]


def _of_positions(config: Namespace, named: Mapping[str, str]) -> Iterator[_Override]:
    for where in _POSITIONS:
        overrides = config.get(where)
        if not isinstance(overrides, Namespace):
            continue
        for field, holder in _fields(overrides):
            option = _experiment_option(field)
            if option in named and f"{where}.{field}" not in named:
                way_out = "" if field in _EXPERIMENT_SETTINGS else f"give --{where}.{field} as well"
                yield _Override(option, field, where, holder, way_out)


def _of_stages(where: str, stages: Any, named: Mapping[str, str]) -> Iterator[_Override]:
    for index, stage in enumerate(stages if isinstance(stages, list) else ()):
        if not isinstance(stage, Mapping | Namespace):
            continue
        positions = _POSITIONS[: (index > 0) + (0 < index == len(stages) - 1)]
        stages[index] = stage = copy.deepcopy(stage)  # as for strategies
        for field, holder in _fields(stage, ("amount",)):
            options = [*(f"{position}.{field}" for position in reversed(positions)), _experiment_option(field)]
            option = next((option for option in options if option in named), None)
            if option:
                way_out = "" if field in _EXPERIMENT_SETTINGS else "give the stages on the command line as well"
                yield _Override(option, field, f"stage {index + 1} of {where}", holder, way_out)


def _of_strategy(name: str, described: Any, named: Mapping[str, str]) -> Iterator[_Override]:
    where = f"the strategy '{name}'"
    stages = described.get("schedule") if isinstance(described, Mapping) else described
    yield from _of_stages(where, stages, named)
    if not isinstance(described, Mapping):
        return
    single = name in (IN_DOMAIN_ONLY, MIXED) if stages is None else isinstance(stages, list) and len(stages) == 1
    for field, holder in _fields(described, ("schedule", "data")):
        everywhere = _experiment_option(field)
        options = [everywhere, *(f"{position}.{field}" for position in _POSITIONS if not single)]
        option = next((option for option in options if option in named), None)
        if option:
            replaceable = option == everywhere and field in _EXPERIMENT_SETTINGS
            way_out = "" if replaceable else "give the strategies on the command line as well"
            yield _Override(option, field, where, holder, way_out)


def _fields(
    overrides: Mapping[str, Any] | Namespace, others: Sequence[str] = (), prefix: str = ""
) -> Iterator[tuple[str, Any]]:
    """The names of the settings that are overridden, without ``others``, each with the mapping that has it."""
    for name, value in list(vars(overrides).items() if isinstance(overrides, Namespace) else overrides.items()):
        if name in _GROUPS and isinstance(value, Mapping | Namespace):
            yield from _fields(value, (), f"{name}.")
        elif name not in others and value is not None:
            yield prefix + name, overrides


def _experiment_option(field: str) -> str:
    return _EXPERIMENT_SETTINGS.get(field, field)


def _check_schedule(strategies: Mapping[str, Any], given: str, on_command_line: bool) -> None:
    """Refuse ``--schedule`` beside strategies that have amounts of their own, unless the command line gives them, too.

    Raises:
        InputError: The schedule would not change all of the strategies.
    """
    own = [name for name, described in strategies.items() if not follows_schedule(described)]
    if own and not (on_command_line and len(own) < len(strategies)):
        them = "the strategy" if len(own) == 1 else "the strategies"
        raise InputError(
            f"--schedule {given} would not change {them} {listed(map(repr, own))}, with amounts of "
            f"{'its' if len(own) == 1 else 'their'} own: give --strategies as well, such as --strategies null for the "
            "paper's four."
        )

"""Help of the commands: the settings of a run first, those of Lightning's Trainer last, without any that is ignored."""

from __future__ import annotations

import argparse
import re
import shutil
import textwrap
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from jsonargparse import DefaultHelpFormatter

from gradual.cli.class_paths import OWN_CLASSES
from gradual.cli.commands import WITH_STAGE
from gradual.cli.lightning_cli_internals import type_text
from gradual.cli.precedence import SEARCH_AND_COMPARISON

_LONGEST_TYPE = 32
_TEXTS = {  # where those of Lightning or jsonargparse do not fit
    "config": "configuration file in YAML, for any command; later files, then options, take precedence",
    "print_config": "print the resulting configuration, to start a file from, and exit",
    "ckpt_path": "checkpoint of a stage, such as runs/gradual/seed-0/2000/best.ckpt",
}
_RUN_DIR = (
    "RUN_DIR is a run directory of gradual fit, whose result is used, or the folder or a checkpoint of a stage. "
    "Without it, give --config and --ckpt_path."
)
_OPTIONS = ("help", "config", "print_config")
_GROUPS = ("trainer", "optimizer", "lr_schedule", "collapse", "search")  # each of their settings is shown
STAGES = ("later_stages", "last_stage")
"""Groups of settings that help shows as a whole: their settings are those of a stage."""


@dataclass(frozen=True)
class _Section:
    title: str
    names: tuple[str, ...]
    """Settings, or groups of settings."""


_RUN = _Section(
    "The run",
    (
        "schedule",
        "final",
        "run_dir",
        "ckpt_path",
        "predictions",
        "seed_everything",
        *STAGES,
        "verbose",
        "relevance",
        "out",
    ),
)
_COMPARISON = _Section("The comparison", ("strategies", "controls", "seeds", "metrics", "baseline", "jobs", "ray"))
_SEARCH = _Section("The search", ("budget", "budget_in", "confirm_seeds", "search"))
_STAGE = _Section("Each stage", ())  # all that is in no other section
_OPTIMIZER = _Section("Optimizer (if none is set: the model's own configure_optimizers)", ("optimizer",))
_LR_SCHEDULE = _Section("Learning-rate schedule", ("lr_schedule",))
_CLASSES = _Section("Model and data", ("model", "data"))
_TRAINER = _Section("Lightning's Trainer", ("trainer",))
_SECTIONS = (_RUN, _COMPARISON, _SEARCH, _STAGE, _OPTIMIZER, _LR_SCHEDULE, _CLASSES, _TRAINER)

_OVERRIDDEN = {"trainer.default_root_dir", "trainer.use_distributed_sampler"}
_REFUSED = {"trainer.fast_dev_run", "trainer.enable_checkpointing", "trainer.barebones"}
_OF_OTHERS = {"predictions", "ckpt_path", "verbose", "return_predictions", "trainer.limit_predict_batches"}
_TRAINING = _OVERRIDDEN | _REFUSED | _OF_OTHERS
_MEASURING = (
    *("accelerator", "strategy", "devices", "num_nodes", "precision", "callbacks", "plugins", "profiler"),
    *("deterministic", "benchmark", "inference_mode", "enable_progress_bar", "detect_anomaly"),
)


def _shows(command: str, section: _Section, name: str) -> bool:
    """Whether a command uses a setting."""
    if section is _CLASSES:
        return True
    if command in ("fit", "compare", "search"):
        ignored = {"seed_everything"} if command == "compare" else set(_COMPARISON.names)
        ignored -= set(SEARCH_AND_COMPARISON) if command == "search" else set()
        return name not in _TRAINING | ignored and (section is not _SEARCH or command == "search")
    if command == "plan":
        own = ("schedule", "seed_everything", "patience", *STAGES)
        return section in (_OPTIMIZER, _LR_SCHEDULE) or name in own
    if command == "stats":
        return name == "relevance"
    if command == "sample":
        return name in ("schedule", "seed_everything", "out", *STAGES)
    if section is _TRAINER:
        split = {"validate": "val"}.get(command, command)
        return name.partition(".")[2] in (*_MEASURING, f"limit_{split}_batches")
    return name == "ckpt_path" or (name == "predictions" and command == "predict")


class HelpFormatter(DefaultHelpFormatter):
    """Writes options as ``--NAME VALUE`` with their types if these are short, and without lists of classes."""

    def _format_action_invocation(self, action: argparse.Action) -> str:
        options = [option for option in action.option_strings if not option.endswith("+")]
        value = "" if action.nargs == 0 else " CLASS" if action.dest.endswith(".help") else " VALUE"
        if action.dest == "print_config":
            return f"{options[0]}[=FLAGS]"
        return ", ".join(options) + (".SETTING VALUE" if action.dest in STAGES else value)

    def _get_help_string(self, action: argparse.Action) -> str:
        found = described(action)
        default = None if found.default is None else "default: %(default)s"
        notes = [note for note in (found.kind, default) if note is not None]
        return f"{found.text} ({', '.join(notes)})" if notes else found.text

    def start_section(self, heading: str | None) -> None:
        """Begin a section, with a long heading (the first sentence of a class) on several lines."""
        width = shutil.get_terminal_size().columns - 3
        super().start_section(textwrap.fill(heading, width) if heading else heading)

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        parts = [super(HelpFormatter, self)._fill_text(part, width, indent) for part in text.split("\n\n")]
        return "\n\n".join(parts)


@dataclass(frozen=True)
class Description:
    """What a setting is, for people.

    Attributes:
        text: What it does.
        markup: The same, with the markup of a docstring.
        kind: Its type; None where the type is too long to be of use.
        default: Its default; None where there is none.
    """

    text: str
    markup: str
    kind: str | None
    default: Any


def described(action: argparse.Action) -> Description:
    """Describe a setting of a parser."""
    markup = " ".join((_TEXTS.get(action.dest) or action.help or "").split())
    if action.dest.startswith("trainer."):
        markup = _first_sentence(markup)
    text = re.sub(r":\w+:`|`", "", markup)
    shown = action.dest not in ("config", "model", "data", *STAGES) and action.nargs != 0
    kind = type_text(HelpFormatter(""), action) if shown else None
    kind = None if kind is None or len(kind) > _LONGEST_TYPE or kind == "Any" else _type_words(kind)
    has_default = shown and action.default is not argparse.SUPPRESS
    return Description(text, markup, kind, action.default if has_default else None)


def command_help(command: str, description: str, actions: Iterable[argparse.Action]) -> str:
    """The help of a command.

    Args:
        command: Its name.
        description: What it does, in a sentence.
        actions: All settings of its parser, including those that it only accepts in a file that commands share.
    """
    formatter = HelpFormatter(f"gradual {command}")
    given = "RUN_DIR" if command in WITH_STAGE else "--config FILE"
    formatter.add_usage(f"gradual {command} {given} [--SETTING VALUE ...]", [], [])
    formatter.add_text(description[0].upper() + description[1:] + (f". {_RUN_DIR}" if command in WITH_STAGE else "."))
    for title, found in shown_settings(command, actions):
        formatter.start_section(title)
        formatter.add_arguments(found)
        formatter.end_section()
    formatter.add_text(_epilog(command))
    return formatter.format_help()


def shown_settings(command: str, actions: Iterable[argparse.Action]) -> list[tuple[str, list[argparse.Action]]]:
    """The settings that a command uses, in sections with titles, the most important first.

    Args:
        command: Its name.
        actions: All settings of its parser.
    """
    options, sections = _sorted(actions)
    shown = [
        (section.title, [one for one in found if _shows(command, section, one.dest)]) for section, found in sections
    ]
    return [(title, found) for title, found in [("Options", options), *shown] if found]


def _sorted(
    actions: Iterable[argparse.Action],
) -> tuple[list[argparse.Action], list[tuple[_Section, list[argparse.Action]]]]:
    options: list[argparse.Action] = []
    found: dict[_Section, list[argparse.Action]] = {section: [] for section in _SECTIONS}
    for action in actions:
        top, _, below = action.dest.partition(".")
        nested_help = below.endswith("help") and top not in ("model", "data")
        of_other = action.dest in _GROUPS or nested_help or (top in STAGES and below)
        if action.dest in _OPTIONS:
            options.append(action)
        elif action.option_strings and not of_other:
            found[next((section for section in _SECTIONS if top in section.names), _STAGE)].append(action)
    for section, some in found.items():
        if section not in (_TRAINER, _STAGE):
            some.sort(key=lambda action: section.names.index(action.dest.partition(".")[0]))
    return options, list(found.items())


def _epilog(command: str) -> str:
    variable = f"GRADUAL_{command.upper()}__"
    example = {"validate": "TRAINER__PRECISION", "test": "TRAINER__PRECISION", "stats": "MODEL", "sample": "MODEL"}.get(
        command, ""
    )
    example = example or ("CKPT_PATH" if command == "predict" else "PATIENCE")
    text = (
        f"Settings that are neither on the command line nor in a file are read from environment variables: {variable}"
        f"{example} for --{example.lower().replace('__', '.')}. This does not apply to --model.SETTING and "
        "--data.SETTING (init_args in a file)."
    )
    if command not in ("plan", "stats", "sample"):
        text += (
            "\n\nClasses are given by their path. --trainer.logger.help CLASS shows the settings of a logger; the same "
            "works for --trainer.callbacks, strategy, profiler, plugins and accelerator. More about the Trainer: "
            "https://lightning.ai/docs/pytorch/stable/common/trainer.html"
        )
    return text


def describe_classes(actions: Iterable[argparse.Action]) -> None:
    """Write the help of the model and the data."""
    base = {"model": "a LightningModule", "data": "a gradual.MixedDomainDataModule"}
    for action in actions:
        if action.dest in base:
            own = f"my_module.My{action.dest.capitalize()}"
            action.help = (
                f"class of the {action.dest}, {base[action.dest]}: your own, such as {own} in the current folder, or "
                f"{', '.join(OWN_CLASSES[action.dest])}; --{action.dest}.SETTING VALUE for its settings"
            )
        elif action.dest.removesuffix(".help") in base:
            action.help = "list gradual's classes, or with CLASS its settings, and exit"


def describe_stages(actions: Iterable[argparse.Action], name: str, which: str) -> None:
    """Write the help of ``later_stages`` or ``last_stage``: which settings can be overridden."""
    actions = list(actions)
    below = [action.dest.removeprefix(f"{name}.") for action in actions if action.dest.startswith(f"{name}.")]
    settings = [one for one in below if "." not in one]
    settings = [f"{one}.*" if any(other.startswith(f"{one}.") for other in below) else one for one in settings]
    for action in actions:
        if action.dest == name:
            action.help = f"override a setting in {which}: {', '.join(settings)}"


def class_listing(command: str, group: str) -> str:
    """The answer to ``--model.help`` or ``--data.help``: the classes to choose from.

    Args:
        command: The command.
        group: ``model`` or ``data``.
    """
    what = {"model": "Models", "data": "Data modules"}[group]
    base = {"model": "lightning.pytorch.LightningModule", "data": "gradual.MixedDomainDataModule with a load()"}[group]
    classes = OWN_CLASSES[group]
    width = max(map(len, classes))
    lines = [f"{what} of gradual:", *(f"  {path:<{width}}  {text}" for path, text in classes.items())]
    lines += ["", f"gradual {command} --{group}.help CLASS shows the settings of one of them or of your own, a class"]
    lines += [f"derived from {base}, such as my_module.My{group.capitalize()}", "in the current folder."]
    return "\n".join(lines)


def _first_sentence(text: str) -> str:
    found = re.match(r"(?:[^.]|\.(?!\s)|(?<=e\.g)\.|(?<=i\.e)\.)*\.", text)
    return found[0] if found else text


def _type_words(kind: str) -> str:
    """Write a type with ``|`` for unions."""
    if optional := re.fullmatch(r"Optional\[(.*)\]", kind):
        return f"{optional[1]} | null"
    if union := re.fullmatch(r"Union\[([^\[\]]*)\]", kind):
        return union[1].replace(", ", " | ")
    if literal := re.fullmatch(r"Literal\[([^\[\]]*)\]", kind):
        return literal[1].replace("'", "").replace(", ", " | ")
    return kind

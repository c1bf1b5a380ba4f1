"""The help of the commands: the settings of a run first, Lightning's last, and none that a command ignores."""

from __future__ import annotations

import argparse
import re
import shutil
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from jsonargparse import DefaultHelpFormatter

from gradual.cli.class_paths import OWN_CLASSES
from gradual.cli.lightning_cli_internals import type_text

_LONGEST_TYPE = 32
_TEXTS = {  # where Lightning's or jsonargparse's do not say what holds here
    "config": "configuration file in YAML, the same for all commands; of several the last holds, options over any",
    "print_config": "print the configuration that results, as a file to start from, and exit",
    "ckpt_path": "checkpoint of a stage, such as runs/mine/seed-0/2000/best.ckpt",
}
_OPTIONS = ("help", "config", "print_config")
_GROUPS = ("trainer", "optimizer", "lr_schedule", "collapse")  # shown as their settings, not as a whole
_STAGES = ("later_stages", "last_stage")  # shown as a whole: their settings are a stage's


@dataclass(frozen=True)
class _Section:
    title: str
    names: tuple[str, ...]
    """Settings, or groups of settings."""


_RUN = _Section("The run", ("schedule", "run_dir", "ckpt_path", "predictions", "seed_everything", *_STAGES, "verbose"))
_COMPARISON = _Section("The comparison", ("strategies", "seeds", "metrics", "baseline", "jobs", "ray"))
_STAGE = _Section("Each stage", ())  # whatever is in no other section
_OPTIMIZER = _Section("Optimizer (without one of these, the model's own configure_optimizers)", ("optimizer",))
_LR_SCHEDULE = _Section("Learning-rate schedule", ("lr_schedule",))
_CLASSES = _Section("Model and data", ("model", "data"))
_TRAINER = _Section("Lightning's Trainer", ("trainer",))
_SECTIONS = (_RUN, _COMPARISON, _STAGE, _OPTIMIZER, _LR_SCHEDULE, _CLASSES, _TRAINER)

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
    if command in ("fit", "compare"):
        ignored = {"seed_everything"} if command == "compare" else set(_COMPARISON.names)
        return name not in _TRAINING | ignored
    if command == "plan":
        own = ("schedule", "seed_everything", "patience", *_STAGES)
        return section in (_OPTIMIZER, _LR_SCHEDULE) or name in own
    if command == "stats":
        return False
    if section is _TRAINER:
        split = {"validate": "val"}.get(command, command)
        return name.partition(".")[2] in (*_MEASURING, f"limit_{split}_batches")
    return name == "ckpt_path" or (name == "predictions" and command == "predict")


class HelpFormatter(DefaultHelpFormatter):
    """Options as ``--NAME VALUE``, with a type that fits in a line; without lists of classes."""

    def _format_action_invocation(self, action: argparse.Action) -> str:
        options = [option for option in action.option_strings if not option.endswith("+")]
        value = "" if action.nargs == 0 else " CLASS" if action.dest.endswith(".help") else " VALUE"
        if action.dest == "print_config":
            return f"{options[0]}[=FLAGS]"
        return ", ".join(options) + (".SETTING VALUE" if action.dest in _STAGES else value)

    def _get_help_string(self, action: argparse.Action) -> str:
        text = re.sub(r":\w+:`|`", "", " ".join((_TEXTS.get(action.dest) or action.help or "").split()))
        if action.dest.startswith("trainer."):
            text = _first_sentence(text)
        kind = type_text(self, action)
        shown = action.dest not in ("config", "model", "data", *_STAGES) and action.nargs != 0
        notes = []
        if kind is not None and shown and len(kind) <= _LONGEST_TYPE and kind != "Any":
            notes.append(_type_words(kind))
        if shown and action.default not in (None, argparse.SUPPRESS):
            notes.append("default: %(default)s")
        return f"{text} ({', '.join(notes)})" if notes else text

    def start_section(self, heading: str | None) -> None:
        """Begin a section; a long heading, such as a class's first sentence, takes several lines."""
        width = shutil.get_terminal_size().columns - 3
        super().start_section(textwrap.fill(heading, width) if heading else heading)

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        parts = [super(HelpFormatter, self)._fill_text(part, width, indent) for part in text.split("\n\n")]
        return "\n\n".join(parts)


def command_help(command: str, description: str, actions: Iterable[argparse.Action]) -> str:
    """The help of a command.

    Args:
        command: Its name.
        description: What it does, in a sentence.
        actions: All of its parser's settings, those that it only accepts for the sake of a shared file included.
    """
    formatter = HelpFormatter(f"gradual {command}")
    formatter.add_usage(f"gradual {command} --config FILE [--SETTING VALUE ...]", [], [])
    formatter.add_text(description[0].upper() + description[1:] + ".")
    options, sections = _sorted(actions)
    _add_section(formatter, "Options", options)
    for section, found in sections:
        _add_section(formatter, section.title, [one for one in found if _shows(command, section, one.dest)])
    formatter.add_text(_epilog(command))
    return formatter.format_help()


def _sorted(
    actions: Iterable[argparse.Action],
) -> tuple[list[argparse.Action], list[tuple[_Section, list[argparse.Action]]]]:
    options: list[argparse.Action] = []
    found: dict[_Section, list[argparse.Action]] = {section: [] for section in _SECTIONS}
    for action in actions:
        top, _, below = action.dest.partition(".")
        nested_help = below.endswith("help") and top not in ("model", "data")
        of_other = action.dest in _GROUPS or nested_help or (top in _STAGES and below)
        if action.dest in _OPTIONS:
            options.append(action)
        elif action.option_strings and not of_other:
            found[next((section for section in _SECTIONS if top in section.names), _STAGE)].append(action)
    for section, some in found.items():
        if section not in (_TRAINER, _STAGE):
            some.sort(key=lambda action: section.names.index(action.dest.partition(".")[0]))
    return options, list(found.items())


def _add_section(formatter: HelpFormatter, title: str, actions: Sequence[argparse.Action]) -> None:
    if actions:
        formatter.start_section(title)
        formatter.add_arguments(actions)
        formatter.end_section()


def _epilog(command: str) -> str:
    variable = f"GRADUAL_{command.upper()}__"
    example = {"validate": "TRAINER__PRECISION", "test": "TRAINER__PRECISION", "stats": "MODEL"}.get(command, "")
    example = example or ("CKPT_PATH" if command == "predict" else "PATIENCE")
    text = (
        f"A setting that neither the command line nor a file has may come from an environment variable: {variable}"
        f"{example} for --{example.lower().replace('__', '.')}. Those of the model's and the data's class may not: "
        "--model.SETTING, --data.SETTING, or init_args in a file."
    )
    if command not in ("plan", "stats"):
        text += (
            "\n\nClasses are given by their path; --trainer.logger.help CLASS shows the settings of a logger's, and "
            "so on for --trainer.callbacks, strategy, profiler, plugins and accelerator. More about the Trainer: "
            "https://lightning.ai/docs/pytorch/stable/common/trainer.html"
        )
    return text


def describe_classes(actions: Iterable[argparse.Action]) -> None:
    """Say of the model and the data what their classes may be."""
    base = {"model": "a LightningModule", "data": "a gradual.MixedDomainDataModule"}
    for action in actions:
        if action.dest in base:
            own = f"my_module.My{action.dest.capitalize()}"
            action.help = (
                f"class of the {action.dest}, {base[action.dest]}: {own} of the current folder, or one of gradual's, "
                f"{', '.join(OWN_CLASSES[action.dest])}; --{action.dest}.NAME VALUE sets what it takes"
            )
        elif action.dest.removesuffix(".help") in base:
            action.help = "show gradual's classes, or the settings of a class, and exit"


def describe_stages(actions: Iterable[argparse.Action], name: str, which: str) -> None:
    """Say of a group of stages what may be set for them."""
    actions = list(actions)
    below = [action.dest.removeprefix(f"{name}.") for action in actions if action.dest.startswith(f"{name}.")]
    settings = [one for one in below if "." not in one]
    settings = [f"{one}.*" if any(other.startswith(f"{one}.") for other in below) else one for one in settings]
    for action in actions:
        if action.dest == name:
            action.help = f"{which[0].lower()}{which[1:]}, where the schedule says nothing else: {', '.join(settings)}"


def class_listing(command: str, group: str) -> str:
    """What there is to choose from for ``--model`` or ``--data``.

    Args:
        command: The command that is asked.
        group: ``model`` or ``data``.
    """
    what = {"model": "Models", "data": "Data modules"}[group]
    base = {"model": "lightning.pytorch.LightningModule", "data": "gradual.MixedDomainDataModule with a load()"}[group]
    classes = OWN_CLASSES[group]
    width = max(map(len, classes))
    lines = [f"{what} of gradual:", *(f"  {path:<{width}}  {text}" for path, text in classes.items())]
    lines += ["", f"gradual {command} --{group}.help CLASS shows the settings of one of them, or of your own: a class"]
    lines += [f"derived from {base}, such as my_module.My{group.capitalize()}", "of the current folder."]
    return "\n".join(lines)


def _first_sentence(text: str) -> str:
    found = re.match(r"(?:[^.]|\.(?!\s)|(?<=e\.g)\.|(?<=i\.e)\.)*\.", text)
    return found[0] if found else text


def _type_words(kind: str) -> str:
    """A type as Python writes it since unions have an operator."""
    if optional := re.fullmatch(r"Optional\[(.*)\]", kind):
        return f"{optional[1]} | null"
    if union := re.fullmatch(r"Union\[([^\[\]]*)\]", kind):
        return union[1].replace(", ", " | ")
    return kind

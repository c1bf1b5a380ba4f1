"""The task that files suit: recognized by their columns, with the code that reads them for training."""

from __future__ import annotations

import inspect
import pkgutil
import re
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gradual.checks import did_you_mean
from gradual.cli.class_paths import OWN_CLASSES
from gradual.data.part_files import expand
from gradual.data.task_files import TaskFileDataModule
from gradual.errors import InputError
from gradual.nn.encoder import Architecture, architecture_of
from gradual.tasks.pretrained import PretrainedTask

_SETTINGS = re.compile(r": set [^:]*_column$")  # which columns are named by in a configuration, not here


@dataclass(frozen=True)
class ChosenTask:
    """A task, with its data.

    Attributes:
        name: The class of the model, short where it is one of the package's.
        task: The class.
        data: The data module, which is set up.
        architecture: The pretrained model as the task loads it.
        others: The names of other tasks whose columns the files have as well.
        scores: The names of the scores that the task logs, the main one first.
        plateau: Whether the main score hardly changes at the beginning of training.
        predicted: What is predicted, in words; empty where that does not follow from the data.
    """

    name: str
    task: type[PretrainedTask]
    data: TaskFileDataModule
    architecture: Architecture
    others: list[str]
    scores: list[str]
    plateau: bool
    predicted: str


@dataclass
class _Candidate:
    """A task, and whether it suits the files and the model.

    Attributes:
        name: The class of the model.
        task: The class.
        data: Its data module.
        architecture: The pretrained model as the task loads it; None where it does not.
        problem: Why it does not suit them; empty where it does.
    """

    name: str
    task: type[PretrainedTask]
    data: TaskFileDataModule
    architecture: Architecture | None = None
    problem: str = ""

    @property
    def found(self) -> int:
        """How many of the columns that the task needs were found."""
        return sum(role.needed and role.name in self.data.column_of for role in self.data.roles)


def choose_task(
    files: Mapping[str, Any],
    pretrained: str,
    settings: Mapping[str, str],
    name: str | None = None,
) -> ChosenTask:
    """Find the task that the columns of the files suit, and read the files for it.

    Of several tasks, the one for which most columns are found is chosen.

    Args:
        files: The files of each part, as data modules take them.
        pretrained: The pretrained model.
        settings: Settings of the data module: columns that have unusual names, such as ``label_column``, and ``target``
            where it was given.
        name: The class of the model; None for that of the package that suits the files.

    Raises:
        InputError: There is no such task, a file or the model cannot be read, or they do not suit the task.
    """
    own = dict(filter(None, map(_task, OWN_CLASSES["model"])))
    tasks = own if name is None else dict(filter(None, [_task(name)]))
    if not tasks:
        raise InputError(f"--task is '{name}': it must be {' or '.join(own)}.{did_you_mean(name, own)}")
    _check_given(files, pretrained)
    candidates = [_candidate(each, cls, files, pretrained, settings) for each, cls in tasks.items()]
    fit = sorted((one for one in candidates if not one.problem), key=lambda one: -one.found)
    if not fit:
        raise InputError(_nothing_fits(candidates, files))
    problems = []
    for chosen in (one for one in fit if one.found == fit[0].found):
        try:
            chosen.data.setup()
        except InputError as error:
            problems.append(error)
            continue
        assert chosen.architecture is not None
        others = [other.name for other in fit if other is not chosen and other.found == chosen.found]
        task, spec = chosen.task(pretrained), chosen.data.spec()
        scores, plateau = _scores(task, spec), task.begins_on_plateau(spec)
        predicted = task.predicted_in_words(spec)
        own_parts = (chosen.name, chosen.task, chosen.data, chosen.architecture)
        return ChosenTask(*own_parts, others, scores, plateau, predicted)
    raise problems[0]


def _check_given(files: Mapping[str, Any], pretrained: str) -> None:
    """Look at the files and the model, whatever the task, so that a mistake in their names is all that is said."""
    from gradual.data.reading import column_names

    for part, given in files.items():
        for of_source in given.values() if isinstance(given, Mapping) else [given]:
            for path in expand(f"--{part}", of_source):
                column_names(path)
    architecture_of(pretrained, "AutoModel")


def _task(path: str) -> tuple[str, type[PretrainedTask]] | None:
    """The name and the class of a task that reads files; None for other classes and where there is none."""
    short = {own.rpartition(".")[2]: own for own in OWN_CLASSES["model"]}
    full = short.get(path, path)
    try:
        cls = pkgutil.resolve_name(full)
    except (ImportError, AttributeError, ValueError):
        return None
    is_task = isinstance(cls, type) and issubclass(cls, PretrainedTask)
    return (full.rpartition(".")[2] if full in short.values() else full, cls) if is_task else None


def _candidate(
    name: str,
    task: type[PretrainedTask],
    files: Mapping[str, Any],
    pretrained: str,
    settings: Mapping[str, str],
) -> _Candidate:
    """Make the data module of a task, and find its columns."""
    cls: Any = pkgutil.resolve_name(str(task.datamodule_class))
    accepted = {name for each in (cls, TaskFileDataModule) for name in inspect.signature(each).parameters}
    known = {setting: value for setting, value in settings.items() if setting in accepted}
    candidate = _Candidate(name, task, cls(**files, tokenizer=pretrained, **known))
    unknown = next((setting for setting in settings if setting not in accepted), None)
    try:
        if unknown is not None:
            column = unknown.removesuffix("_column")
            raise InputError(f"{name} {'has no setting' if column == unknown else 'reads no'} {column}")
        candidate.data.find_columns()
        candidate.architecture = architecture_of(pretrained, task.auto_class)
    except InputError as error:
        candidate.problem = _SETTINGS.sub("", str(error).rstrip("."))
    return candidate


def _scores(task: PretrainedTask, spec: Any) -> list[str]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # torchmetrics expects something to be measured
        main = task.main_score(spec)
        return [main, *(name for name in task.make_scores(spec).compute() if name != main)]


def _nothing_fits(candidates: Sequence[_Candidate], files: Mapping[str, Any]) -> str:
    """Say which columns there are, and what each task lacks."""
    from gradual.data.reading import column_names

    example = "columns with unusual names are named with --columns, such as --columns label=sentiment"
    if len(candidates) == 1:
        return f"{candidates[0].problem}; {example}."
    first = expand("in_domain", files["in_domain"])[0]
    there = column_names(first)
    lacks = [_lack(one, there) for one in candidates]
    return f"{first} has the columns {', '.join(there)}, which suit no task: {'; '.join(lacks)}; {example}."


def _lack(candidate: _Candidate, there: Iterable[str]) -> str:
    """What a task does not find, in words."""
    roles = candidate.data.roles
    missing = [role for role in roles if role.needed and role.given is None and not {*role.usual} & {*there}]
    needed = " and ".join(f"{role.name} ({', '.join(role.usual)})" for role in missing)
    return f"{candidate.name} needs {needed}" if needed else f"{candidate.name} cannot: {candidate.problem}"

"""The model card of an exported stage: what it was made from, how it was trained, and how good it is."""

from __future__ import annotations

import re
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from gradual.files import read_json
from gradual.report.collect import read_comparison
from gradual.report.comparison import SPLITS, Comparison, Split, Strategy
from gradual.report.differences import significance_table
from gradual.report.scores import is_share, strategy_scores
from gradual.report.significance import compare
from gradual.report.tables import Cell, Table, markdown, metric_name, score_text, scores_table
from gradual.runs.result import CUT_OFF, StageResult

_PAPER = "https://aclanthology.org/2021.adaptnlp-1.22/"
_PARTS = {"in_domain": "in-domain", "out_of_domain": "out-of-domain", "val": "validation", "test": "test"}
_MOST_LABELS = 30
_HUB_NAME = re.compile(r"[\w-][\w.-]*(/[\w.-]+)?")


@dataclass(frozen=True)
class ModelFacts:
    """What a card says of the model itself.

    Attributes:
        name: Its name.
        base: The pretrained model, a folder or a name on the hub.
        task: The task, by the class that was trained.
        labels: The labels, in the order of the model's outputs; empty where there are none.
        adapter: Whether it is an adapter for the base, not a model.
        pipeline: The pipeline of ``transformers`` that uses it; None where there is none.
        usage: Lines of Python that use it.
    """

    name: str
    base: str
    task: str
    labels: Sequence[str]
    adapter: bool
    pipeline: str | None
    usage: str


@dataclass(frozen=True)
class Training:
    """How a stage was trained, as far as its run directory tells.

    Attributes:
        stages: The results of the stages from the first one to this one; None where a stage has none.
        data: The number of examples of each part that there is.
        run: The results of ``fit`` or ``compare`` that the stage belongs to; None where they are missing.
        strategy: The strategy in ``run`` whose result it is; None where there is none.
        seed: The seed that the stage was trained with.
    """

    stages: Sequence[StageResult | None]
    data: Mapping[str, int]
    run: Comparison | None
    strategy: Strategy | None
    seed: int | None


def read_training(run: Path, path: str, stages: Sequence[StageResult | None]) -> Training:
    """Read how a stage was trained.

    Args:
        run: Its run directory.
        path: Its folder, relative to ``run``.
        stages: The results of the stages from the first one to this one.

    Raises:
        InputError: A file is damaged; the message names it.
    """
    data = dict(read_json(run / "experiment.json")).get("data") or {}
    sizes = {part: data[part]["examples"] for part in _PARTS if data.get(part)}
    for name in ("compare.json", "results.json"):
        found = read_comparison(run, name=name) if (run / name).is_file() else None
        places = [] if found is None else _places(found, path)
        if places:  # at the end of a strategy's path rather than inside
            strategy, seed, is_last = max(places, key=lambda place: place[2])
            return Training(stages, sizes, found, strategy if is_last else None, seed)
    return Training(stages, sizes, None, None, None)


def _places(run: Comparison, path: str) -> list[tuple[Strategy, int, bool]]:
    """The strategies and seeds that have a stage on their way, and whether it is their result."""
    return [
        (strategy, seed, record is strategy.final(seed))
        for strategy in run.strategies
        for seed, records in strategy.stages.items()
        for record in [*records, *([strategy.results_of_paths[seed]] if seed in strategy.results_of_paths else [])]
        if record.path == path
    ]


def model_card(model: ModelFacts, training: Training | None) -> str:
    """Write the card of a model, in Markdown.

    Args:
        model: The model.
        training: How it was trained; None where that is not known.
    """
    sections = [_header(model), _introduction(model), f"## Usage\n\n```python\n{model.usage}\n```\n"]
    if training is not None and training.stages:
        sections += [_training(training)]
        if training.run is not None and training.run.baseline is not None:
            sections += [_evaluation(training, training.run)]
    if training is not None and training.run is not None:
        sections += [_origin(training.run)]
    return "\n".join(sections)


def _header(model: ModelFacts) -> str:
    lines = [f"library_name: {'peft' if model.adapter else 'transformers'}"]
    if _HUB_NAME.fullmatch(model.base) and not Path(model.base).exists():  # the hub refuses folders
        lines.append(f"base_model: {model.base}")
    if model.pipeline is not None:
        lines.append(f"pipeline_tag: {model.pipeline}")
    return "\n".join(["---", *lines, "tags:", "- gradual-fine-tuning", "---", ""])


def _introduction(model: ModelFacts) -> str:
    what = f"An adapter of `{model.base}`" if model.adapter else f"`{model.base}`, adapted"
    text = (
        f"# {markdown(model.name)}\n\n{what} to a domain with little data by [gradual fine-tuning]({_PAPER}) "
        "(Xu et al., 2021): it was trained in stages, on all in-domain data and less and less out-of-domain data. The "
        f"task is `{model.task}`.\n"
    )
    if model.labels:
        shown = [f"`{label}`" for label in model.labels[:_MOST_LABELS]]
        more = f" and {len(model.labels) - len(shown)} more" if len(shown) < len(model.labels) else ""
        text += f"\nLabels: {', '.join(shown)}{more}.\n"
    return text


def _training(training: Training) -> str:
    """A row a stage, and the sizes of the data."""
    stages = [stage for stage in training.stages if stage is not None]
    values: dict[tuple[Split, str], list[float]] = {}
    for split in SPLITS:
        for stage in stages:
            for name, value in getattr(stage, split).items():
                values.setdefault((split, name), []).append(value)
    percent = {
        name for _, name in values if all(is_share(name, found) for (_, n), found in values.items() if n == name)
    }
    heading = ["stage", "out-of-domain", "in-domain", "epochs (best)"]
    heading += [f"{SPLITS[split]} {metric_name(name)}" for split, name in values]
    rows = [
        [Cell(_name(number, stage)), *map(Cell, _row(stage, values, percent))]
        for number, stage in enumerate(training.stages, start=1)
    ]
    monitor = "" if training.run is None else f", by `{training.run.monitor}`"
    notes = [f"Each stage starts from the weights of the best epoch of the stage before{monitor}."]
    if any(not stage.converged for stage in stages):
        notes.append(f"{CUT_OFF}: the stage ended before it converged.")
    if percent:
        notes.append("Accuracy, F1, precision and recall are in percent.")
    sizes = ", ".join(f"{count} {_PARTS[part]}" for part, count in training.data.items())
    if sizes:
        notes.append(f"Examples of the data: {sizes}.")
    return f"## Training\n\n{Table('', '', heading, rows, left=0).markdown()}\n{' '.join(notes)}\n"


def _name(number: int, stage: StageResult | None) -> str:
    return f"average of {number - stage.averaged} to {number - 1}" if stage and stage.averaged else str(number)


def _row(stage: StageResult | None, scores: Iterable[tuple[Split, str]], percent: Container[str]) -> list[str]:
    """The cells of a stage, after its number; empty if it has no result."""
    if stage is None:
        return ["", "", "not finished", *("" for _ in scores)]
    epochs = f"{stage.epochs} ({stage.best_epoch}){'' if stage.converged else CUT_OFF}" if not stage.averaged else ""
    found = [score_text(getattr(stage, split).get(name), name in percent) for split, name in scores]
    sources = ", ".join(f"{count} {name}" for name, count in stage.sources.items() if count)
    return [
        f"{stage.out_of_domain} ({sources})" if sources else str(stage.out_of_domain),
        str(stage.in_domain),
        epochs,
        *found,
    ]


def _evaluation(training: Training, run: Comparison) -> str:
    """The scores of all strategies, and the differences of this one with their intervals."""
    split: Split = "test" if run.has_test_scores else "val"
    shown = scores_table(strategy_scores(run), run, split)
    text = f"## Evaluation\n\n{shown.markdown()}\n{markdown(shown.note)}\n"
    if training.strategy is None:
        return text
    text += f"\nThis model is {markdown(training.strategy.name)}, seed {training.seed}.\n"
    mine = training.strategy
    found = [compare(mine, other, metric) for other in run.strategies if other is not mine for metric in run.metrics]
    differences = significance_table([row for row in found if row is not None], run)
    return f"{text}\n{differences.markdown()}\n{markdown(differences.note)}\n" if differences.rows else text


def _origin(run: Comparison) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in run.versions.items())
    return f"## Origin\n\n```sh\n{run.command}\n```\n\n{markdown(versions)}\n"

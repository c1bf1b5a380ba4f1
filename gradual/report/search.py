"""The report of a search for a schedule: what it found, what it tried, and what each choice cost and gave."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gradual.report.checked import list_in, mapping_in, read_mapping
from gradual.report.collect import SPLITS, Comparison, Strategy, read_comparison
from gradual.report.differences import DIFFERENCE_HEADING, UNCERTAINTY, difference_texts, equal_training_tables
from gradual.report.equal_training import difference, equal_training
from gradual.report.page import rendered
from gradual.report.scores import final_score, in_percent, is_share, strategy_scores
from gradual.report.significance import Finished
from gradual.report.tables import Cell, Table, count, difference_text, metric_name, score_tables, score_text
from gradual.score_names import without_split

DEFAULT, FOUND = "default schedule", "searched schedule"  # strategies of the confirmation


@dataclass(frozen=True)
class TriedStage:
    """A stage of a path.

    Attributes:
        path: Its folder, relative to the run directory.
        amount: Its out-of-domain examples.
        lr_scale: The factor of its learning rates that the search chose.
        score: Its monitored validation score; None where it has none.
        cost: What its training took, in the unit of the budget.
        new: Whether it was trained for this path; else an earlier one, or an earlier command, had trained it.
    """

    path: str
    amount: int
    lr_scale: float
    score: float | None
    cost: int
    new: bool


@dataclass(frozen=True)
class TriedPath:
    """A path of the search.

    Attributes:
        schedule: What was chosen of it, as in a configuration.
        state: ``finished``, ``pruned``, ``failed`` or ``unfinished``.
        score: The validation score of its result; None unless it is finished.
        stages: Its stages that are trained.
    """

    schedule: list[Any]
    state: str
    score: float | None
    stages: list[TriedStage]

    @property
    def name(self) -> str:
        """Its amounts with arrows between them, and the factors of learning rates that differ from 1."""
        amounts = [one["amount"] if isinstance(one, dict) else one for one in self.schedule]
        factors = [stage.lr_scale for stage in self.stages] + [1.0] * len(amounts)
        return " → ".join(
            f"{amount}{'' if factor == 1 else f' (lr x {factor:g})'}" for amount, factor in zip(amounts, factors)
        )


@dataclass(frozen=True)
class Search:
    """A search, as far as it is.

    Attributes:
        root: The run directory.
        unit: ``examples`` or ``steps``.
        limit: The budget.
        spent: What was trained for the search.
        monitor: The validation score that paths are chosen by.
        mode: ``min`` or ``max``.
        seed: The seed of its stages.
        paths: The paths in the order of the search.
        best: The number of the best path; None while none is finished.
        default: The number of the configuration's schedule; None where the search could not choose it.
        confirmation: The comparison of the best path under fresh seeds; None where there is none.
        confirmed_before: Amounts of the path that was the best one when the comparison under fresh seeds was made, if
            that is another one now.
        command: The command line of the search.
        versions: Versions of Python and packages.
    """

    root: Path
    unit: str
    limit: float
    spent: int
    monitor: str
    mode: str
    seed: int
    paths: list[TriedPath]
    best: int | None
    default: int | None
    confirmation: Comparison | None
    confirmed_before: list[int] | None
    command: str
    versions: dict[str, Any]

    @property
    def percent(self) -> bool:
        """Whether the monitored score is shown in percent."""
        scores = [stage.score for path in self.paths for stage in path.stages if stage.score is not None]
        return is_share(without_split(self.monitor), scores)

    def gain(self, before: float | None, after: float | None) -> float | None:
        """By how much ``after`` is better than ``before``: positive if it is better."""
        if before is None or after is None:
            return None
        return after - before if self.mode == "max" else before - after


def read_search(run_dir: Path) -> Search:
    """Read a search from its run directory, as far as it exists.

    Raises:
        InputError: A file is damaged; the message names it.
    """
    file = run_dir / "search.json"
    content = read_mapping(file)
    budget = mapping_in(content, "budget", file)
    confirm = content.get("confirm") or {}
    there = bool(confirm) and (run_dir / confirm["run_dir"] / "compare.json").is_file()
    compared = read_comparison(run_dir / confirm["run_dir"]) if there else None
    paths = [
        TriedPath(
            list(one.get("schedule", ())),
            str(one.get("state")),
            one.get("score"),
            [TriedStage(**stage) for stage in one.get("stages", ())],
        )
        for one in list_in(content, "paths", dict, file)
    ]
    best = content.get("best")
    found = next((one for one in compared.strategies if one.name == FOUND), None) if compared else None
    is_of_best = found is not None and best is not None and _is_path_of(found, paths[best])
    return Search(
        root=run_dir,
        unit=str(budget.get("in")),
        limit=float(budget.get("limit") or 0),
        spent=int(budget.get("spent") or 0),
        monitor=str(content.get("monitor", "")),
        mode=str(content.get("mode", "min")),
        seed=int(content.get("seed") or 0),
        paths=paths,
        best=best,
        default=content.get("default"),
        confirmation=compared if is_of_best else None,
        confirmed_before=found.amounts if found is not None and not is_of_best else None,
        command=str(content.get("command", "")),
        versions=mapping_in({"versions": {}, **content}, "versions", file),
    )


def _is_path_of(strategy: Strategy, path: TriedPath) -> bool:
    """Whether a strategy of the confirmation has the stages of a path."""
    stages = [dict(stage) if isinstance(stage, dict) else {"amount": stage} for stage in path.schedule]
    own = [{"amount": amount, **more} for amount, more in zip(strategy.amounts, strategy.overrides)]
    return own == stages


def lead(search: Search) -> list[str]:
    """What the report says first, a sentence each."""
    distinct = {path.name: path for path in search.paths}.values()
    finished = sum(path.state == "finished" for path in distinct)
    pruned = sum(path.state == "pruned" for path in distinct)
    stages = {stage.path for path in search.paths for stage in path.stages}
    spent, limit = count(search.spent), count(search.limit)
    trained = (
        f"{spent} of {limit} {search.unit}"
        if search.spent <= search.limit
        else f"{spent} {search.unit}, with a budget of {limit}"
    )
    sentences = [
        f"The search trained {trained}: {len(stages)} stages, each once, of {len(distinct)} paths, of which {finished} "
        f"were trained to their ends and {pruned} ended early."
    ]
    if search.best is None:
        return [*sentences, "No path is finished yet."]
    best, name = search.paths[search.best], metric_name(without_split(search.monitor))
    sentences.append(
        f"The best on validation is {best.name}: {name} {score_text(best.score, search.percent)}."
        + (" It is the schedule of the configuration." if search.best == search.default else "")
    )
    if search.default is not None and search.best != search.default:
        default = search.paths[search.default]
        gain = search.gain(default.score, best.score)
        if gain is not None:
            sentences.append(
                f"That is {difference_text(gain, search.percent)} against the schedule of the configuration "
                f"({default.name}), with seed {search.seed} on the validation data that it was chosen by: as the best "
                f"of {finished} it is too good, by an amount that only other seeds and other data show."
            )
    return sentences + _confirmed(search)


def _confirmed(search: Search) -> list[str]:
    """What the confirmation says of the difference."""
    found = search.confirmation
    if found is None and search.confirmed_before is not None:
        before = " → ".join(map(str, search.confirmed_before))
        return [
            f"It was not compared under fresh seeds yet, so that a part of the difference is luck: the comparison that "
            f"is there is of {before}, which was the best before."
        ]
    if found is None:
        return ["It was not compared under fresh seeds, so that a part of the difference is luck."]
    by_name = {strategy.name: strategy for strategy in found.strategies}
    ours, default, monitor = by_name[FOUND], by_name.get(DEFAULT), without_split(found.monitor)
    if not ours.finished_seeds:
        return ["The comparison under fresh seeds is not finished yet."]
    sentences = []
    if default is not None:
        gains = _gains(search, ours, default, monitor)
        sentences.append(
            f"Under {_seeds(found, ours, default)} it is {' and '.join(gains)} against that schedule (mean; positive "
            f"is better): {_which_to_report(found, ours, monitor, len(gains))}."
            if gains
            else "The schedule of the configuration is not finished yet under a fresh seed that the best one has."
        )
    training = equal_training(found)
    best = training.best if training is not None else None
    if best is not None and (gains := _gains(search, ours, best, monitor)):
        kinds = ", ".join(name.removeprefix(f"{FOUND}: ") for name in best.chosen)
        sentences.append(
            f"Against the best control of equal training ({kinds}), under {_seeds(found, ours, best)}, it is "
            f"{' and '.join(gains)}."
        )
    return sentences


def _which_to_report(found: Comparison, ours: Strategy, monitor: str, differences: int) -> str:
    """Which difference to report, or why the one on validation, which is too good, has none on test beside it."""
    if differences > 1:
        return "the difference on test is the one to report, since the schedule was chosen on the validation data"
    if not found.has_test_scores:
        why = "nothing was tested"
    elif final_score(ours, "test", monitor).by_seed:
        why = "no seed has been tested with both"
    else:
        why = f"the test does not give {metric_name(monitor)}: its scores are below"
    return f"still too good, since the schedule was chosen on the same validation data, and {why}"


def _gains(search: Search, ours: Strategy, other: Finished, metric: str) -> list[str]:
    """By how much one strategy is better than another on validation, and on test where that score is measured there."""
    found: list[str] = []
    for split, name in SPLITS.items():
        mean = final_score(ours, split, metric).difference(final_score(other, split, metric))
        if mean is not None:
            found.append(f"{difference_text(mean if search.mode == 'max' else -mean, search.percent)} on {name}")
    return found


def _seeds(found: Comparison, ours: Strategy, other: Finished) -> str:
    """How many seeds two strategies are compared under: those that both have finished."""
    shared, all_seeds = len({*ours.finished_seeds} & {*other.finished_seeds}), len(found.seeds)
    part = f"{shared} of {all_seeds}" if shared < all_seeds else str(shared)
    return f"{part} fresh seed{'s' if all_seeds > 1 else ''}"


def paths_table(search: Search) -> Table:
    """One row a path, the best first, then the others by their scores, then those without one."""
    sign = -1 if search.mode == "max" else 1
    order = sorted(
        enumerate(search.paths),
        key=lambda pair: (pair[1].score is None, sign * (pair[1].score or 0.0), pair[0]),
    )
    rows, times = [], Counter((path.name, path.state) for path in search.paths)
    for number, path in order:
        if not times[path.name, path.state]:
            continue
        chosen = times.pop((path.name, path.state))
        new = [stage.cost for stage in path.stages if stage.new]
        last = path.stages[-1].score if path.stages else None
        state = path.state if number != search.default else f"{path.state}, the configuration's"
        texts = [
            path.name or "-",
            state,
            str(number + 1),
            score_text(path.score, search.percent),
            score_text(last, search.percent),
            count(sum(new)),
            f"{len(new)} of {len(path.stages)}",
            str(chosen),
        ]
        rows.append([Cell(text, bold=number == search.best) for text in texts])
    note = (
        f"Scores are {search.monitor} on the validation data, with seed {search.seed}. A path costs what was trained "
        "for it; stages that it shares with an earlier one cost nothing. A path that was chosen several times is shown "
        "as it was the first time. The best one is in bold."
    )
    heading = ["path", "state", "order", "score", "after its last stage", f"new {search.unit}", "new stages", "chosen"]
    return Table("Paths that were tried", note, heading, rows, left=2)


def tree_table(search: Search) -> Table:
    """One row a stage, below the stage that it starts from: what the choice of it cost and gave."""
    stages: dict[str, TriedStage] = {}
    parents: dict[str, str] = {}
    through: dict[str, list[TriedPath]] = {}
    for path in search.paths:
        for before, stage in zip([None, *path.stages], path.stages):
            stages.setdefault(stage.path, stage)
            parents.setdefault(stage.path, before.path if before else "")
            through.setdefault(stage.path, []).append(path)
    best = {stage.path for stage in search.paths[search.best].stages} if search.best is not None else set()
    rows: list[list[Cell]] = []

    def add(parent: str, depth: int) -> None:
        for name in (name for name, above in parents.items() if above == parent):
            stage, before = stages[name], stages.get(parent)
            scores = [one.score for one in through[name] if one.score is not None]
            found = (max if search.mode == "max" else min)(scores, default=None)
            factor = "" if stage.lr_scale == 1 else f" (lr x {stage.lr_scale:g})"
            texts = [
                f"{'· ' * depth}{stage.amount}{factor}",
                score_text(stage.score, search.percent),
                difference_text(search.gain(before.score if before else None, stage.score), search.percent),
                count(stage.cost),
                str(len(through[name])),
                score_text(found, search.percent),
            ]
            rows.append([Cell(text, bold=name in best) for text in texts])
            add(name, depth + 1)

    add("", 0)
    note = (
        "Each stage starts from the one above it with one dot less. The gain is that over the score of that stage; "
        "positive is better. The last column is the best score of all finished paths that go through the stage. The "
        "best path is in bold."
    )
    heading = ["stage: out-of-domain", "score", "gain", search.unit, "paths", "best path through it"]
    return Table("The tree: what each choice cost and gave", note, heading, rows, left=1)


def confirmation_tables(search: Search) -> list[Table]:
    """The searched schedule against the default one, and against its controls, under fresh seeds."""
    found = search.confirmation
    if found is None:
        return []
    by_name: Mapping[str, Strategy] = {strategy.name: strategy for strategy in found.strategies}
    tables = score_tables(strategy_scores(found), found)
    controls = equal_training_tables(equal_training(found), found)
    if FOUND in by_name and DEFAULT in by_name:
        tables = [_differences(by_name[FOUND], by_name[DEFAULT], found), *tables]
    return [*tables[:1], *controls, *tables[1:]]


def _differences(ours: Strategy, default: Strategy, found: Comparison) -> Table:
    percent, rows = in_percent(found), []
    for split, metrics in found.shown.items():
        for metric in metrics:
            row = difference(ours, default, split, metric)
            if row is not None:
                texts = [f"{SPLITS[split]} {metric_name(metric)}", *difference_texts(row, metric in percent)]
                rows.append([Cell(text) for text in (*texts, str(len(row.seeds)))])
    note = f"{ours.name} minus {default.name}, with seeds that the search has not seen. {UNCERTAINTY}"
    title = "The searched schedule against the default one, under fresh seeds"
    return Table(title, note, ["score", *DIFFERENCE_HEADING, "seeds"], rows, left=1)


def render_search(search: Search, tables: Sequence[Table]) -> str:
    """Render the page."""
    confirmed = search.confirmation
    versions = ", ".join(f"{name} {version}" for name, version in search.versions.items())
    page = confirmed and (confirmed.root / "report" / "report.html").is_file()
    return rendered(
        "search.html.j2",
        title=f"Search for a schedule: {search.root.resolve().name}",
        lead=lead(search),
        tables=[table for table in tables if table.rows],
        confirmation=f"../{confirmed.root.name}/report/report.html" if confirmed and page else None,
        command=search.command,
        versions=versions,
    )

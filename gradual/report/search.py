"""The report of a search for a schedule: what it found, what it tried, and what each choice cost and gave."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from gradual.report.comparison import SPLITS, Comparison, Strategy
from gradual.report.differences import DIFFERENCE_HEADING, UNCERTAINTY, difference_texts, equal_training_tables
from gradual.report.equal_training import difference, equal_training
from gradual.report.page import rendered
from gradual.report.scores import final_score, in_percent, strategy_scores
from gradual.report.searched import DEFAULT, FOUND, Search, TriedPath, TriedStage
from gradual.report.significance import Finished
from gradual.report.tables import Cell, Table, count, difference_text, metric_name, score_tables, score_text
from gradual.score_names import without_split


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

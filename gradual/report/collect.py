"""Reads a comparison from its run directory, as far as it exists.

``compare.json`` lists the strategies and the folders of their stages; a stage is finished when its folder contains
``result.json``. Nothing here trains or needs torch.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any

from gradual.checks import is_number
from gradual.errors import InputError
from gradual.report.checked import kind_of, list_in, mapping_in, read_lines, read_mapping
from gradual.report.comparison import Comparison, Control, Examples, StageRecord, Strategy, known_by_example, results_of
from gradual.runs.directory import StageDirectory
from gradual.runs.result import StageResult, best_stage, reported_scores


def read_comparison(run_dir: Path, details: bool = True, name: str = "compare.json") -> Comparison:
    """Read a comparison, as far as it exists.

    Args:
        run_dir: A run directory with the ``compare.json`` of ``gradual compare``.
        details: Whether to read the histories and test examples of the stages, too.
        name: ``results.json`` for the only path of ``gradual fit``, as a comparison of one strategy.

    Raises:
        InputError: There is no such file, or a file is damaged; the message names it.
    """
    file = run_dir / name
    if not file.is_file():
        raise InputError(f"{run_dir} holds no comparison: {file} is missing; run gradual compare first.")
    content = read_mapping(file)
    seeds = list_in(content, "seeds", int, file)
    stage_at = cache(lambda path: _stage(run_dir, path, details))  # strategies share stages
    monitor, mode = str(content.get("monitor", "")), str(content.get("mode", "min"))
    best_of = partial(best_stage, monitor=monitor, mode=mode)
    strategies = [
        _strategy(name, entry, seeds, stage_at, best_of, file)
        for name, entry in mapping_in(content, "strategies", file).items()
    ]
    baseline = content.get("baseline")
    if baseline is not None and baseline not in [strategy.name for strategy in strategies]:
        raise InputError(f"{file}: the baseline {baseline!r} is not one of the strategies.")
    results = list(results_of(strategies))
    asked = list_in(content, "metrics", str, file)
    metrics = reported_scores(results, "test", asked) or asked
    val_metrics = list_in({"val_metrics": [], **content}, "val_metrics", str, file)
    val_metrics = val_metrics or reported_scores(results, "val", asked)
    known = known_by_example(strategies)
    if {*metrics} == {*reported_scores(results, "test")} and known.isdisjoint(metrics) and "loss" in known:
        metrics = [*metrics, "loss"]
        if "loss" not in val_metrics and any("loss" in one.val for one in results):
            val_metrics = [*val_metrics, "loss"]
    val_metrics = sorted(val_metrics, key=[*metrics, *val_metrics].index)  # in the order of the test's scores
    return Comparison(
        root=run_dir,
        strategies=strategies,
        seeds=seeds,
        metrics=metrics,
        val_metrics=val_metrics,
        unknown=[name for name in asked if results and not any(name in {**one.val, **one.test} for one in results)],
        baseline=baseline,
        monitor=monitor,
        mode=mode,
        command=str(content.get("command", "")),
        versions=mapping_in({"versions": {}, **content}, "versions", file),
        environment=mapping_in({"environment": {}, **content}, "environment", file),
        amount_in=str(content.get("amount_in", "examples")),
    )


def _strategy(
    name: str,
    entry: Any,
    seeds: list[int],
    stage_at: Callable[[str], StageRecord],
    best_of: Callable[[list[StageResult]], int | None],
    file: Path,
) -> Strategy:
    where = f"{file}: the strategy '{name}'"
    if not isinstance(entry, dict):
        raise InputError(f"{where} is {kind_of(entry)}: it must be a mapping.")
    amounts = list_in(entry, "amounts", int, file)
    schedule = list_in(entry, "schedule", object, file)
    if not amounts or len(schedule) != len(amounts):
        raise InputError(f"{where} has {len(schedule)} stages in its schedule, but {len(amounts)} amounts.")
    by_seed = mapping_in(entry, "seeds", file)
    overrides = [
        {key: value for key, value in stage.items() if key != "amount"} if isinstance(stage, dict) else {}
        for stage in schedule
    ]
    if entry.get("data"):  # applies to the whole path
        overrides[0] = {"data": entry["data"], **overrides[0]}
    kept = "average" if isinstance(entry.get("final"), dict) else str(entry.get("final") or "last")
    stages: dict[int, list[StageRecord]] = {}
    finals: dict[int, StageRecord] = {}
    for seed in seeds:
        of_seed = mapping_in({str(seed): {}, **by_seed}, str(seed), file)
        places = list_in({"paths": [], **of_seed}, "paths", str, file)
        if len(places) > len(amounts):
            raise InputError(f"{where} has {len(places)} paths for seed {seed}, but {len(amounts)} stages.")
        stages[seed] = [stage_at(path) for path in places]
        path = mapping_in({"final": {}, **of_seed}, "final", file).get("path")
        if kept == "best" and stages[seed]:  # the file may have been written before the last stage ended
            index = best_of([stage.result for stage in stages[seed] if stage.result])
            finals[seed] = stages[seed][-1 if index is None else index]
        elif kept == "average" and path is not None:
            finals[seed] = stage_at(str(path))
    also = list_in({"also": [], **entry}, "also", str, file)
    control = _control(mapping_in(entry, "control", file), file) if entry.get("control") else None
    return Strategy(name, amounts, overrides, stages, also, control, kept, finals)


def _control(entry: dict[str, Any], file: Path) -> Control:
    copies = list_in(entry, "copies", list, file)
    return Control(str(entry.get("of", "")), copies, str(entry.get("explanation", "")))


def _stage(root: Path, path: str, details: bool) -> StageRecord:
    folder = root / path
    settings, result, history = folder / "stage.json", folder / "result.json", folder / "history.jsonl"
    finished = result.is_file()
    kept = folder / "test_examples.jsonl"
    examples, tested = _examples(kept) if details and kept.is_file() else (None, 0)
    return StageRecord(
        path=path,
        started=finished or history.is_file() or (folder / "sample.txt").is_file(),
        collapsed=not finished and _has_collapsed(folder),
        settings=read_mapping(settings) if settings.is_file() else None,
        result=_result(result) if finished else None,
        history=_history(history, finished) if details else [],
        examples=examples,
        tested=tested,
    )


def _has_collapsed(folder: Path) -> bool:
    """Whether a stage has collapsed in as many attempts as its settings allow."""
    settings = folder / "stage.json"
    if not settings.is_file():
        return False
    attempts = mapping_in({"collapse": {}, **read_mapping(settings)}, "collapse", settings).get("attempts", 0)
    return StageDirectory(folder).has_collapsed(attempts)


def _result(file: Path) -> StageResult:
    try:
        result = StageResult(**read_mapping(file))
        counts = (result.amount, result.in_domain, result.out_of_domain, result.epochs, result.seconds)
        scores = [*result.val.values(), *result.test.values()]
    except (TypeError, AttributeError) as error:
        raise InputError(f"{file} is not the result of a stage: {error}.") from error
    for value in (*counts, *scores):
        if not is_number(value):
            raise InputError(f"{file} is not the result of a stage: it has {value!r} in place of a number.")
    return result


def _history(file: Path, finished: bool) -> list[dict[str, Any]]:
    """The entries in the order of epochs; if an interruption made an epoch train twice, the later entry counts."""
    by_epoch = {}
    for number, entry in read_lines(file, still_written=not finished) if file.is_file() else ():
        if not isinstance(entry.get("epoch"), int):
            raise InputError(f"{file}, line {number}: 'epoch' is {entry.get('epoch')!r}: it must be an integer.")
        by_epoch[entry["epoch"]] = entry
    return [by_epoch[epoch] for epoch in sorted(by_epoch)]


def _examples(file: Path) -> tuple[Examples, int]:
    """The results by id, and how many lines they are of; an example without an id is known by its line."""
    examples: Examples = {}
    number = 0
    for number, entry in read_lines(file):
        name = entry.pop("id", None)
        sums = examples.setdefault(f"(line {number})" if name in (None, "") else str(name), {})
        for metric, pair in entry.items():
            if not isinstance(pair, list) or len(pair) != 2 or not all(map(is_number, pair)):
                expected = "it must be [numerator, denominator]"
                raise InputError(f"{file}, line {number}: '{metric}' is {pair!r}: {expected}.")
            before = sums.get(metric, (0, 0))
            sums[metric] = (before[0] + pair[0], before[1] + pair[1])
    return examples, number

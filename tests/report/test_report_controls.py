"""The page with controls: gradual against the best of them leads, and each is explained."""

import csv
import json
import math
import random
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from html_page import Page
from report_files import draw_examples, write_comparison, write_stage

from gradual import report
from gradual.experiment.controls import CONTROLS, controls_of
from gradual.experiment.strategies import Strategy
from gradual.report.collect import read_comparison
from gradual.report.comparison import Comparison, Control, StageRecord
from gradual.report.comparison import Strategy as CollectedStrategy
from gradual.report.differences import equal_training_tables
from gradual.report.equal_training import equal_training
from gradual.report.figures import draw_stages
from gradual.report.remarks import remarks
from gradual.report.several import data_sets
from gradual.report.several_page import notes
from gradual.report.significance import significances, strategy_of_interest
from gradual.report.tables import DASH, MINUS
from gradual.report.tree import drawing
from gradual.runs.result import STEPS_OF_STRATEGY, StageResult
from gradual.schedule import Schedule

PATH = [2000, 500, 0]
OWN = {"in-domain only": [0], "one-stage": [2000, 0], "gradual": PATH}
FOLDERS = {
    "gradual: same training, one stage": ["2000-as-2000+500", "0-as-0"],
    "gradual: same training, same restarts": ["2000", "2000-as-500", "0-as-0"],
    "gradual: same training, drop at once": ["2000", "0-as-500", "0-as-0"],
    "gradual: mixed, same training": ["2000-as-2000+500+0"],
}
STEPS = {"0": 300, "2000": 400, "2000/0": 150, "2000/500": 200, "2000/500/0": 100}


def write(root: Path, seeds=(0, 1, 2), val=None, cut=()):
    """A run with all four controls of gradual; ``val`` has validation losses by path, or by seed and path."""
    controls = controls_of("gradual", Strategy(Schedule(PATH)), PATH, CONTROLS)
    assert list(controls) == list(FOLDERS)
    schedules = {name: control.schedule.to_list() for name, control in controls.items()}
    content = write_comparison(root, OWN | schedules, seeds)
    for name, folders in FOLDERS.items():
        paths = {
            str(seed): {"paths": ["/".join([f"seed-{seed}", *folders[: k + 1]]) for k in range(len(folders))]}
            for seed in seeds
        }
        content["strategies"][name] |= {"seeds": paths, "control": controls[name].to_plain()["control"]}
    (root / "compare.json").write_text(json.dumps(content))
    every = {
        path
        for strategy in content["strategies"].values()
        for one in strategy["seeds"].values()
        for path in one["paths"]
    }
    for path in sorted(every):
        examples, test = draw_examples(path, 30)
        seed, _, stages = path.partition("/")
        copied = "-as-" in stages.split("/")[-1]
        more = {"ended_by": STEPS_OF_STRATEGY if copied else "patience", "converged": stages not in cut}
        more["steps"] = _steps(stages)
        known = val or {}
        loss = known.get((int(seed[-1]), stages), known.get(stages, 0.5)) + int(seed[-1]) / 100
        write_stage(root, path, test, examples, val={"loss": loss, **test}, **more)
    return root


def _steps(stages: str) -> int:
    last = stages.split("/")[-1]
    if "-as-" not in last:
        return STEPS[stages]
    copied, of = last.split("-as-")[1].split("+"), {"2000": 400, "500": 200, "0": 100}
    return sum(of[one] for one in copied)


VAL = {
    "2000-as-2000+500/0-as-0": 0.4, "2000/2000-as-500/0-as-0": 0.3, "2000/0-as-500/0-as-0": 0.6,
    "2000-as-2000+500+0": 0.7, "2000/500/0": 0.35,
}  # fmt: skip
BEST = "gradual: same training, same restarts"


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory):
    root = write(tmp_path_factory.mktemp("runs") / "restaurant", val=VAL)
    report.write_report(root)
    return root


def test_the_page_leads_with_gradual_against_its_best_control_by_validation(run_dir):
    text = (run_dir / "report/report.html").read_text()
    page = Page(text)
    headings = [data for tag, data in page.texts if tag == "h2"]
    assert headings[:4] == [
        "Gradual against the best control of equal training", "Controls of gradual",
        "Validation scores by strategy", "Test scores by strategy",
    ]  # fmt: skip
    assert "best of 4 by the validation of the other seeds (val/loss, mean)" in text
    assert f"It is {BEST} (seeds 0, 1, 2)." in text
    markdown = (run_dir / "report/table.md").read_text()
    assert markdown.startswith("## Gradual against the best control of equal training")
    for label in ("tab:best-control", "tab:controls", "tab:scores", "tab:significance"):
        assert rf"\label{{{label}}}" in (run_dir / "report/table.tex").read_text()


def test_the_best_control_is_chosen_by_validation_and_not_by_test(run_dir, tmp_path):
    found = equal_training(read_comparison(run_dir))
    assert found.best.chosen == {BEST: [0, 1, 2]}
    tested = {one.name: one.final(0).result.test["joint_accuracy"] for one in found.controls}
    highest = max(tested, key=tested.get)
    other = next(name for name in FOLDERS if name != highest)
    folder = "/".join(FOLDERS[other])
    chosen = equal_training(read_comparison(write(tmp_path / "other", val={folder: 0.1})))
    assert chosen.best.chosen == {other: [0, 1, 2]}


def test_the_control_of_a_seed_is_chosen_by_the_other_seeds(tmp_path):
    draw = random.Random(3)
    paths = {name: "/".join(folders) for name, folders in FOLDERS.items()}
    val = {(seed, path): draw.random() for seed in (0, 1, 2) for path in paths.values()}
    found = equal_training(read_comparison(write(tmp_path, val=val)))
    for seed in (0, 1, 2):
        means = {name: sum(val[other, path] for other in {0, 1, 2} - {seed}) / 2 for name, path in paths.items()}
        assert found.best.by_seed[seed].name == min(means, key=means.get)
    assert len(found.best.chosen) > 1
    row = found.from_best["joint_accuracy"]
    tested = [
        [one.final(seed).result.test["joint_accuracy"] for seed in (0, 1, 2)] for one in (found.strategy, found.best)
    ]
    assert row.difference == pytest.approx(sum(a - b for a, b in zip(*tested)) / 3)


def test_the_choice_favours_neither_side_where_nothing_differs():
    """Chosen by the same seeds, the control would be ahead by 0.49 standard deviations (the mean of the best of 3)."""
    draw, controls = np.random.default_rng(0), [f"control {k}" for k in range(3)]
    differences = []
    for _ in range(400):
        scores = dict(zip(["gradual", *controls], draw.standard_normal((4, 3))))
        found = equal_training(comparison_of(scores))
        differences.append(found.from_best["score"].difference)
    assert abs(np.mean(differences)) < 3 * np.std(differences) / 20


def comparison_of(scores, test_data="", seeds=(0, 1, 2)):
    """A comparison of one stage each by their validation scores, in memory."""
    strategies = [
        CollectedStrategy(
            name, [0], [{}], {seed: [record(f"seed-{seed}/{name}", value)] for seed, value in zip(seeds, values)},
            control=None if name == "gradual" else Control("gradual", [[0]], "it differs"),
        )
        for name, values in scores.items()
    ]  # fmt: skip
    return Comparison(
        Path("run"), strategies, list(seeds), [], ["score"], [], None, "val/score", "max", "", {}, {}
    )  # fmt: skip


def record(path, value):
    result = StageResult(0, 0, 10, 0, 3, 2, 1.0, {"score": float(value)}, {}, path)
    return StageRecord(path, True, result=result)


@pytest.mark.parametrize("mode", ["min", "max"])
def test_a_control_whose_score_is_not_a_number_is_not_the_best(mode):
    scores = {"gradual": [1, 1], "diverged": [math.nan, 2], "fine": [0.5, 0.5]}
    found = equal_training(replace(comparison_of(scores, seeds=(0, 1)), mode=mode))
    assert found.best.by_seed[1].name == "fine"
    only = equal_training(comparison_of({"gradual": [1, 1], "diverged": [math.nan] * 2}, seeds=(0, 1)))
    assert only.best is None


def test_all_controls_are_listed_explained_and_take_the_same_steps(run_dir):
    page = Page((run_dir / "report/report.html").read_text())
    items = [data.strip() for tag, data in page.texts if tag == "li"]
    for name in FOLDERS:
        assert any(item.startswith(f"{name}: ") and item.endswith(".") for item in items)
    header, *rows = csv.reader((run_dir / "report/table.csv").open())
    steps = {row[0]: float(row[header.index("steps")]) for row in rows}
    assert {steps[name] for name in ("gradual", *FOLDERS)} == {700}
    assert steps["one-stage"] == 550


def test_the_difference_from_the_best_control_has_three_intervals(run_dir):
    results = json.loads((run_dir / "report/results.json").read_text())
    (row,) = [row for row in results["significance"] if (row["other"], row["metric"]) == (BEST, "joint_accuracy")]
    assert row["seeds"] == [0, 1, 2]
    by_seed = [results["strategies"][name]["by_seed"]["joint_accuracy"] for name in ("gradual", BEST)]
    by_hand = [by_seed[0][seed] - by_seed[1][seed] for seed in ("0", "1", "2")]
    assert row["difference"] == pytest.approx(sum(by_hand) / 3)
    for low, high in (("low", "high"), ("seeds_low", "seeds_high"), ("examples_low", "examples_high")):
        assert row[low] <= row["difference"] <= row[high]
    assert row["high"] - row["low"] >= 0.9 * (row["seeds_high"] - row["seeds_low"])
    assert f"{row['p_value']:.4f}" in (run_dir / "report/table.md").read_text()
    assert results["best_control"]["by_seed"] == dict.fromkeys(("0", "1", "2"), BEST)
    same = [one for one in results["best_control"]["differences"] if one["metric"] == "joint_accuracy"]
    assert same == [row | {"other": "best control"}]


def test_it_is_ahead_of_all_controls_only_if_it_is_ahead_of_each(run_dir):
    comparison = read_comparison(run_dir)
    found = equal_training(comparison)
    rows = {name: each["joint_accuracy"] for name, each in found.differences.items()}

    def said(differences, p_values):
        changed = zip(rows.items(), differences, p_values)
        every = {
            name: {"joint_accuracy": replace(row, difference=difference, p_value=p)}
            for (name, row), difference, p in changed
        }
        return equal_training_tables(replace(found, differences=every), comparison)[0].explained

    ahead = "joint accuracy: gradual is ahead of every control, by 1.00 or more"
    assert said([0.02, 0.01, 0.03, 0.04], [0.03, 0.01, 0.2, 0.05]) == [f"{ahead}; p = 0.2000, the largest of all."]
    assert said([0.02, 0.01, 0.03, 0.04], [0.03, None, 0.2, 0.05]) == [f"{ahead}."]
    third = list(rows)[2]
    behind = f"joint accuracy: gradual is not ahead of {third} (0.50 behind)."
    assert said([0.02, 0.01, -0.005, 0.04], [0.01] * 4) == [behind]
    assert said([0.02, 0.0, 0.03, 0.04], [0.01] * 4)[0].endswith("(0.00 behind).")
    assert said([0.02, math.nan, 0.03, 0.04], [0.01] * 4) == []


def test_with_one_seed_it_says_that_seeds_are_unknown_instead_of_p(tmp_path):
    made = report.write_report(write(tmp_path / "one", seeds=(0,), val=VAL))
    table = (made.parent / "table.md").read_text()
    assert table.count("seeds unknown") == 2 + 2 * 6
    assert f"{BEST} is the best of 4 by validation (val/loss) under the only seed." in table
    rows = list(csv.DictReader((made.parent / "significance.csv").open()))
    assert {row["p_value"] for row in rows} == {row["low"] for row in rows} == {""}
    assert all(row["examples_low"] for row in rows)


def test_scores_and_their_seeds_are_those_of_the_seeds_that_all_have(tmp_path):
    root = write(tmp_path, seeds=(0, 1), val=VAL)
    (root / "seed-1/2000/500/0/result.json").unlink()
    comparison = read_comparison(root)
    best, every = equal_training_tables(equal_training(comparison), comparison)
    assert "is the best of 4 by validation (val/loss) under seed 0, the only one that all have." in best.note
    assert [row[2].text for row in every.rows] == ["1"] * 5
    note = "Validation scores are of the seeds that all have, a difference of those that the two have."
    assert note in every.note
    write_stage(root, "seed-1/2000/500/0", {"joint_accuracy": 0.5, "slot_accuracy": 0.9}, val={"loss": 0.5}, steps=100)
    comparison = read_comparison(root)
    _, every = equal_training_tables(equal_training(comparison), comparison)
    assert [row[2].text for row in every.rows] == ["2"] * 5
    assert note not in every.note


def test_a_control_is_neither_the_strategy_of_interest_nor_in_the_figure(run_dir):
    comparison = read_comparison(run_dir)
    assert strategy_of_interest(comparison).name == "gradual"
    assert {row.other for row in significances(comparison)} == {*OWN, *FOLDERS} - {"gradual"}
    figure = draw_stages(comparison, [[("test", "joint_accuracy")]])
    assert [text.get_text() for text in figure.legends[0].get_texts()] == list(OWN)
    page = Page((run_dir / "report/report.html").read_text())
    boxes = [attributes for tag, attributes in page.tags if tag == "input" and attributes["name"] == "strategy"]
    assert ["checked" in box for box in boxes] == [True] * 3 + [False] * 4


def test_the_tree_says_whose_steps_a_stage_takes(run_dir, capsys):
    from rich.console import Console

    Console(width=200).print(drawing(read_comparison(run_dir)))
    lines = [line.strip("│├└─ \n") for line in capsys.readouterr().out.splitlines()]
    assert (
        "2000 out-of-domain, for the steps of 2000 + 500 in gradual: done (gradual: same training, one stage)" in lines
    )
    assert any(line.startswith("0 out-of-domain, for the steps of 500 in gradual: done") for line in lines)


def test_only_the_strategy_itself_is_named_where_a_stage_was_cut_off(tmp_path):
    cut = ("2000/500", "2000/2000-as-500", "2000/0-as-500", "2000-as-2000+500", "2000-as-2000+500+0")
    comparison = read_comparison(write(tmp_path, cut=cut))
    (note,) = [line for line in remarks(comparison) if line.startswith("†")]
    assert "gradual (stage 2: patience)" in note
    assert "same restarts" not in note
    assert equal_training(comparison).controls[0].stages_cut_off == [0]


def test_a_comparison_without_controls_says_so(run_dir, tmp_path):
    write_comparison(tmp_path / "plain", OWN)
    (note,) = [line for line in remarks(read_comparison(tmp_path / "plain")) if "--controls" in line]
    assert note.startswith("gradual has no controls")
    assert not [line for line in remarks(read_comparison(run_dir)) if "--controls" in line]


def test_unfinished_controls_are_listed_without_a_best_one(run_dir, tmp_path):
    copy = Path(shutil.copytree(run_dir, tmp_path / "restaurant"))
    for result in copy.glob("seed-*/**/*-as-*/result.json"):
        result.unlink()
    made = report.write_report(copy)
    table = (made.parent / "table.md").read_text()
    assert table.startswith("## Controls of gradual")
    assert "against the best control" not in table
    assert MINUS not in table.split("## Validation")[0]


@pytest.mark.parametrize("finished", [1, 2, 4])
def test_controls_without_a_result_are_not_among_those_that_the_best_is_of(tmp_path, finished):
    root = write(tmp_path / "restaurant", val=VAL)
    there = list(FOLDERS)[-finished:]  # drop at once and mixed are the last two
    for name, folders in FOLDERS.items():
        for result in root.glob("seed-*/" + "/".join(folders) + "/result.json"):
            if name not in there:
                result.unlink()
    comparison = read_comparison(root)
    found = equal_training(comparison)
    note = equal_training_tables(found, comparison)[0].note
    waiting = "; ".join(name for name in FOLDERS if name not in there)
    without = f"Controls without a result, which cannot be the best one yet: {waiting}. "
    first = {
        1: f"gradual: mixed, same training is the only control with a result. {without}",
        2: f"{without}The best control of each seed is the best of 2 ",
        4: "The best control of each seed is the best of 4 ",
    }
    assert note.startswith(first[finished])
    listed = notes(data_sets({"restaurant": comparison}, ["joint_accuracy"]), {})
    assert [line for line in listed if "have no result" in line] == [
        f"Against best control: in restaurant, {4 - finished} of 4 controls have no result and cannot be the best one "
        "yet."
    ][: finished < 4]


def test_controls_that_collapsed_were_trained_at_other_rates_which_is_said(run_dir, tmp_path):
    copy = Path(shutil.copytree(run_dir, tmp_path / "restaurant"))
    assert "collapsed" not in report.write_report(copy).with_name("table.md").read_text()
    once = [{"step": 3, "reason": "the loss is NaN", "lr_scale": 1.0}]
    for path, collapses in (("seed-1/2000/0-as-500", once), ("seed-2/2000/500", once * 2), ("seed-0/2000", once)):
        result = copy / path / "result.json"
        result.write_text(json.dumps(json.loads(result.read_text()) | {"collapses": collapses}))
    comparison = read_comparison(copy)
    (remark,) = [line for line in remarks(comparison) if "collapsed" in line]
    assert remark.endswith(
        "those of the stage whose steps it takes: one-stage (stage 1, seed 0: attempt 2), gradual (stage 1, seed 0: "
        "attempt 2; stage 2, seed 2: attempt 3), gradual: same training, drop at once (stage 2, seed 1: attempt 2)."
    )
    note = equal_training_tables(equal_training(comparison), comparison)[1].note
    assert "takes the steps of several, and lower ones where it collapsed itself, see the notes), and keeps" in note

    own = copy / "seed-1/2000/0-as-500/result.json"
    own.write_text(json.dumps(json.loads(own.read_text()) | {"collapses": []}))
    comparison = read_comparison(copy)
    assert "collapsed" not in equal_training_tables(equal_training(comparison), comparison)[1].note


@pytest.mark.parametrize(
    ("seeds", "by_example", "of"),
    [
        ((0, 1), True, ""),
        ((0, 1), False, " (seeds alone)"),
        ((0,), True, " (test examples alone)"),
        ((0,), False, None),
    ],
)
def test_the_table_of_controls_says_what_its_intervals_are_of(tmp_path, seeds, by_example, of):
    root = write(tmp_path, seeds=seeds, val=VAL)
    for file in root.rglob("test_examples.jsonl") if not by_example else ():
        file.unlink()
    comparison = read_comparison(root)
    table = equal_training_tables(equal_training(comparison), comparison)[1]
    assert table.heading[5:] == ["test slot accuracy", "95% interval", "test joint accuracy", "95% interval"]
    for row in table.rows[1:]:
        for cell in (row[6], row[8]):
            shape = DASH if of is None else r"\S+ to \S+" + re.escape(of)
            assert re.fullmatch(shape, cell.text)

"""The report's numbers: tables and significance, on run directories as `gradual compare` writes them."""

import csv
import io
import json
import math
import shutil
import statistics
import subprocess
import sys
from argparse import ArgumentParser
from dataclasses import replace
from pathlib import Path

import pytest
from report_files import write_comparison, write_run, write_search, write_stage

from gradual import report
from gradual.__main__ import main
from gradual.errors import InputError
from gradual.report.collect import read_comparison
from gradual.report.scores import is_share, strategy_scores
from gradual.report.search import lead
from gradual.report.searched import read_search
from gradual.report.significance import compare, significances
from gradual.report.tables import DASH, MINUS, difference_text, duration, latex, scores_csv, scores_table


@pytest.fixture(scope="module")
def whole_run(tmp_path_factory):
    """A comparison with all stages finished; copy it before changing it."""
    return write_run(tmp_path_factory.mktemp("runs") / "restaurant")


@pytest.fixture
def run_dir(whole_run, tmp_path):
    return Path(shutil.copytree(whole_run, tmp_path / "restaurant"))


@pytest.fixture
def by_hand(tmp_path):
    """Scores, times and epochs that one can reckon with."""
    write_comparison(tmp_path, {"in-domain only": [0], "gradual": [200, 0]}, seeds=(0, 1, 2))
    for seed, (alone, adapted) in enumerate([(0.50, 0.60), (0.52, 0.66), (0.60, 0.66)]):
        scores = {"slot_accuracy": 0.9, "joint_accuracy": alone}
        write_stage(tmp_path, f"seed-{seed}/0", scores, epochs=10, seconds=100.0, in_domain=50)
        write_stage(tmp_path, f"seed-{seed}/200", scores, epochs=4, seconds=30.0 + seed, in_domain=50)
        scores = {"slot_accuracy": 0.9, "joint_accuracy": adapted}
        write_stage(tmp_path, f"seed-{seed}/200/0", scores, epochs=6, seconds=10.0, in_domain=50)
    return tmp_path


# Tables


def test_scores_are_means_and_sample_deviations_over_seeds(by_hand):
    alone, adapted = strategy_scores(read_comparison(by_hand))

    assert alone.scores["test"]["joint_accuracy"].mean == pytest.approx(0.54)
    assert alone.scores["test"]["joint_accuracy"].std == pytest.approx(math.sqrt((0.04**2 + 0.02**2 + 0.06**2) / 2))
    assert adapted.scores["test"]["joint_accuracy"].mean == pytest.approx(0.64)
    assert adapted.scores["test"]["joint_accuracy"].std == pytest.approx(statistics.stdev([0.60, 0.66, 0.66]))
    assert adapted.differences["test"]["joint_accuracy"] == pytest.approx(0.10)
    assert alone.differences["test"]["joint_accuracy"] is None


def test_time_and_examples_seen_are_those_of_the_whole_path(by_hand):
    alone, adapted = strategy_scores(read_comparison(by_hand))

    assert alone.seconds == 100
    assert adapted.seconds == pytest.approx((40 + 41 + 42) / 3)
    assert alone.examples_seen == 10 * 50
    assert adapted.examples_seen == 4 * (50 + 200) + 6 * 50


def test_the_table_shows_percent_points_and_the_best_in_bold(by_hand):
    comparison = read_comparison(by_hand)
    table = scores_table(strategy_scores(comparison), comparison, "test")

    assert table.heading[:5] == ["strategy", "schedule", "seeds", "slot accuracy", "Δ"]
    alone, adapted = ([cell.text for cell in row] for row in table.rows)
    assert alone == ["in-domain only", "0", "3", "90.00 ± 0.00", DASH, "54.00 ± 5.29", DASH, "1 min 40 s", "500"]
    assert adapted == ["gradual", "200 → 0", "3", "90.00 ± 0.00", "0.00", "64.00 ± 3.46", "+10.00", "41 s", "1,300"]
    assert [[cell.text for cell in row if cell.bold] for row in table.rows] == [
        ["90.00 ± 0.00"],
        ["90.00 ± 0.00", "64.00 ± 3.46"],
    ]
    assert "**64.00 ± 3.46**" in table.markdown()
    assert r"\textbf{64.00 $\pm$ 3.46}" in table.latex("tab:scores")


def test_one_seed_has_no_deviation(by_hand):
    for seed in (1, 2):
        shutil.rmtree(by_hand / f"seed-{seed}")
    comparison = read_comparison(by_hand)
    rows = strategy_scores(comparison)

    assert rows[0].scores["test"]["joint_accuracy"].std is None
    assert [cell.text for cell in scores_table(rows, comparison, "test").rows[0]][2:6] == [
        "1 of 3",
        "90.00",
        DASH,
        "50.00",
    ]


def test_the_difference_is_over_the_seeds_that_both_have(by_hand):
    (by_hand / "seed-2/200/0/result.json").unlink()
    _, adapted = strategy_scores(read_comparison(by_hand))

    assert adapted.scores["test"]["joint_accuracy"].by_seed.keys() == {0, 1}
    assert adapted.differences["test"]["joint_accuracy"] == pytest.approx((0.10 + 0.14) / 2)


def test_csv_holds_unrounded_numbers(by_hand):
    comparison = read_comparison(by_hand)
    alone, adapted = csv.DictReader(io.StringIO(scores_csv(strategy_scores(comparison), comparison)))

    assert (adapted["strategy"], adapted["amounts"], adapted["joint_accuracy_n"]) == ("gradual", "200 0", "3")
    assert float(adapted["joint_accuracy_std"]) == statistics.stdev([0.60, 0.66, 0.66])
    assert float(adapted["joint_accuracy_diff"]) == pytest.approx(0.10)
    assert alone["joint_accuracy_diff"] == ""


def test_where_lower_is_better_the_lowest_is_bold(tmp_path):
    write_comparison(tmp_path, {"in-domain only": [0], "mixed": [200]}, seeds=(0,), metrics=["loss"])
    write_stage(tmp_path, "seed-0/0", {"loss": 12.34567})
    write_stage(tmp_path, "seed-0/200", {"loss": 14.0})
    comparison = read_comparison(tmp_path)
    table = scores_table(strategy_scores(comparison), comparison, "test")

    assert [[cell.text for cell in row if cell.bold] for row in table.rows] == [["12.35"], []]
    assert table.rows[1][4].text == "+1.654"


@pytest.mark.parametrize("monitor", ["val/closeness", "val_closeness"])
def test_the_monitor_s_mode_says_what_is_better_also_of_the_test_score(tmp_path, monitor):
    write_comparison(tmp_path, {"in-domain only": [0], "mixed": [200]}, seeds=(0,), metrics=["closeness", "mae"])
    write_stage(tmp_path, "seed-0/0", {"closeness": 1.0, "mae": 3.0})
    write_stage(tmp_path, "seed-0/200", {"closeness": 2.0, "mae": 4.0})
    comparison = replace(read_comparison(tmp_path), monitor=monitor, mode="min")
    table = scores_table(strategy_scores(comparison), comparison, "test")
    assert [[cell.text for cell in row if cell.bold] for row in table.rows] == [["1", "3"], []]


@pytest.mark.parametrize(
    ("metric", "values", "share"),
    [
        ("joint_accuracy", [0.0, 1.0], True),
        ("slot_accuracy_all", [0.5], True),
        ("trigger_f1", [0.5], True),
        ("joint_accuracy", [67.27], False),
        ("loss", [0.5], False),
    ],
)
def test_scores_that_are_shown_in_percent(metric, values, share):
    assert is_share(metric, values) is share


def test_texts_of_numbers():
    assert [difference_text(value, True) for value in (0.1511, -0.02, 0.00001, None)] == [
        "+15.11",
        f"{MINUS}2.00",
        "0.00",
        DASH,
    ]
    assert [duration(seconds) for seconds in (59.4, 61, 3725, None)] == ["59 s", "1 min 01 s", "1 h 02 min", DASH]


def test_latex_is_escaped():
    assert latex("a_b & 50% {x} #1 $y$") == r"a\_b \& 50\% \{x\} \#1 \$y\$"
    assert latex("\\~^") == r"\textbackslash{}\textasciitilde{}\textasciicircum{}"
    assert latex('<b "c">') == r"\textless{}b \char34{}c\char34{}\textgreater{}"


# Significance


def test_gradual_is_compared_with_each_other_strategy(run_dir):
    found = significances(read_comparison(run_dir))

    assert [(row.strategy, row.other, row.metric) for row in found] == [
        ("gradual", other, metric)
        for other in ("in-domain only", "mixed", "one-stage")
        for metric in ("slot_accuracy", "joint_accuracy")
    ]
    for row in found:
        assert row.low <= row.difference <= row.high
        assert (row.low > 0 or row.high < 0) == (row.p_value < 0.05)
        assert (row.examples, row.seeds) == (30, [0, 1])


def test_without_a_strategy_called_gradual_it_is_the_last(tmp_path):
    write_run(tmp_path, strategies={"in-domain only": [0], "4k": [2000, 0]}, count=3)

    assert {(row.strategy, row.other) for row in significances(read_comparison(tmp_path))} == {("4k", "in-domain only")}


def test_only_examples_and_seeds_that_both_have_are_compared(run_dir):
    kept = run_dir / "seed-0/2000/test_examples.jsonl"
    lines = kept.read_text().splitlines(keepends=True)
    kept.write_text("".join(reversed(lines[5:])))
    (run_dir / "seed-1/0/test_examples.jsonl").unlink()
    in_domain_only, mixed, _, gradual = read_comparison(run_dir).strategies

    against_mixed, against_in_domain = (compare(gradual, other, "joint_accuracy") for other in (mixed, in_domain_only))
    assert (against_mixed.examples, against_mixed.seeds) == (25, [0, 1])
    assert (against_in_domain.examples, against_in_domain.seeds) == (30, [0])
    ours, theirs = ([json.loads(line) for line in (run_dir / f"seed-0/{path}/test_examples.jsonl").open()]
                    for path in ("2000/500/0", "0"))  # fmt: skip
    scores = [statistics.fmean(e["joint_accuracy"][0] for e in side) for side in (ours, theirs)]
    assert against_in_domain.difference == pytest.approx(
        (scores[0] - scores[1]) / statistics.fmean(e["joint_accuracy"][1] for e in ours)
    )


# The command


def test_the_command_prints_the_table_and_where_the_report_is(run_dir, capsys):
    parser = ArgumentParser()
    report.add_arguments(parser)
    report.run(parser.parse_args([str(run_dir)]))

    printed = capsys.readouterr().out
    assert "| gradual " in printed
    assert "Significance" not in printed
    assert printed.splitlines()[-1] == f"Report: {run_dir / 'report' / 'report.html'}"


def test_both_reports_of_a_comparison_and_a_search_in_one_directory_are_written(tmp_path, capsys):
    write_run(tmp_path, count=4)
    write_search(tmp_path)
    main(["report", str(tmp_path)])

    printed = capsys.readouterr().out
    pages = [tmp_path / "report/report.html", tmp_path / "report/search.html"]
    assert [line for line in printed.splitlines() if line.startswith("Report: ")] == [f"Report: {p}" for p in pages]
    assert "| gradual " in printed
    assert "The best on validation is 1000 → 0" in printed
    assert all(page.is_file() for page in pages)


@pytest.mark.parametrize(
    ("limit", "said"), [(1000, "960 of 1,000 examples"), (100, "960 examples, with a budget of 100")]
)
def test_a_search_may_have_trained_more_than_its_budget(tmp_path, limit, said):
    write_search(tmp_path)
    path = tmp_path / "search.json"
    content = json.loads(path.read_text())
    content["budget"]["limit"] = limit
    path.write_text(json.dumps(content))
    assert lead(read_search(tmp_path))[0].startswith(f"The search trained {said}: 4 stages, each once, of 2 paths")


def test_a_missing_package_is_named(run_dir, monkeypatch):
    monkeypatch.setattr(report, "find_spec", lambda name: None if name == "matplotlib" else name)
    with pytest.raises(InputError, match=r"needs matplotlib, .*pip install 'gradual\[report\]'"):
        report.write_report(run_dir)


@pytest.mark.slow
def test_the_report_needs_no_torch_and_its_import_nothing_heavy(run_dir):
    code = (
        "import sys; import gradual.report as report\n"
        "assert not {'numpy', 'scipy', 'matplotlib', 'jinja2'} & set(sys.modules)\n"
        "report.write_report(sys.argv[1])\n"
        "assert not {'torch', 'lightning', 'transformers'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code, str(run_dir)], check=True)

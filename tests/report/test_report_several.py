"""The report of several data sets: the pooled estimate, the forest plot, and the page."""

import csv
import json
import math
import xml.etree.ElementTree as ET
from argparse import ArgumentParser

import numpy as np
import pytest
from html_page import Page
from report_files import write_comparison, write_run, write_stage
from scipy import optimize, stats
from statsmodels.stats.meta_analysis import combine_effects

from gradual import report
from gradual.errors import InputError
from gradual.report.collect import read_comparison
from gradual.report.forest import draw_forest
from gradual.report.pooled import pool
from gradual.report.several import data_sets, names_of, pooled
from gradual.report.several_page import notes, several_table
from gradual.report.tables import DASH, MINUS


def by_hand(differences, errors):
    """Paule and Mandel as the root of its equation, and the interval of Hartung, Knapp, Sidik and Jonkman."""
    differences, errors = np.array(differences), np.array(errors)

    def weighted(tau_squared):
        weights = 1 / (errors**2 + tau_squared)
        return weights, (weights * differences).sum() / weights.sum()

    def excess(tau_squared):
        weights, mean = weighted(tau_squared)
        return (weights * (differences - mean) ** 2).sum() - (len(differences) - 1)

    tau_squared = optimize.brentq(excess, 0, 1e3) if excess(0) > 0 else 0.0
    weights, mean = weighted(tau_squared)
    degrees = len(differences) - 1
    scale = max(1.0, (weights * (differences - mean) ** 2).sum() / degrees)
    half = stats.t.ppf(0.975, degrees) * math.sqrt(scale / weights.sum())
    return mean, mean - half, mean + half, math.sqrt(tau_squared)


CASES = {
    "they differ": ([0.02, 0.10, -0.05, 0.30], [0.02, 0.03, 0.02, 0.05]),
    "they differ by chance": ([0.02, 0.03, 0.01], [0.02, 0.03, 0.02]),
    "two": ([0.2, 0.4], [0.05, 0.05]),
}


@pytest.mark.parametrize("case", CASES)
def test_the_pooled_estimate_is_that_of_its_equations(case):
    found = pool(*CASES[case])
    mean, low, high, tau = by_hand(*CASES[case])
    assert (found.difference, found.low, found.high) == pytest.approx((mean, low, high), rel=1e-4)
    assert found.tau == pytest.approx(tau, rel=1e-3, abs=1e-9)
    assert found.data_sets == len(CASES[case][0])


@pytest.mark.filterwarnings("ignore:.*use_t=True")  # of the intervals of single data sets
@pytest.mark.parametrize("case", CASES)
def test_the_pooled_estimate_is_that_of_statsmodels(case):
    differences, errors = map(np.array, CASES[case])
    theirs = combine_effects(differences, errors**2, method_re="pm", use_t=True).summary_frame().loc["random effect"]
    found = pool(differences, errors)
    assert found.difference == pytest.approx(theirs["eff"])
    assert found.low <= theirs["ci_low"] + 1e-12
    assert found.high >= theirs["ci_upp"] - 1e-12
    variance = found.i_squared
    q = ((differences - np.average(differences, weights=1 / errors**2)) ** 2 / errors**2).sum()
    assert variance == pytest.approx(max(0, 1 - (len(differences) - 1) / q))


def test_one_data_set_is_not_pooled_and_equal_ones_do_not_differ():
    assert pool([0.1], [0.01]) is None
    found = pool([0.1, 0.1], [0.01, 0.01])
    assert (found.difference, found.tau, found.i_squared, *found.weights) == pytest.approx((0.1, 0, 0, 0.5, 0.5))


def test_the_weights_are_those_of_the_mean():
    differences, errors = CASES["they differ"]
    found = pool(differences, errors)
    assert sum(found.weights) == pytest.approx(1)
    assert np.dot(found.weights, differences) == pytest.approx(found.difference)


def test_an_interval_of_data_sets_with_three_seeds_each_holds_in_about_nine_of_ten_cases():
    draw, cases, inside = np.random.default_rng(0), 1_000, 0
    for _ in range(cases):
        by_seed = draw.standard_normal((6, 3))
        errors = by_seed.std(axis=1, ddof=1) / 3**0.5
        found = pool(by_seed.mean(axis=1), errors)
        inside += found.low <= 0 <= found.high
    assert 0.88 < inside / cases < 0.94, "what the report says of it"


# The data sets


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    root = tmp_path_factory.mktemp("runs")
    write_run(root / "restaurant", seeds=(0, 1, 2))
    write_run(root / "hotel", seeds=(0, 1), count=20)
    write_run(root / "small", seeds=(0,), count=20)
    return [root / name for name in ("restaurant", "hotel", "small")]


def read(run_dirs, metrics=()):
    return data_sets(dict(zip(names_of(run_dirs), map(read_comparison, run_dirs))), metrics)


def test_each_data_set_has_its_differences_and_those_with_several_seeds_are_pooled(runs):
    found = read(runs, ["joint_accuracy"])
    assert [one.name for one in found] == ["restaurant", "hotel", "small"]
    assert [set(one.differences) for one in found] == [{"one-stage", "in-domain only"}] * 3
    pools = pooled(found)
    rows = [one.differences["one-stage"] for one in found]
    assert [row.standard_error is None for row in rows] == [False, False, True]
    assert pools["one-stage"] == pool([row.difference for row in rows[:2]], [row.standard_error for row in rows[:2]])


def test_the_monitored_score_is_compared_unless_another_is_asked_for(runs):
    assert {one.metric for one in read(runs)} == {"slot_accuracy"}, "the loss that is monitored is not tested"
    assert {one.metric for one in read(runs, ["joint_accuracy"])} == {"joint_accuracy"}
    with pytest.raises(InputError, match=r"No run has a score 'f1'; their scores are joint_accuracy, slot_accuracy"):
        read(runs, ["f1"])


def losses(root, alone, adapted):
    write_comparison(root, {"in-domain only": [0], "gradual": [200, 0]}, seeds=(0, 1), metrics=["loss"])
    for seed in (0, 1):
        for path, loss in (("0", alone + seed), ("200", 9.0), ("200/0", adapted + seed / 2)):
            examples = [{"id": str(k), "loss": [loss + k % 3, 1]} for k in range(6)]
            write_stage(root, f"seed-{seed}/{path}", {"loss": loss + 1.0}, examples)
    return root


def test_a_difference_that_never_varies_does_not_decide_the_pooled_one(runs, tmp_path):
    """Two models that predict nothing, or two names of one path."""
    write_comparison(tmp_path / "same", {"in-domain only": [0], "one-stage": [200, 0], "gradual": [200, 0]}, (0, 1))
    for seed in (0, 1):
        for path in ("0", "200", "200/0"):
            examples = [{"id": str(k), "joint_accuracy": [k % 2, 1]} for k in range(20)]
            write_stage(tmp_path / "same", f"seed-{seed}/{path}", {"joint_accuracy": 0.5}, examples)
    without = pooled(read(runs, ["joint_accuracy"]))["one-stage"]
    found = read([*runs, tmp_path / "same"], ["joint_accuracy"])
    assert found[-1].differences["one-stage"].standard_error == 0
    assert pooled(found)["one-stage"] == without
    assert "Against one-stage: same not pooled, since the difference never varies." in notes(found, pooled(found))


def test_a_score_of_which_nothing_tells_the_better_values_is_refused(tmp_path):
    root = losses(tmp_path / "a", 4.0, 2.0)
    for file in root.rglob("*.json*"):
        file.write_text(file.read_text().replace('"loss"', '"hamming"'))
    with pytest.raises(InputError, match=r"whether low or high values of 'hamming' are better in .*--metric"):
        read([root])


def test_where_lower_is_better_a_lower_score_is_a_gain(tmp_path):
    (one,) = read([losses(tmp_path / "a", 4.0, 2.0)])
    row = one.differences["in-domain only"]
    assert row.difference == pytest.approx(((5 - 3) + (6 - 3.5)) / 2)
    assert row.low <= row.difference <= row.high
    assert row.seeds_low <= row.difference <= row.seeds_high


def test_scores_without_a_common_unit_are_refused(runs, tmp_path):
    with pytest.raises(InputError, match=r"no common unit: slot_accuracy of restaurant, loss of a\. .*--metric"):
        read([runs[0], losses(tmp_path / "a", 4.0, 2.0)])


def test_data_sets_of_one_name_are_called_by_their_paths(tmp_path):
    paths = [tmp_path / "a/run", tmp_path / "b/run", tmp_path / "c"]
    assert names_of(paths) == [str(paths[0]), str(paths[1]), "c"]


@pytest.mark.parametrize("how", ["the same path", "another path", "a link"])
def test_a_run_that_is_given_twice_is_refused(runs, tmp_path, how):
    first = runs[0]
    again = {"the same path": first, "another path": first / "../hotel/.." / first.name, "a link": tmp_path / "link"}[
        how
    ]
    if how == "a link":
        again.symlink_to(first)
    with pytest.raises(InputError, match="are the same run directory: give each data set once") as refused:
        report.write_several([runs[1], first, again], tmp_path / "out")
    assert str(refused.value).startswith(f"{first} and {again} are")
    assert not (tmp_path / "out").exists()


# The picture and the page


def test_the_forest_has_a_panel_a_comparison_and_a_row_a_data_set(runs):
    found = read(runs, ["joint_accuracy"])
    figure = draw_forest(found, pooled(found))
    assert [axes.get_title() for axes in figure.axes] == ["against one-stage", "against in-domain only"]
    labels = [text.get_text() for text in figure.axes[0].get_yticklabels()]
    assert labels == [
        "restaurant\ntest joint accuracy, 3 seeds", "hotel\ntest joint accuracy, 2 seeds",
        "small\ntest joint accuracy, 1 seed", "pooled",
    ]  # fmt: skip
    for axes, against in zip(figure.axes, ("one-stage", "in-domain only")):
        points = [line for line in axes.lines if line.get_marker() == "s"]
        rows = [one.differences[against] for one in found]
        assert [point.get_xdata()[0] for point in points] == pytest.approx([100 * row.difference for row in rows])
        assert [point.get_markerfacecolor() == "#ffffff" for point in points] == [False, False, True]
        intervals = [line for line in axes.lines if line.get_marker() in ("None", "") and len(line.get_xdata()) == 2][
            1:
        ]
        ends = [(row.low, row.high) for row in rows[:2]] + [(rows[2].examples_low, rows[2].examples_high)]
        assert [tuple(line.get_xdata()) for line in intervals] == [pytest.approx((100 * a, 100 * b)) for a, b in ends]
        diamond = axes.patches[0].get_xy()
        whole = pooled(found)[against]
        assert (diamond[:, 0].min(), diamond[:, 0].max()) == pytest.approx((100 * whole.low, 100 * whole.high))


def command(*arguments):
    parser = ArgumentParser()
    report.add_arguments(parser)
    report.run(parser.parse_args(list(map(str, arguments))))


def test_the_command_writes_one_page_with_one_picture(runs, tmp_path, capsys):
    command(*runs, "--out", tmp_path / "all", "--metric", "joint_accuracy")
    made = tmp_path / "all"
    assert sorted(path.name for path in made.iterdir()) == [
        "differences.csv", "forest.png", "forest.svg", "report.html", "table.md",
    ]  # fmt: skip
    printed = capsys.readouterr().out
    assert "Against one-stage, pooled over 2 data sets:" in printed
    assert "small not pooled, for want of two seeds" in printed
    assert printed.splitlines()[-1] == f"Report: {made / 'report.html'}"
    page = Page((made / "report.html").read_text())
    assert [text for tag, text in page.texts if tag == "h1"] == ["Gradual fine-tuning on 3 data sets"]
    assert len([tag for tag, _ in page.tags if tag == "figure"]) == 1
    for _, attributes in page.tags:
        for name in ("src", "href", "xlink:href"):
            assert attributes.get(name, "#").startswith("#")
    ET.fromstring((made / "forest.svg").read_text())
    rows = list(csv.DictReader((made / "differences.csv").open()))
    assert [row["data_set"] for row in rows if row["against"] == "one-stage"] == [
        "restaurant",
        "hotel",
        "small",
        "pooled",
    ]
    (one,) = [row for row in rows if (row["data_set"], row["against"]) == ("hotel", "one-stage")]
    hotel = read(runs, ["joint_accuracy"])[1].differences["one-stage"]
    assert float(one["difference"]) == hotel.difference
    assert float(one["low"]) == hotel.low


def test_the_table_has_the_weights_of_the_pooled_gain(runs):
    found = read(runs, ["joint_accuracy"])
    pools = pooled(found)
    table = several_table(found, pools)
    assert table.heading[-1] == "weight"
    weights = [row[-1].text for row in table.rows[: len(runs) + 1]]
    assert weights == [*(f"{weight:.0%}" for weight in pools["one-stage"].weights), DASH, ""]


def test_another_strategy_of_interest_is_named(tmp_path):
    for name in "ab":
        write_comparison(tmp_path / name, {"in-domain only": [0], "mixed": [200]}, seeds=(0, 1), metrics=["f1"])
        for seed in (0, 1):
            for path, score in (("0", 0.4), ("200", 0.5 + seed / 10)):
                examples = [{"id": str(k), "f1": [(k + seed) % 3 * score, 1]} for k in range(9)]
                write_stage(tmp_path / name, f"seed-{seed}/{path}", {"f1": score}, examples)
    page = report.write_several([tmp_path / name for name in "ab"], tmp_path / "out").read_text()
    assert "<h1>Mixed on 2 data sets</h1>" in page
    assert "The strategy of interest is mixed." in page
    assert "The gain of mixed in each data set" in page
    assert "radual fine-tuning" not in page


def test_making_it_again_gives_the_same_bytes(runs, tmp_path):
    for name in ("a", "b"):
        report.write_several(runs, tmp_path / name)
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()


def test_options_of_several_runs_are_refused_for_one(runs):
    with pytest.raises(InputError, match="--out and --metric are for the report of several"):
        command(runs[0], "--metric", "joint_accuracy")


def test_without_statsmodels_the_error_names_it(runs, tmp_path, monkeypatch):
    monkeypatch.setattr(report, "find_spec", lambda name: None if name == "statsmodels" else name)
    with pytest.raises(InputError, match=r"needs statsmodels, .*pip install 'gradual\[report\]'"):
        report.write_several(runs, tmp_path)


def test_a_negative_pooled_difference_has_its_sign(tmp_path):
    paths = [losses(tmp_path / name, 2.0 + k, 4.0) for k, name in enumerate("ab")]
    report.write_several(paths, tmp_path / "out")
    assert f"pooled over 2 data sets: {MINUS}" in (tmp_path / "out/table.md").read_text()


def test_differences_in_validation_are_told_from_those_of_a_test(runs, tmp_path):
    write_run(tmp_path / "untested", seeds=(0, 1), count=20)
    for file in (tmp_path / "untested").rglob("result.json"):
        file.write_text(json.dumps(json.loads(file.read_text()) | {"test": {}}))
        (file.parent / "test_examples.jsonl").unlink()
    paths = [*runs, tmp_path / "untested"]
    found = read(paths, ["joint_accuracy"])
    made = report.write_several(paths, tmp_path / "out", ["joint_accuracy"]).parent

    rows = [[cell.text for cell in row] for row in several_table(found, pooled(found)).rows]
    scores = {row[0]: row[1] for row in rows if not row[0].startswith("pooled")}
    assert scores == dict.fromkeys(("restaurant", "hotel", "small"), "test joint accuracy") | {
        "untested": "validation joint accuracy"
    }
    labels = [text.get_text() for text in draw_forest(found, pooled(found)).axes[0].get_yticklabels()]
    assert labels[3] == "untested\nvalidation joint accuracy, 2 seeds"
    assert "validation joint accuracy" in (made / "report.html").read_text()
    splits = {row["data_set"]: row["split"] for row in csv.DictReader((made / "differences.csv").open())}
    assert splits == {"restaurant": "test", "hotel": "test", "small": "test", "pooled": "", "untested": "val"}
    (mixed,) = [line for line in notes(found, pooled(found)) if "mix points" in line]
    assert "mix points of test joint accuracy, validation joint accuracy, which do not mean the same" in mixed

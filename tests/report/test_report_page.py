"""The report's figure and page, and that making it again gives the same."""

import json
import re
import shutil
import statistics
import xml.etree.ElementTree as ET

import pytest
from html_page import Page
from report_files import LAST, write_comparison, write_run, write_stage

from gradual import report
from gradual.errors import InputError
from gradual.report.collect import read_comparison
from gradual.report.figures import STYLES, draw_stages, panel_groups, stage_positions, style, to_svg
from gradual.report.page import learning_curves
from gradual.report.tree import stage_tree

FILES = ("table.md", "table.csv", "table.tex", "significance.csv", "stages.png", "stages.svg", "report.html")
HOSTILE = '<b>&"x"'


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory):
    """A finished comparison with a strategy of a name that HTML, LaTeX and matplotlib could mistake, and its report."""
    root = tmp_path_factory.mktemp("runs") / "restaurant"
    strategies = {"in-domain only": [0], "mixed": [2000], HOSTILE: [2000, LAST], "_$gradual$": [2000, 500, LAST]}
    write_run(root, strategies, count=12)
    report.write_report(root)
    return root


@pytest.fixture(scope="module")
def page(run_dir):
    return Page((run_dir / "report/report.html").read_text())


# The figure


def lines_of(figure, panel):
    return {line.get_label(): line for line in figure.axes[panel].lines if not line.get_label().startswith("_child")}


def test_the_figure_has_a_point_a_stage_at_the_mean_over_seeds(run_dir):
    comparison = read_comparison(run_dir)
    figure = draw_stages(comparison, [[("test", metric) for metric in comparison.metrics]])

    ends = {"in-domain only": [2], "mixed": [0], HOSTILE: [0, 2], "_$gradual$": [0, 1, 2]}
    for panel, metric in enumerate(comparison.metrics):
        assert [text.get_text() for text in figure.axes[panel].get_xticklabels()] == ["2000", "500", "0"]
        lines = lines_of(figure, panel)
        for strategy in comparison.strategies:
            x, y = lines[strategy.name].get_data()
            assert list(x) == pytest.approx(ends[strategy.name], abs=0.2)
            tests = [[path[k].result.test[metric] for path in strategy.stages.values()] for k in range(len(y))]
            assert list(y) == pytest.approx([100 * statistics.fmean(scores) for scores in tests])


def test_strategies_that_share_a_stage_lie_beside_each_other(run_dir):
    lines = lines_of(draw_stages(read_comparison(run_dir), [[("test", "joint_accuracy")]]), 0)

    first = [lines[name].get_xdata()[0] for name in ("mixed", HOSTILE, "_$gradual$")]
    assert first == sorted(set(first))
    assert statistics.fmean(first) == pytest.approx(0)


def test_error_bars_are_the_deviation_over_seeds(tmp_path):
    write_comparison(tmp_path, {"in-domain only": [0]}, seeds=(0, 1, 2), metrics=["joint_accuracy"])
    for seed, score in enumerate([0.4, 0.5, 0.9]):
        write_stage(tmp_path, f"seed-{seed}/0", {"joint_accuracy": score})
    figure = draw_stages(read_comparison(tmp_path), [[("test", "joint_accuracy")]])

    (bar,) = figure.axes[0].collections[0].get_segments()
    deviation = 100 * statistics.stdev([0.4, 0.5, 0.9])
    assert list(bar[:, 1]) == pytest.approx([60 - deviation, 60 + deviation])


def test_a_repeated_amount_has_as_many_places(tmp_path):
    write_comparison(tmp_path, {"in-domain only": [0], "a": [2000, 500, 500, 0], "b": [1000, 500, 0]})
    axis, places = stage_positions(read_comparison(tmp_path).strategies)

    assert axis == [2000, 1000, 500, 500, 0]
    assert places == {"in-domain only": [4], "a": [0, 2, 3, 4], "b": [1, 3, 4]}


def test_strategies_differ_in_marker_and_line_as_well_as_in_colour():
    looks = [style(number) for number in range(2 * len(STYLES))]

    assert len({look.marker for look in looks[: len(STYLES)]}) == len(STYLES)
    assert len({look.color for look in looks[: len(STYLES)]}) == len(STYLES)
    assert len({look.dashes for look in looks}) == len(looks)


def test_the_legend_is_outside_the_panels(run_dir):
    figure = draw_stages(comparison := read_comparison(run_dir), panel_groups(comparison))
    to_svg(figure)  # lays it out

    legend = figure.legends[0].get_window_extent()
    assert all(legend.y1 <= axes.get_window_extent().y0 for axes in figure.axes)
    assert [text.get_text() for text in figure.legends[0].get_texts()][2:] == [HOSTILE, "_$gradual$"]


def test_the_svg_holds_no_date_and_nothing_to_fetch(run_dir):
    svg = (run_dir / "report/stages.svg").read_text()

    ET.fromstring(svg)
    assert "<metadata>" not in svg
    assert not re.search(r'href="(?!#)', svg)


# The page


def test_the_page_is_well_formed_and_says_what_it_is(page):
    tags = dict(page.tags)
    assert tags["html"] == {"lang": "en"}
    assert ("title", "Strategies compared: restaurant") in page.texts
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))


def test_the_page_fetches_nothing(run_dir, page):
    for _, attributes in page.tags:
        for name in ("src", "href", "xlink:href", "action", "data", "srcset"):
            assert attributes.get(name, "#").startswith("#")
        assert not re.search(r"url\((?!#)", attributes.get("style") or "")
    text = (run_dir / "report/report.html").read_text()
    namespaces = {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}
    assert set(re.findall(r"https?://[^\s\"'<>)]+", text)) <= namespaces
    assert "@import" not in text
    assert not re.search(r"\b(fetch|XMLHttpRequest|import)\s*\(", text)


def test_names_are_escaped(run_dir, page):
    text = (run_dir / "report/report.html").read_text()

    assert HOSTILE not in text
    assert "b" not in {tag for tag, _ in page.tags}
    assert ("th", HOSTILE) in page.texts
    latex = (run_dir / "report/table.tex").read_text()
    assert r"\textless{}b\textgreater{}\&\char34{}x\char34{} & 2000 $\to$ 0 & 2" in latex
    assert r"\_\$gradual\$" in latex
    assert r"| \<b\>&" in (run_dir / "report/table.md").read_text()


def test_every_control_has_a_label_and_a_keyboard_way(page):
    controls = [(tag, attributes) for tag, attributes in page.tags if tag in ("input", "select", "summary")]

    assert {tag for tag, _ in controls} == {"input", "select", "summary"}
    assert all("tabindex" not in attributes for _, attributes in controls)
    assert all(attributes.get("tabindex") == "0" for _, attributes in page.tags if attributes.get("class") == "wide")


def test_the_page_shows_tables_environment_and_command(page):
    texts = [text.strip() for _, text in page.texts]
    for expected in (
        "Significance",
        "gradual compare --config configs/multiwoz/restaurant.yaml",
        "a processor",
        "torch",
    ):
        assert expected in texts


def test_the_tree_has_each_shared_stage_once(run_dir):
    tree = stage_tree(read_comparison(run_dir))

    assert list(tree) == ["0", "2000"]
    mixed = tree["2000"]
    assert (mixed.amount, mixed.ends, list(mixed.children)) == (2000, [1], ["0", "500"])
    assert mixed.children["0"].overrides == ["optimizer.lr: 4e-05"]
    assert mixed.children["500"].children["0"].ends == [3]
    assert [record.path for record in mixed.children["500"].records.values()] == ["seed-0/2000/500", "seed-1/2000/500"]


def test_what_a_strategy_sets_for_its_data_is_shown(tmp_path):
    content = write_comparison(tmp_path, {"in-domain only": [0]})
    content["strategies"]["in-domain only"]["data"] = {"pool": "all"}
    (tmp_path / "compare.json").write_text(json.dumps(content))

    assert stage_tree(read_comparison(tmp_path))["0"].overrides == ["data.pool: all"]


def test_learning_curves_hold_each_stage_once(run_dir, page):
    curves = learning_curves(read_comparison(run_dir))

    (embedded,) = [text for tag, text in page.texts if tag == "script" and text.startswith('{"metrics"')]
    assert json.loads(embedded) == curves
    assert curves["metrics"][0]["name"] == "val/loss"
    assert {"name": "lr/encoder", "percent": False} in curves["metrics"]
    assert {"name": "val/joint_accuracy", "percent": True} in curves["metrics"]
    assert len(curves["stages"]) == 2 * 5
    assert curves["strategies"][3]["paths"]["1"] == ["seed-1/2000", "seed-1/2000/500", "seed-1/2000/500/0"]
    history = [json.loads(line) for line in (run_dir / "seed-1/2000/history.jsonl").open()]
    values = curves["stages"]["seed-1/2000"]["values"]
    assert values["val/joint_accuracy"] == [100 * entry["val/joint_accuracy"] for entry in history]


def test_scores_that_are_not_finite_still_make_a_page(tmp_path):
    write_comparison(tmp_path, {"in-domain only": [0]}, seeds=(0,))
    write_stage(tmp_path, "seed-0/0", {"slot_accuracy": float("nan"), "joint_accuracy": 0.5})
    made = report.write_report(tmp_path).parent

    assert json.loads((made / "results.json").read_text())["strategies"]["in-domain only"]["slot_accuracy_mean"] is None
    assert "NaN" not in (made / "report.html").read_text()


# Made again


def test_making_it_again_gives_the_same_bytes(run_dir, tmp_path):
    first = {name: (run_dir / "report" / name).read_bytes() for name in (*FILES, "results.json")}
    copy = shutil.copytree(run_dir, tmp_path / "restaurant")
    report.write_report(copy)

    assert sorted(path.name for path in (copy / "report").iterdir()) == sorted(first)
    for name, content in first.items():
        assert (copy / "report" / name).read_bytes() == content, name


def test_a_report_that_cannot_be_made_leaves_the_old_one(run_dir, tmp_path):
    copy = shutil.copytree(run_dir, tmp_path / "restaurant")
    before = (copy / "report/report.html").read_bytes()
    (copy / "seed-0/0/result.json").write_text("{")
    with pytest.raises(InputError, match=r"seed-0/0/result\.json cannot be read"):
        report.write_report(copy)

    assert (copy / "report/report.html").read_bytes() == before

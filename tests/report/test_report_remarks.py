"""What the report says besides scores: stages that a limit cut off, equal paths, a worse last stage, no test data."""

import csv
import json
import math
import random
import re

import pytest
from report_files import LAST, stage_paths, write_comparison, write_stage

from gradual import report
from gradual.report.collect import read_comparison
from gradual.report.differences import significance_table
from gradual.report.figures import draw_stages, panel_groups
from gradual.report.page import learning_curves
from gradual.report.remarks import best_stages, remarks
from gradual.report.scores import strategy_scores
from gradual.report.significance import significances
from gradual.report.tables import MINUS, scores_table

CUT = {"converged": False, "ended_by": "max_epochs"}
PATHS = {"in-domain only": [0], "mixed": [200], "gradual": [200, 50, 0]}


def write(root, paths=PATHS, seeds=(0, 1), cut=(), losses=None, test=True, metrics=("accuracy",)):
    """A comparison; ``cut`` are the stages that a limit ended, ``losses`` validation losses, both by folder."""
    content = write_comparison(root, paths, seeds, metrics)
    (root / "compare.json").write_text(json.dumps(content | {"baseline": next(iter(paths))}))
    stages = stage_paths(content)
    for number, path in enumerate(sorted(stages)):
        accuracy = 0.5 + number / 50
        val = {"accuracy": accuracy - 0.25, "loss": (losses or {}).get(path, 1.0 / (1 + path.count("/")))}
        rows = [{"id": str(k), "accuracy": [50 + 2 * number, 100]} for k in range(4)] if test else None
        ended = CUT if path in cut else {"ended_by": "patience"}
        write_stage(root, path, {"accuracy": accuracy} if test else {}, rows, val=val, **ended)
    return root


def made(root):
    """The report's files: their text by name."""
    folder = report.write_report(root).parent
    return {path.name: path.read_text() for path in folder.iterdir() if path.suffix != ".png"}


def section(table_md, title):
    """A section of ``table.md``, its columns not aligned."""
    return re.sub(" +", " ", table_md.split(f"## {title}\n")[1].split("\n## ")[0])


# Validation scores


def test_validation_scores_are_beside_those_of_the_test(tmp_path):
    files = made(write(tmp_path))

    validation, test = (section(files["table.md"], f"{name} scores by strategy") for name in ("Validation", "Test"))
    assert "| in-domain only | 0 | 2 | 29.00 ± 5.66" in validation  # 0.25 and 0.33
    assert "| in-domain only | 0 | 2 | 54.00 ± 5.66" in test
    row = next(csv.DictReader(files["table.csv"].splitlines()))
    assert (float(row["accuracy_mean"]), float(row["val_accuracy_mean"])) == pytest.approx((0.54, 0.29))
    numbers = json.loads(files["results.json"])["strategies"]["in-domain only"]
    assert numbers["val_by_seed"] == {"accuracy": {"0": 0.25, "1": pytest.approx(0.33)}}
    assert files["table.tex"].count(r"\begin{table}") == 3
    assert r"\caption{Validation scores by strategy" in files["table.tex"]
    comparison = read_comparison(tmp_path)
    labels = [axes.get_ylabel() for axes in draw_stages(comparison, panel_groups(comparison)).axes]
    assert labels == ["validation accuracy (%)", "test accuracy (%)"]
    assert "Validation accuracy after each stage" in files["report.html"]


@pytest.mark.parametrize("asked", [(), ("accuracy",)])
def test_without_test_data_the_validation_scores_are_the_report(tmp_path, asked):
    files = made(write(tmp_path, test=False, metrics=asked))

    assert "Test scores" not in files["table.md"] + files["table.tex"] + files["report.html"]
    assert "29.00 ± 5.66" in section(files["table.md"], "Validation scores by strategy")
    results = json.loads(files["results.json"])
    assert (results["metrics"], results["val_metrics"]) == ([*asked], ["accuracy"])
    assert results["missing"] == []  # nothing that the comparison asked for
    assert results["notes"][-1].startswith("There are no test scores")
    assert "Validation accuracy after each stage" in files["report.html"]


def test_a_metric_that_no_stage_has_is_named_without_test_data_too(tmp_path):
    write(tmp_path, test=False, metrics=("accuracy", "f1"))

    assert read_comparison(tmp_path).missing == ["No stage has a score 'f1'."]


def test_a_metric_of_validation_alone_is_no_missing_test_score(tmp_path):
    write_comparison(tmp_path, {"in-domain only": [0]}, seeds=(0,), metrics=("accuracy", "f1"))
    write_stage(tmp_path, "seed-0/0", {"accuracy": 0.5}, [{"id": "a", "accuracy": [1, 2]}], val={"f1": 0.25})

    comparison = read_comparison(tmp_path)
    assert (comparison.val_metrics, comparison.metrics, comparison.missing) == (["f1"], ["accuracy"], [])


def test_validation_scores_stand_in_the_order_of_the_test_scores(tmp_path):
    write_comparison(tmp_path, {"in-domain only": [0]}, seeds=(0,), metrics=())
    write_stage(tmp_path, "seed-0/0", {"b": 0.5, "a": 0.5}, val={"a": 0.25, "own": 0.1, "b": 0.25})

    comparison = read_comparison(tmp_path)
    assert (comparison.metrics, comparison.val_metrics) == (["b", "a"], ["b", "a", "own"])


def test_without_the_metric_in_validation_its_own_metrics_are_shown(tmp_path):
    write_comparison(tmp_path, {"in-domain only": [0]}, seeds=(0,), metrics=("close",))
    write_stage(tmp_path, "seed-0/0", {"close": 0.5, "loss": 2.0}, val={"loss": 1.5})
    files = made(tmp_path)

    assert read_comparison(tmp_path).val_metrics == ["loss"]
    assert "| 1.5 |" in re.sub(" +", " ", files["table.md"].replace("*", ""))


# Stages that a limit cut off


def test_a_stage_that_did_not_converge_is_marked_wherever_its_score_is_shown(tmp_path):
    write(tmp_path, cut=("seed-1/200",))
    comparison = read_comparison(tmp_path)
    rows = strategy_scores(comparison)

    for split in ("val", "test"):
        texts = [[cell.text for cell in row[:2]] for row in scores_table(rows, comparison, split).rows]
        assert texts == [["in-domain only", "0"], ["mixed†", "200†"], ["gradual†", "200† → 50 → 0"]]
    names = [row[0].text for row in significance_table(significances(comparison), comparison).rows]
    assert names == [f"gradual† {MINUS} in-domain only", f"gradual† {MINUS} mixed†"]
    files = made(tmp_path)
    assert r"mixed$\dagger$ & 200$\dagger$" in files["table.tex"]
    assert "mixed†" in files["report.html"]
    assert {row["strategy"]: row["converged"] for row in csv.DictReader(files["table.csv"].splitlines())} == {
        "in-domain only": "True", "mixed": "False", "gradual": "False",
    }  # fmt: skip
    cut_off = {name: row["cut_off"] for name, row in json.loads(files["results.json"])["strategies"].items()}
    expected = [{"seed": 1, "stage": 0, "ended_by": "max_epochs"}]
    assert cut_off == {"in-domain only": [], "mixed": expected, "gradual": expected}


def test_one_note_explains_the_sign_and_what_to_do(tmp_path):
    write(tmp_path, cut=("seed-0/0", "seed-1/0", "seed-1/200", "seed-1/200/50"))

    notes = [note for note in remarks(read_comparison(tmp_path)) if "†" in note]
    assert len(notes) == 1
    assert (
        "in-domain only (stage 1: max_epochs), mixed (stage 1, seed 1: max_epochs), "
        "gradual (stage 1, seed 1: max_epochs; stage 2, seed 1: max_epochs)"
    ) in notes[0]
    assert "raise the limit" in notes[0]
    files = made(tmp_path)
    for name in ("table.md", "report.html", "results.json"):
        assert files[name].count("raise the limit until patience ends every stage") == 1


def test_points_of_stages_that_did_not_converge_are_hollow_and_the_legend_says_so(tmp_path):
    comparison = read_comparison(write(tmp_path, cut=("seed-1/200",)))
    figure = draw_stages(comparison, [[("test", "accuracy")]])

    lines = [line for line in figure.axes[0].lines if len(line.get_xdata())]
    hollow = [line for line in lines if line.get_markerfacecolor() == "#ffffff"]
    filled = [line for line in lines if line.get_label() == "gradual†"]
    assert [len(line.get_xdata()) for line in hollow] == [1, 1]  # mixed, gradual
    assert hollow[1].get_xydata().tolist() == filled[0].get_xydata()[:1].tolist()
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [
        "in-domain only", "mixed†", "gradual†", "† hollow: not converged",
    ]  # fmt: skip
    stages = learning_curves(comparison)["stages"]
    assert [path for path, stage in stages.items() if stage["cut_off"]] == ["seed-1/200"]


def test_where_all_converged_there_is_no_sign(tmp_path):
    assert not any("†" in text for text in made(write(tmp_path)).values())


def test_results_from_before_the_sign_are_read_as_converged(tmp_path):
    write(tmp_path)
    file = tmp_path / "seed-0/200/result.json"
    old = json.loads(file.read_text())
    del old["ended_by"]
    assert "converged" not in old
    file.write_text(json.dumps(old))

    assert all(not strategy.stages_cut_off for strategy in read_comparison(tmp_path).strategies)


# The same path under several names


def test_strategies_with_the_same_path_are_mentioned_once(tmp_path):
    files = made(write(tmp_path, {"a": [200, LAST], "b": [200, LAST], "c": [200], "d": [200, LAST]}))

    said = "a, b and d are the same path"
    assert [files[name].count(said) for name in ("table.md", "report.html", "results.json")] == [1, 1, 1]


def test_a_name_without_a_row_is_listed_with_the_row_that_stands_for_it(tmp_path):
    write(tmp_path, {"mixed": [200], "gradual": [200, 0]})
    content = json.loads((tmp_path / "compare.json").read_text())
    content["strategies"]["gradual"]["also"] = ["one-stage"]
    (tmp_path / "compare.json").write_text(json.dumps(content))

    _, *notes = remarks(read_comparison(tmp_path))
    assert notes == ["With this schedule, one-stage and gradual are the same path: the row gradual stands for both."]
    assert json.loads(made(tmp_path)["results.json"])["strategies"]["gradual"]["also"] == ["one-stage"]


# A last stage that is worse


def test_a_last_stage_that_is_worse_in_validation_is_noted(tmp_path):
    losses = {"seed-1/200": 0.9, "seed-1/200/50": 0.559, "seed-1/200/50/0": 0.704}
    comparison = read_comparison(write(tmp_path, losses=losses))

    assert remarks(comparison)[1:] == [
        "gradual: the last stage is worse on validation than an earlier one (val/loss; seed 1: 0.559 after stage 2, "
        "0.704 at the end)."
    ]
    assert best_stages(comparison.strategies[-1], "val/loss", "min") == {0: 2, 1: 1}
    assert best_stages(comparison.strategies[-1], "val_loss", "max") == {0: 0, 1: 0}
    assert best_stages(comparison.strategies[0], "val/loss", "min") == {0: 0, 1: 0}
    best = json.loads(made(tmp_path)["results.json"])["strategies"]["gradual"]["best_stage"]
    assert best == {"0": 2, "1": 1}


def test_a_last_stage_without_a_finite_score_is_worse(tmp_path):
    write(tmp_path, seeds=(0,), losses={"seed-0/200/50/0": float("nan")})

    *_, note = remarks(read_comparison(tmp_path))
    assert note.endswith("seed 0: 0.3333 after stage 2, nan at the end).")


def test_a_score_that_no_example_has_is_a_note_and_nothing_that_is_missing(tmp_path):
    root = write(tmp_path, metrics=("accuracy", "macro_f1"))
    results = {file: json.loads(file.read_text()) for file in root.rglob("result.json")}
    for file, result in results.items():
        result["test"]["macro_f1"] = result["test"]["accuracy"] / 2
        file.write_text(json.dumps(result))
    files = made(root)
    content = json.loads(files["results.json"])
    assert content["missing"] == []
    assert [note for note in content["notes"] if "no results by example for macro_f1" in note]
    assert "incomplete" not in files["report.html"]

    one = next(root.rglob("test_examples.jsonl"))  # where some have it, the others lack it
    rows = [json.loads(line) for line in one.read_text().splitlines()]
    one.write_text("".join(json.dumps({**row, "macro_f1": [0, 1]}) + "\n" for row in rows))
    assert any("no 'macro_f1'" in line for line in json.loads(made(root)["results.json"])["missing"])


def test_scores_of_different_test_data_are_not_compared(tmp_path):
    root = write(tmp_path)
    for path in (root / "seed-0").rglob("result.json"):
        path.write_text(json.dumps(json.loads(path.read_text()) | {"test_data": "aaa"}))
    assert len(significances(read_comparison(root))) == 2, "of results without a digest nothing is known"
    result = root / "seed-0/0/result.json"
    result.write_text(json.dumps(json.loads(result.read_text()) | {"test_data": "bbb"}))
    files = made(root)
    comparison = read_comparison(root)
    assert {row.other for row in significances(comparison)} == {"mixed"}
    differences = {row.strategy.name: row.differences for row in strategy_scores(comparison)}
    assert differences["gradual"]["test"] == differences["mixed"]["test"] == {"accuracy": None}
    assert differences["gradual"]["val"]["accuracy"] is not None
    (remark,) = [line for line in remarks(comparison) if "different test data" in line]
    assert "(in-domain only, seed 0) against (mixed, seed 0; gradual, seed 0)." in remark
    assert remark in files["table.md"]
    assert "No significance" not in files["table.md"]


def test_a_score_of_which_nothing_tells_the_better_values_has_no_best(tmp_path):
    for metric, bold in (("hamming", False), ("accuracy", True)):
        root = write(tmp_path / metric)
        for file in root.rglob("*.json*"):
            file.write_text(file.read_text().replace('"accuracy"', f'"{metric}"'))
        rows = scores_table(strategy_scores(read_comparison(root)), read_comparison(root), "test").rows
        assert any(cell.bold for row in rows for cell in row) == bold


def language_model(root, metrics=(), examples=("loss",)):
    """Losses by example, and a perplexity of all of them."""
    content = write_comparison(root, {"in-domain only": [0], "gradual": [200, 0]}, (0, 1), metrics)
    for path in stage_paths(content):
        chance = random.Random(path)
        pairs = [[chance.uniform(20, 30), 10] for _ in range(12)]
        rows = [{"id": str(k), **dict.fromkeys(examples, pair)} for k, pair in enumerate(pairs)]
        loss = sum(pair[0] for pair in pairs) / 120
        scores = {"loss": loss, "perplexity": math.exp(loss)}
        write_stage(root, path, scores, rows, val={name: value + 1 for name, value in scores.items()})
    return root


@pytest.mark.parametrize("metrics", [(), ("perplexity",)])  # as compare.json has them before and after the first stage
def test_the_loss_of_a_language_model_is_compared_beside_its_perplexity(tmp_path, metrics):
    comparison = read_comparison(language_model(tmp_path, metrics))

    assert comparison.shown == {"val": ["perplexity", "loss"], "test": ["perplexity", "loss"]}
    (row,) = significances(comparison)
    assert (row.metric, row.examples) == ("loss", 12)
    assert None not in (row.low, row.high, row.p_value)
    *_, remark = remarks(comparison)
    assert remark.endswith("no results by example for perplexity: the significance of differences is computed for the "
                           "other scores.")  # fmt: skip
    assert comparison.missing == []


def test_the_loss_is_not_added_where_other_scores_are_known_by_example_or_were_chosen(tmp_path):
    assert read_comparison(language_model(tmp_path / "a", examples=("loss", "perplexity"))).metrics == ["perplexity"]
    chosen = language_model(tmp_path / "b", metrics=("bleu",))
    for file in chosen.rglob("result.json"):
        result = json.loads(file.read_text())
        file.write_text(json.dumps(result | {"test": result["test"] | {"bleu": 0.5}}))
    comparison = read_comparison(chosen)
    assert comparison.metrics == ["bleu"]
    assert remarks(comparison)[-1].endswith("for bleu: the significance of differences is not computed.")

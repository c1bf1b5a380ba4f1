"""What the report reads: run directories that are complete, incomplete, being written or damaged."""

import csv
import json
import shutil
from dataclasses import asdict

import pytest
from report_files import write_comparison, write_run, write_stage

from gradual import report
from gradual.errors import InputError
from gradual.report.collect import read_comparison
from gradual.report.remarks import remarks
from gradual.report.significance import not_computed, significances


@pytest.fixture
def run_dir(tmp_path):
    return write_run(tmp_path / "restaurant", count=8)


def test_an_incomplete_comparison_is_reported_as_far_as_it_is(run_dir):
    shutil.rmtree(run_dir / "seed-1/2000/500")
    (run_dir / "seed-1/2000/0/result.json").unlink()
    (run_dir / "seed-0/0/test_examples.jsonl").unlink()
    made = report.write_report(run_dir).parent

    results = json.loads((made / "results.json").read_text())
    assert {name: row["seeds"] for name, row in results["strategies"].items()} == {
        "in-domain only": 2, "mixed": 2, "one-stage": 1, "gradual": 1,
    }  # fmt: skip
    assert results["missing"] == [
        "in-domain only, seed 0: no seed-0/0/test_examples.jsonl, so significance is computed without it.",
        "one-stage, seed 1: 1 of 2 stages finished; seed-1/2000/0 has started.",
        "gradual, seed 1: 1 of 3 stages finished; seed-1/2000/500 has not started.",
        *(
            f"No significance of gradual against in-domain only in '{metric}': no seed has test results of at "
            "least two examples for both."
            for metric in ("slot_accuracy", "joint_accuracy")
        ),
    ]
    assert "one-stage, seed 1: 1 of 2 stages finished" in (made / "table.md").read_text()
    assert "one-stage, seed 1: 1 of 2 stages finished" in (made / "report.html").read_text()


def test_nothing_but_compare_json_makes_a_report_too(tmp_path):
    write_comparison(tmp_path)
    made = report.write_report(tmp_path).parent

    rows = list(csv.DictReader((made / "table.csv").open()))
    assert [row["seeds"] for row in rows] == ["0"] * 4
    assert (made / "significance.csv").read_text().count("\n") == 1


def test_a_history_that_is_being_written_is_read_to_its_last_whole_line(run_dir):
    folder = run_dir / "seed-0/2000/500/0"
    whole = (folder / "history.jsonl").read_text()
    (folder / "history.jsonl").write_text(whole + '{"epoch": 2, "val/loss": 0.5}\n{"epoch": 9, "va')
    with pytest.raises(InputError, match=r"history.jsonl, line \d+ is not JSON"):
        read_comparison(run_dir)

    (folder / "result.json").unlink()
    history = read_comparison(run_dir).strategies[-1].stages[0][-1].history
    assert [entry["epoch"] for entry in history] == list(range(1, whole.count("\n") + 1))
    assert history[1]["val/loss"] == 0.5  # trained again after an interruption


def test_scores_that_do_not_belong_together_are_named(run_dir):
    file = run_dir / "seed-0/0/result.json"
    result = json.loads(file.read_text())
    result["test"]["joint_accuracy"] = 0.25
    del result["test"]["slot_accuracy"]
    file.write_text(json.dumps(result))

    missing = read_comparison(run_dir).missing
    assert missing[0] == "in-domain only, seed 0: no test score 'slot_accuracy' in seed-0/0/result.json."
    assert "'joint_accuracy' is 0.5" in missing[1]
    assert "but 0.2500 in result.json" in missing[1]


@pytest.mark.parametrize("tested", [True, False])
def test_a_validation_score_that_a_seed_lacks_is_named(run_dir, tested):
    for file in run_dir.rglob("result.json"):
        result = json.loads(file.read_text())
        if str(file.parent).endswith("seed-1/2000/500/0"):
            del result["val"]["slot_accuracy"]
        file.write_text(json.dumps(result | {"test": result["test"] if tested else {}}))
    table = (report.write_report(run_dir).parent / "table.md").read_text()

    line = "gradual, seed 1: no validation score 'slot_accuracy' in seed-1/2000/500/0/result.json."
    assert read_comparison(run_dir).missing == [line]
    assert f"## Missing\n\n- {line}\n" in table


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("compare.json", None, "holds no comparison"),
        ("compare.json", "{", "compare.json cannot be read"),
        ("compare.json", "[]", "compare.json holds a list"),
        ("compare.json", '{"seeds": [0]}', "'strategies' is missing"),
        ("compare.json", '{"seeds": ["0"]}', "'seeds' holds '0': it must hold only integers"),
        ("seed-0/0/result.json", '{"index": 0}', "result.json is not the result of a stage: .*missing"),
        ("seed-0/0/result.json", "[1]", "result.json holds a list"),
        ("seed-0/0/stage.json", '{"patience":', "stage.json cannot be read"),
        ("seed-0/0/history.jsonl", '{"val/loss": 1}\n', "history.jsonl, line 1: 'epoch' is None"),
        ("seed-0/0/test_examples.jsonl", "nothing\n", "test_examples.jsonl, line 1 is not JSON"),
        ("seed-0/0/test_examples.jsonl", '{"id": "a", "f1": [1]}\n', r"'f1' is \[1\]: it must be \[numerator"),
    ],
)
def test_damaged_files_are_named(run_dir, file, content, message):
    (run_dir / file).unlink()
    if content is not None:
        (run_dir / file).write_text(content)
    with pytest.raises(InputError, match=message):
        report.write_report(run_dir)
    assert not (run_dir / "report").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"baseline": "none"}, "the baseline 'none' is not one of the strategies"),
        ({"strategies": {"x": {"schedule": [1, 0], "amounts": [1]}}}, "'x' has 2 stages in its schedule, but 1 amount"),
        ({"strategies": {"x": 1}}, "the strategy 'x' is 1"),
        ({"metrics": "f1"}, "'metrics' is text: it must be a list"),
        (
            {"strategies": {"x": {"schedule": [1], "amounts": [1], "seeds": {"0": {"paths": ["a", "b"]}}}}},
            "'x' has 2 paths for seed 0, but 1 stages",
        ),
    ],
)
def test_a_damaged_comparison_is_named(tmp_path, changes, message):
    content = write_comparison(tmp_path)
    (tmp_path / "compare.json").write_text(json.dumps(content | {"baseline": None} | changes))
    with pytest.raises(InputError, match=message):
        read_comparison(tmp_path)


def test_a_folder_reserved_for_a_stage_does_not_count_as_started(tmp_path):
    write_comparison(tmp_path, {"in-domain only": [0]}, seeds=(0,))
    (tmp_path / "seed-0/0").mkdir(parents=True)
    (tmp_path / "seed-0/0/stage.json").write_text('{"patience": 3}')
    assert read_comparison(tmp_path).missing == [
        "in-domain only, seed 0: 0 of 1 stages finished; seed-0/0 has not started."
    ]

    (tmp_path / "seed-0/0/sample.txt").write_text("")
    assert read_comparison(tmp_path).missing == [
        "in-domain only, seed 0: 0 of 1 stages finished; seed-0/0 has started."
    ]


def test_where_no_metric_is_named_all_but_the_loss_are_shown(tmp_path):
    write_comparison(tmp_path, {"in-domain only": [0]}, seeds=(0,), metrics=())
    report.write_report(tmp_path)  # also without a score
    write_stage(tmp_path, "seed-0/0", {"loss": 2.0, "trigger_f1": 0.5, "role_f1": 0.25})

    assert read_comparison(tmp_path).metrics == ["trigger_f1", "role_f1"]


def test_the_loss_is_shown_where_a_module_logs_nothing_else(tmp_path):
    write_comparison(tmp_path, {"in-domain only": [0], "mixed": [5]}, seeds=(0,), metrics=())
    write_stage(tmp_path, "seed-0/0", {"loss": 2.0})
    write_stage(tmp_path, "seed-0/5", {"loss": 1.5})

    assert read_comparison(tmp_path).metrics == ["loss"]
    rows = list(csv.DictReader((report.write_report(tmp_path).parent / "table.csv").open()))
    assert [row["loss_mean"] for row in rows] == ["2.0", "1.5"]


def test_a_module_without_results_by_example_is_told_of_them_once(tmp_path):
    write_comparison(tmp_path, {"in-domain only": [0], "mixed": [5]}, seeds=(0,), metrics=("f1",))
    write_stage(tmp_path, "seed-0/0", {"f1": 0.5})
    write_stage(tmp_path, "seed-0/5", {"f1": 0.25})
    made = report.write_report(tmp_path).parent

    (line,) = json.loads((made / "results.json").read_text())["missing"]
    assert line == (
        "There are no test results by example, and therefore no significance: to provide them, return a list of "
        '{"id": ..., SCORE: [numerator, denominator]} from test_step.'
    )
    write_stage(tmp_path, "seed-0/5", {"f1": 0.25}, examples=[{"id": "a", "f1": [1, 4]}])
    assert read_comparison(tmp_path).missing == [
        "in-domain only, seed 0: no seed-0/0/test_examples.jsonl, so significance is computed without it."
    ]


def write_pairs(root, lines):
    """Two strategies of one stage; ``lines`` are the ids and pairs of the first, the other one has none right."""
    write_comparison(root, {"in-domain only": [0], "gradual": [5]}, seeds=(0, 1), metrics=("f1",))
    for seed in (0, 1):
        for path, right in (("0", 0), ("5", 1)):
            examples = [{**id_, "f1": [right * pair[0], pair[1]]} for id_, pair in lines]
            score = sum(right * pair[0] for _, pair in lines) / sum(pair[1] for _, pair in lines)
            write_stage(root, f"seed-{seed}/{path}", {"f1": score}, examples)
    return root


def test_examples_of_one_id_are_one_unit_with_their_sums(tmp_path):
    sentences = [
        ({"id": name}, pair) for name, pair in (("d1", (1, 2)), ("d2", (1, 4)), ("d1", (3, 3)), ("d3", (0, 5)))
    ]
    documents = [({"id": name}, pair) for name, pair in (("d1", (4, 5)), ("d2", (1, 4)), ("d3", (0, 5)))]
    found = [read_comparison(write_pairs(tmp_path / name, lines)) for name, lines in zip("ab", (sentences, documents))]

    assert [one.missing for one in found] == [[], []]
    by_sentence, by_document = ([asdict(row) for row in significances(one)] for one in found)
    assert by_sentence == by_document
    assert by_sentence[0]["examples"] == 3
    assert by_sentence[0]["difference"] == pytest.approx(5 / 14)
    (remark,) = [line for line in remarks(found[0]) if "same id" in line]
    assert remark.endswith("are resampled together: 4 examples have 3 different ids.")
    assert not [line for line in remarks(found[1]) if "same id" in line]


@pytest.mark.parametrize("none", [{"id": ""}, {"id": None}, {}])
def test_examples_without_an_id_are_units_of_their_own(tmp_path, none):
    pairs = [(1, 2), (1, 4), (3, 3), (0, 5)]
    without = [({"id": "d"}, pairs[0]), *((none, pair) for pair in pairs[1:3]), ({"id": "e"}, pairs[3])]
    named = [({"id": name}, pair) for name, pair in zip(["d", "(line 2)", "(line 3)", "e"], pairs)]
    found = [read_comparison(write_pairs(tmp_path / name, lines)) for name, lines in zip("ab", (without, named))]

    assert [asdict(row) for row in significances(found[0])] == [asdict(row) for row in significances(found[1])]
    assert not [line for line in remarks(found[0]) if "same id" in line]


def test_one_id_of_all_examples_leaves_nothing_to_resample(tmp_path):
    root = write_pairs(tmp_path, [({"id": "all"}, (1, 2)), ({"id": "all"}, (1, 4))])
    comparison = read_comparison(root)

    assert significances(comparison) == []
    missing = not_computed(comparison, [])
    assert [line.split(": ")[1] for line in missing] == ["no seed has test results of at least two examples for both."]
    assert "2 examples have 1 id." in (report.write_report(root).parent / "table.md").read_text()

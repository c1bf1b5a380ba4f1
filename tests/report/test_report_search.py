"""The report of a search: what it says of the comparison under fresh seeds, as far as that is there."""

import json

import pytest
from report_files import write_run, write_search

from gradual import report

DEFAULT, FOUND = "default schedule", "searched schedule"
BEST = {DEFAULT: [2000, 0], FOUND: [1000, 0]}


def edit(file, change):
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content))


def write(root, strategies=BEST, seeds=(1, 2, 3)):
    """A search whose best path is 1000 -> 0, with a confirmation."""
    write_search(root)
    edit(root / "search.json", lambda content: content.update(confirm={"run_dir": "confirm", "seeds": [*seeds]}))
    write_run(root / "confirm", strategies, seeds)
    changes = {"baseline": DEFAULT, "monitor": "val/joint_accuracy", "mode": "max"}
    edit(root / "confirm/compare.json", lambda content: content.update(changes))
    return root


def made(root):
    return report.write_search(root).with_suffix(".md").read_text()


def test_the_confirmation_is_of_all_seeds(tmp_path):
    text = made(write(tmp_path))
    assert "Under 3 fresh seeds it is" in text
    assert "the difference on test is the one to report" in text
    assert "The searched schedule against the default one, under fresh seeds" in text


@pytest.mark.parametrize(
    ("found", "named"),
    [([2000, 500, 0], "2000 → 500 → 0"), ([1000, {"amount": 0, "optimizer": {"lr_scale": 0.5}}], "1000 → 0")],
)
def test_a_confirmation_of_another_path_than_the_best_is_not_its(tmp_path, found, named):
    text = made(write(tmp_path, {DEFAULT: [2000, 0], FOUND: found}))
    assert f"that is there is of {named}, which was the best before." in text
    assert "Under 3 fresh" not in text
    assert "under fresh seeds\n" not in text, "there is no table of it"
    assert "comparison under fresh seeds</a>" not in (tmp_path / "report/search.html").read_text()


def test_overrides_of_the_best_path_are_those_of_its_confirmation(tmp_path):
    slow = {"amount": 0, "optimizer": {"lr_scale": 0.5}}
    write(tmp_path, {DEFAULT: [2000, 0], FOUND: [1000, slow]})
    edit(tmp_path / "search.json", lambda content: content["paths"][1].update(schedule=[1000, slow]))
    assert "Under 3 fresh seeds it is" in made(tmp_path)


def test_only_seeds_that_both_have_finished_count(tmp_path):
    write(tmp_path)
    for seed in (2, 3):
        (tmp_path / f"confirm/seed-{seed}/2000/0/result.json").unlink()
    assert "Under 1 of 3 fresh seeds it is" in made(tmp_path)
    (tmp_path / "confirm/seed-1/2000/0/result.json").unlink()
    text = made(tmp_path)
    assert "The schedule of the configuration is not finished yet under a fresh seed that the best one has." in text
    assert "Under" not in text.partition("\n## ")[0].replace("Under fresh", "")


@pytest.mark.parametrize(("tested", "why"), [(True, "the test does not give v score"), (False, "nothing was tested")])
def test_what_is_missing_beside_a_difference_on_validation_is_said(tmp_path, tested, why):
    write(tmp_path)
    edit(tmp_path / "confirm/compare.json", lambda content: content.update(monitor="v_score"))
    for file in tmp_path.glob("confirm/seed-*/**/result.json"):
        edit(file, lambda content: content["val"].update(v_score=0.5))
        edit(file, lambda content: content.update(test=content["test"] if tested else {}))
    text = made(tmp_path)
    assert f"too good, since the schedule was chosen on the same validation data, and {why}" in text
    assert "there is no test data" not in text

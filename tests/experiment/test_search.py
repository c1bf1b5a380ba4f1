"""The search for a schedule: what it finds and costs, how it goes on, and what it never looks at."""

import json
import statistics
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml
from interrupted_runs import in_a_process
from planted_search import (
    BEST,
    CHOICES,
    FIRST,
    POOL,
    SETTINGS,
    Planted,
    Unread,
    data,
    record,
    score_of,
    search,
    trained,
)
from slow_cases import fast_one_in

import gradual
from gradual import InputError, Schedule
from gradual.experiment.search import api
from gradual.experiment.search import growth as growth_module
from gradual.report.searched import read_search

IN_DOMAIN = 4
SMALL = {"budget": 150}


def without_settings(content: dict) -> dict:
    """What a search has written down, without the machine and the budget that it was given."""
    kept = {name: content[name] for name in ("paths", "best", "default")}
    return {**kept, "spent": content["budget"]["spent"]}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A search that found the planted schedule; nobody may read its test data."""
    root = tmp_path_factory.mktemp("whole")
    return root, search(root, test=Unread())


def test_it_finds_the_planted_schedule_within_its_budget(whole):
    root, result = whole
    assert result.schedule == Schedule(BEST)
    assert result.score == score_of(BEST) == 1
    assert result.spent <= 600
    assert yaml.safe_load((root / "run/search.yaml").read_text()) == {"schedule": BEST}
    assert Schedule(record(root)["paths"][0]["schedule"]) == Schedule(FIRST), "it begins with the given schedule"
    assert len(trained(root)) < 30, "a part of all stages was enough"


def test_a_stage_is_trained_and_paid_once_whatever_paths_share_it(whole):
    root, result = whole
    stages = trained(root)
    assert len(stages) == len({tuple(path) for path in stages})
    assert result.spent == sum(IN_DOMAIN + path[-1] for path in stages)
    paths = record(root)["paths"]
    new = [stage for path in paths for stage in path["stages"] if stage["new"]]
    assert sum(stage["cost"] for stage in new) == result.spent
    shared = [stage for path in paths for stage in path["stages"] if not stage["new"]]
    assert {stage["path"] for stage in shared} <= {stage["path"] for stage in new}
    assert shared


def test_scores_are_those_of_validation(whole):
    root, _ = whole
    for path in record(root)["paths"]:
        amounts = [stage["amount"] for stage in path["stages"]]
        for k, stage in enumerate(path["stages"], start=1):
            assert stage["score"] == pytest.approx(score_of(amounts[:k]))
        if path["state"] == "finished":
            assert amounts[-1] == 0
            assert path["score"] == path["stages"][-1]["score"]
    for result in (root / "run").rglob("result.json"):
        assert json.loads(result.read_text())["test"] == {}


def test_validation_ends_paths_that_are_worse(whole):
    root, _ = whole
    paths = record(root)["paths"]
    pruned = [path for path in paths if path["state"] == "pruned"]
    assert pruned
    for number, path in enumerate(paths):
        if path["state"] != "pruned":
            continue
        assert len(path["stages"]) == len(path["schedule"]), "it ended after a stage, before the next was chosen"
        assert path["score"] is None
        before = [stage for one in paths[:number] if one["state"] == "finished" for stage in one["stages"]]
        alike = [stage["score"] for stage in before if stage["amount"] == path["stages"][-1]["amount"]]
        assert max(stage["score"] for stage in path["stages"]) < statistics.median(alike)


def test_the_same_search_again_trains_nothing(whole):
    root, result = whole
    before, stages = record(root), trained(root)
    journal = root / "run/search.journal"
    journal.write_bytes(journal.read_bytes() + b'{"op_code": 4, "wor')  # a process was killed while it wrote
    Path(f"{journal}.lock").symlink_to(journal)
    assert search(root).schedule == result.schedule
    assert without_settings(record(root)) == without_settings(before)
    assert trained(root) == stages


def test_the_report_shows_the_tree_with_costs_and_gains(whole):
    root, result = whole
    text = (root / "run/report/search.md").read_text()
    assert "The best on validation is 32 → 8 → 0: score 1." in text
    assert "so that a part of the difference is luck" in text
    assert f"trained {result.spent} of 600 examples" in text
    assert "| **· 8**" in text
    gain = score_of([32, 8]) - score_of([32])
    assert f"**+{gain:.4g}**" in text
    page = (root / "run/report/search.html").read_text()
    assert "The tree: what each choice cost and gave" in page
    read = read_search(root / "run")
    assert read.paths[read.best].name == "32 → 8 → 0"


@pytest.mark.parametrize("kill_at", fast_one_in(2, [2, 6]))
def test_a_search_that_was_killed_goes_on_to_the_same_result(tmp_path, kill_at):
    root, undisturbed = tmp_path / "cut", tmp_path / "whole"
    for folder in (root, undisturbed):
        folder.mkdir()
    search(undisturbed, **SMALL)
    assert in_a_process(lambda: search(root, kill_at=kill_at, **SMALL)) == -9
    assert len(trained(root)) == kill_at
    result = search(root, **SMALL)
    assert without_settings(record(root)) == without_settings(record(undisturbed))
    assert result.spent == record(undisturbed)["budget"]["spent"]
    assert len(trained(root)) == len(trained(undisturbed)) + 1, "one stage began twice"


@pytest.mark.slow
def test_a_larger_budget_goes_on_as_if_it_had_been_given_at_once(tmp_path):
    for name in ("once", "twice"):
        (tmp_path / name).mkdir()
    search(tmp_path / "once", budget=200)
    first = search(tmp_path / "twice", budget=95)
    assert 95 <= first.spent < 95 + POOL + IN_DOMAIN
    search(tmp_path / "twice", budget=200)
    assert without_settings(record(tmp_path / "twice")) == without_settings(record(tmp_path / "once"))
    assert trained(tmp_path / "twice") == trained(tmp_path / "once")


def test_a_search_with_budget_left_ends_when_no_path_is_left(tmp_path):
    space = {"multiples": [1, 0.25], "lr_scales": [1], "max_stages": 3}
    search(tmp_path, schedule=[64, 0], search=space, budget=100_000)
    paths = record(tmp_path)["paths"]
    ended = {tuple(path["schedule"]) for path in paths if path["state"] != "unfinished"}
    assert len(ended) >= len(paths) / 2, "a path that was known is followed by one that was not"
    every = {(64, 16, 0), (64, 0), (16, 0)}
    assert all(any(path[: len(one)] == one for one in ended) for path in every)


def test_the_budget_may_be_in_steps(tmp_path):
    result = search(tmp_path, budget=8, budget_in="steps")
    per_stage = [2 if path[-1] == POOL else 1 for path in trained(tmp_path)]  # batches of 64 examples
    assert result.spent == sum(per_stage)
    assert 8 <= result.spent <= 9


@pytest.mark.slow
def test_two_jobs_share_stages_and_train_each_once(tmp_path, monkeypatch):
    """Stages are trained here, but only when the search waits for them, and the last one first."""
    submitted = []

    @contextmanager
    def pool(experiment):
        def submit(node):
            submitted.append((Future(), node, experiment))
            return submitted[-1][0]

        yield submit

    def opened(stack, make, parts, jobs):
        experiment = make()
        return experiment, lambda: pool(experiment)

    def last_one_first(running, return_when):
        assert 1 <= len(running) <= 2
        future, node, experiment = submitted.pop()
        future.set_result(experiment.train(node))
        return {future}, set()

    monkeypatch.setattr(api, "_opened", opened)
    monkeypatch.setattr(growth_module, "wait", last_one_first)
    result = search(tmp_path, budget=250, jobs=2)
    stages = trained(tmp_path)
    assert len(stages) == len({tuple(path) for path in stages})
    assert result.spent == sum(IN_DOMAIN + path[-1] for path in stages)
    assert 250 <= result.spent < 250 + 2 * (POOL + IN_DOMAIN)


class Diverging(Planted):
    """Its validation score is not finite once it has trained on 32 examples."""

    def validation_step(self, batch, batch_idx):
        score = float("nan") if 32 in self.path() else score_of(self.path())
        self.log("val/score", score, batch_size=len(batch[0]))


@pytest.mark.slow
def test_a_path_that_collapses_ends_alone(tmp_path):
    arguments = {**SETTINGS, "search": CHOICES, "confirm_seeds": [], "budget": 300, "collapse": {"attempts": 1}}
    make = lambda: Diverging(str(tmp_path / "trained.txt"))  # noqa: E731 - a new one on each call
    result = gradual.search(make, data(), FIRST, tmp_path / "run", **arguments)
    paths = record(tmp_path)["paths"]
    failed = [path for path in paths if path["state"] == "failed"]
    assert failed
    assert all(32 in path["schedule"] for path in failed)
    assert 32 not in [stage.amount for stage in result.schedule]


def test_the_best_stage_of_a_path_may_be_its_result(tmp_path):
    search(tmp_path, budget=120, final="best")
    for path in record(tmp_path)["paths"]:
        if path["state"] == "finished":
            assert path["score"] == max(stage["score"] for stage in path["stages"])


def test_the_average_of_a_path_may_be_its_result(tmp_path):
    search(tmp_path, budget=120, final="average")
    finished = [path for path in record(tmp_path)["paths"] if path["state"] == "finished"]
    for path in finished:
        amounts = [stage["amount"] for stage in path["stages"]]
        weights = [[*amounts[:k], *[-1] * (6 - k)] for k in range(1, len(amounts) + 1)]
        mean = [sum(column) / len(weights) for column in zip(*weights)]
        assert path["score"] == pytest.approx(score_of([int(amount) for amount in mean if amount >= 0]))
    assert finished


def test_several_devices_for_a_stage_are_refused(tmp_path):
    with pytest.raises(InputError, match="a search trains each stage on one: set devices to 1"):
        search(tmp_path, devices=2)
    assert not (tmp_path / "trained.txt").exists()


@pytest.mark.slow
def test_the_best_schedule_is_compared_under_fresh_seeds_with_test_data(tmp_path):
    result = search(tmp_path, test=list(data().domains.val), budget=260, confirm_seeds=[7])
    assert result.schedule == Schedule(BEST)
    compared = json.loads((tmp_path / "run/confirm/compare.json").read_text())
    assert compared["seeds"] == [7]
    assert [*compared["strategies"]][:2] == ["default schedule", "searched schedule"]
    assert compared["strategies"]["default schedule"]["schedule"] == FIRST
    assert compared["strategies"]["searched schedule"]["schedule"] == BEST
    controls = [one for one in compared["strategies"].values() if "control" in one]
    assert {one["control"]["of"] for one in controls} == {"searched schedule"}
    assert len(controls) >= 2
    final = compared["strategies"]["searched schedule"]["seeds"]["7"]["final"]
    assert final["test"] == {"score": pytest.approx(score_of(BEST) / 2)}
    text = (tmp_path / "run/report/search.md").read_text()
    gain = score_of(BEST) - score_of(FIRST)
    assert f"Under 1 fresh seed it is +{gain:.4g} on validation and +{gain / 2:.4g} on test against that" in text
    assert "the difference on test is the one to report" in text
    assert "Against the best control of equal training" in text
    assert "The searched schedule against the default one, under fresh seeds" in text


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"budget": 0}, "budget is 0: it must be a number above 0"),
        ({"budget_in": "epochs"}, "budget_in is 'epochs': it must be 'examples' or 'steps'"),
        ({"confirm_seeds": [0, 1]}, "confirm_seeds has 0, the seed of the search"),
        ({"search": {"max_stages": 1}}, "max_stages is 1: it must be an integer of at least 2"),
        ({"search": {"lr_scales": [0.5]}}, "it must have 1"),
        ({"search": {"stages": 3}}, "search has no setting 'stages'"),
        ({"search": {"sampler": "TPE"}}, "search.sampler is 'TPE': it must be a class of optuna.samplers"),
        ({"search": {"pruner_args": {"startup": 3}}}, "pruner_args: MedianPruner cannot be made"),
        ({"schedule": [0]}, "begins with 0 out-of-domain examples"),
        ({"budget": 20}, "budget of 20 examples was spent before a path was finished"),
    ],
)
def test_mistakes_are_said_in_a_sentence(tmp_path, changes, message):
    with pytest.raises(InputError, match=message):
        search(tmp_path, **changes)

"""A search with stages in several processes: where it has time for all paths, it finds what one process finds."""

import json
import os
import signal
from pathlib import Path

import pytest
import torch
from planted_search import Planted, Unread, data, record, score_of, search, trained

from gradual import InputError, Schedule

EVERY = [[64, 0], [32, 0], [16, 0], [64, 32, 0], [64, 16, 0], [32, 16, 0]]
ALL = {
    "budget": 10**6,
    "search": {
        "multiples": [1, 0.5, 0.25],
        "lr_scales": [1],
        "max_stages": 3,
        "sampler": "RandomSampler",
        "pruner": None,
    },
}


class Dying(Planted):
    """Kills its process when it first begins to train 32 examples."""

    def on_train_start(self):
        super().on_train_start()
        marker = Path(self.trained).with_name("died")
        if self.path() == [32] and not marker.exists():
            marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)


def stages(root: Path) -> dict[str, tuple[float, dict[str, torch.Tensor]]]:
    """The score and the weights of each stage, by folder."""
    scores = {stage["path"]: stage["score"] for path in record(root)["paths"] for stage in path["stages"]}
    files = {path: root / "run" / path / "best.ckpt" for path in scores}
    return {path: (scores[path], torch.load(file, weights_only=True)["state_dict"]) for path, file in files.items()}


def assert_same(root: Path, other: Path) -> None:
    """Check that two searches have seen all paths, and that their stages have the same scores and weights."""
    found, expected = stages(root), stages(other)
    assert found.keys() == expected.keys()
    for path, (score, weights) in found.items():
        assert score == expected[path][0]
        assert all(torch.equal(value, expected[path][1][name]) for name, value in weights.items())
    for each in (root, other):
        paths = [path["schedule"] for path in record(each)["paths"]]
        assert all(path in paths for path in EVERY)


@pytest.fixture(scope="module")
def sequential(tmp_path_factory):
    """A search that has seen all paths."""
    root = tmp_path_factory.mktemp("sequential")
    result = search(root, **ALL)
    assert result.schedule == Schedule([32, 16, 0])
    assert result.score == max(map(score_of, EVERY))
    assert len(trained(root)) == 12
    return root, result


@pytest.mark.slow
def test_two_processes_train_the_stages_of_one(sequential, tmp_path):
    root, result = sequential
    found = search(tmp_path, jobs=2, test=Unread(), **ALL)
    assert (found.schedule, found.score, found.spent) == (result.schedule, result.score, result.spent)
    assert sorted(trained(tmp_path)) == sorted(trained(root)), "each stage once"
    assert_same(tmp_path, root)


@pytest.mark.slow
def test_a_search_whose_worker_was_killed_goes_on_to_the_same_result_and_confirms_it(sequential, tmp_path):
    root, result = sequential
    with pytest.raises(InputError, match=r"A worker process ended .* The same command goes on"):
        search(tmp_path, model=Dying, jobs=2, test=Unread(), **ALL)
    assert len(trained(tmp_path)) < 12
    tested = list(data().domains.val)
    found = search(tmp_path, model=Dying, jobs=2, test=tested, **ALL, confirm_seeds=[5])
    assert (found.schedule, found.score, found.spent) == (result.schedule, result.score, result.spent)
    assert_same(tmp_path, root)
    assert not any(json.loads(file.read_text())["test"] for file in (tmp_path / "run/seed-0").rglob("result.json"))
    confirmed = json.loads((tmp_path / "run/confirm/compare.json").read_text())["strategies"]
    for name, path in (("default schedule", [64, 16, 0]), ("searched schedule", [32, 16, 0])):
        assert confirmed[name]["seeds"]["5"]["final"]["test"] == {"score": pytest.approx(score_of(path) / 2)}

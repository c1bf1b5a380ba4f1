"""A search goes on in its run directory alone: with another schedule, result, seed or other choices it is refused."""

import json
from pathlib import Path

import pytest
from planted_search import CHOICES, Planted, record, search, trained

from gradual import InputError, Schedule
from gradual.settings import StageOverrides

SMALL = {"budget": 100}


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A search whose budget was enough for its first path."""
    root = tmp_path_factory.mktemp("small")
    search(root, **SMALL)
    return root


def files(root: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in (root / "run").rglob("*") if path.is_file() and path.name != ".lock"}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"schedule": [32, 8, 0]}, r"schedule: \[64, 16, 0\], now \[32, 8, 0\]"),
        ({"schedule": Schedule([64, 16, 0], last_stage=StageOverrides(patience=9))}, r"last_stage.patience: not set"),
        ({"schedule": Schedule([64, 16, 0], {"max_epochs": 2})}, r"\(later_stages.max_epochs: not set, now 2\)"),
        ({"schedule": [64, {"amount": 16, "patience": 2}, 0]}, r"\(schedule: \[64, 16, 0\], now \[64, \{'amount': 16"),
        ({"final": "best"}, r"\(final: 'last', now 'best'\)"),
        ({"seed": 3, "confirm_seeds": []}, r"\(seed: 0, now 3\)"),
        ({"search": CHOICES | {"multiples": [1, 0.25]}}, r"\(search.multiples: \[.*\], now \[1.0, 0.25\]\)"),
        ({"search": CHOICES | {"lr_scales": [1, 0.5]}}, r"search.lr_scales: \[1.0\], now \[1.0, 0.5\]"),
        ({"search": CHOICES | {"pruner": None}}, r"search.pruner: 'MedianPruner', now not set"),
    ],
)
def test_another_search_is_refused_and_nothing_is_written(small, changes, said):
    before = files(small)
    with pytest.raises(InputError, match=rf"holds another experiment .*{said}.*: choose another run_dir"):
        search(small, **{"budget": 200, **changes})
    assert files(small) == before


def test_the_same_amounts_in_other_words_a_budget_and_confirmations_may_change(small):
    stages = trained(small)
    search(small, budget=101, schedule=[1.0, 0.25, 0.0])
    search(small, budget=1, budget_in="steps")
    assert record(small)["budget"]["in"] == "steps"
    assert trained(small) == stages


class Failing(Planted):
    """Fails before it has trained anything."""

    def on_train_start(self):
        raise RuntimeError("out of memory")


def test_a_search_that_has_trained_nothing_begins_anew_with_another_schedule(tmp_path):
    with pytest.raises(RuntimeError, match="out of memory"):
        search(tmp_path, model=Failing, schedule=[48, 16, 0], **SMALL)
    assert (tmp_path / "run/search.journal").exists()
    search(tmp_path, **SMALL)
    assert record(tmp_path)["paths"][0]["schedule"] == [64, 16, 0]
    assert trained(tmp_path)[:3] == [[64], [64, 16], [64, 16, 0]]


def test_a_search_of_an_earlier_version_goes_on_and_is_known_from_then_on(tmp_path):
    search(tmp_path, **SMALL)
    file = tmp_path / "run/experiment.json"
    identity = json.loads(file.read_text())
    assert identity.pop("search")["schedule"] == [64, 16, 0]
    file.write_text(json.dumps(identity))
    search(tmp_path, **SMALL)
    with pytest.raises(InputError, match=r"schedule: \[64, 16, 0\], now \[32, 0\]"):
        search(tmp_path, schedule=[32, 0], **SMALL)

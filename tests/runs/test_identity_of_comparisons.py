"""What a comparison is made of: the rule of single runs, for the model and the weights of each seed."""

import json
import shutil
from pathlib import Path

import linear_model
import pytest
import torch
from identified_runs import QUIET, data, moved
from linear_model import Examples
from torch import nn

import gradual
from gradual import InputError

pytestmark = pytest.mark.usefixtures("undrawn_figures")


def compare(root: Path, make=None, **settings):
    make = make or (lambda: linear_model.LinearModel(root / "trained.txt"))
    strategies = {"one-stage": [20, 0], "in-domain only": [0]}
    given = {"optimizer": {"lr": 0.05}, "max_epochs": 1, "seeds": [0, 1], "strategies": strategies, **QUIET, **settings}
    return gradual.compare(make, given.pop("data", None) or data(), [20, 0], root / "run", **given)


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
    root = tmp_path_factory.mktemp("compared")
    compare(root)
    return root


class Wider(linear_model.LinearModel):
    def __init__(self, log):
        super().__init__(log)
        self.drop = nn.Dropout(0.5)


Wider.__qualname__ = "LinearModel"


def other_weights(root: Path, seed: int) -> linear_model.LinearModel:
    """The weights of one seed alone are others."""
    model = linear_model.LinearModel(root / "trained.txt")
    if torch.initial_seed() == seed:
        moved(model, "layer.weight")
    return model


def test_a_comparison_of_other_things_is_refused(compared):
    trained = linear_model.trained(compared)
    assert len(trained) == 6
    for changes, said in (
        ({"data": data(in_domain=("in", 6, 2.0, 1))}, "in_domain: 12 examples, now 6"),
        ({"make": lambda: Wider(compared / "trained.txt")}, "model: drop.p 0.1, now 0.5"),
        ({"make": lambda: other_weights(compared, 0)}, "starting weights: changed in layer.weight"),
        ({"make": lambda: other_weights(compared, 1)}, "starting weights: changed in layer.weight"),
        ({"max_epochs": 2}, "trainer.max_epochs: 1, now 2"),
    ):
        with pytest.raises(InputError, match=f"holds another experiment .*{said}"):
            compare(compared, **changes)
    compare(compared)
    assert linear_model.trained(compared) == trained


def test_a_comparison_measures_new_test_data_and_trains_nothing(compared, tmp_path):
    for name in ("run", "trained.txt"):
        (shutil.copytree if name == "run" else shutil.copy)(compared / name, tmp_path / name)
    before = linear_model.trained(tmp_path)
    other = Examples("test", 6, 3.0, 5)
    page = compare(tmp_path, make=lambda: linear_model.LinearModel(tmp_path / "trained.txt"), data=data(test=other))
    assert linear_model.trained(tmp_path) == before
    for result in (tmp_path / "run").rglob("result.json"):
        weights = torch.load(result.parent / "best.ckpt", weights_only=True)["state_dict"]
        losses = [
            float((inputs @ weights["layer.weight"].T + weights["layer.bias"] - target).square())
            for inputs, target in other
        ]
        assert json.loads(result.read_text())["test"]["loss"] == pytest.approx(sum(losses) / 6, rel=1e-5)
    assert page.exists()


def test_models_that_a_comparison_looks_at_disturb_no_random_numbers(compared):
    torch.manual_seed(3)
    state = torch.get_rng_state()
    compare(compared)
    seen = torch.get_rng_state()
    assert torch.equal(seen, state)


def test_a_run_of_one_path_and_a_comparison_share_stages_of_equal_weights_alone(tmp_path):
    compare(tmp_path)
    count = len(linear_model.trained(tmp_path))
    torch.manual_seed(0)
    settings = {"optimizer": {"lr": 0.05}, "max_epochs": 1, **QUIET}
    model = linear_model.LinearModel(tmp_path / "trained.txt")
    gradual.fit(model, data(), [20, 0], tmp_path / "run", seed=0, **settings)
    assert len(linear_model.trained(tmp_path)) == count
    with pytest.raises(InputError, match="starting weights: changed"):
        gradual.fit(
            moved(linear_model.LinearModel(tmp_path / "trained.txt"), "layer.bias"),
            data(),
            [20, 0],
            tmp_path / "run",
            **settings,
        )

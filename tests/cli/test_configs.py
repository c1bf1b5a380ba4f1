"""The paper's configurations as they are meant: what is decayed, and which epoch is the best."""

from pathlib import Path

import pytest
import yaml

from gradual.__main__ import main
from gradual.settings import OptimizerConfig
from gradual.stage.optim import parameter_groups
from gradual.tasks.dialogue import DialogueStateTracker

ROOT = Path(__file__).parents[2]
TRACKERS = [ROOT / "configs/demo.yaml", *sorted((ROOT / "configs/multiwoz").glob("*.yaml"))]
PAPERS = [ROOT / "configs/multiwoz" / f"{name}.yaml" for name in ("restaurant", "hotel", "table5")]


def readme_example():
    return next(part for part in (ROOT / "README.md").read_text().split("```yaml\n")[1:]).split("```")[0]


@pytest.mark.parametrize("text", [*(path.read_text() for path in TRACKERS), readme_example()])
def test_neither_biases_nor_norms_are_decayed(small_demo, text):
    tracker = DialogueStateTracker(str(small_demo / "encoder"))
    groups = parameter_groups(tracker, OptimizerConfig(**yaml.safe_load(text)["optimizer"]))
    names = {id(parameter): name for name, parameter in tracker.named_parameters()}
    decay = {names[id(parameter)]: group["weight_decay"] for group in groups for parameter in group["params"]}
    free = {name for name, value in decay.items() if value == 0}
    assert set(decay.values()) == {0, 0.01}
    # weights that are matrices are decayed; biases and the scales of norms are vectors
    assert free == {name for name, parameter in tracker.named_parameters() if parameter.ndim == 1}
    assert {"model.tracker.gru.bias_ih_l0", "model.tracker.norm.weight"} <= free


@pytest.mark.parametrize("path", PAPERS, ids=lambda path: path.stem)
def test_the_best_epoch_has_the_lowest_loss_whatever_comes_before(path, capsys, monkeypatch):
    monkeypatch.setattr("sys.argv", ["gradual"])
    small = f"--config={ROOT}/configs/multiwoz/small.yaml"
    with pytest.raises(SystemExit):
        main(["fit", small, f"--config={path}", "--data.root=x", "--data.domain=hotel", "--print_config"])
    printed = yaml.safe_load(capsys.readouterr().out)
    assert (printed["monitor"], printed["mode"]) == ("val/loss", "min")

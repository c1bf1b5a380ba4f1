"""Sums of scores: in double wherever there is one, whatever the module around them is converted to."""

import pytest
import torch
from torch import nn

import gradual.tasks.scores
from gradual.tasks.dialogue import BeliefScores
from gradual.tasks.events.metrics import Annotations, ExtractionScores

LOSSES = [1000.0, *[2**-16] * 50]  # added to the first one in 24 bits, the others are lost


def belief():
    return BeliefScores(["hotel-area"], [0])


def extraction():
    return ExtractionScores(["events"])


def update(metric, loss):
    if isinstance(metric, BeliefScores):
        right = torch.zeros(1, 1, dtype=torch.long)
        return metric.update(right, right, torch.tensor([[loss]]))
    nothing = Annotations(*(torch.zeros(0, columns, dtype=torch.long) for columns in (4, 6, 3, 6)))
    return metric.update(nothing, nothing, torch.tensor(loss), 1)


CONVERSIONS = {
    "not at all": lambda module: module,
    "to half": lambda module: module.half(),
    "to another type": lambda module: module.to(torch.bfloat16),
    "as bfloat16": lambda module: module.bfloat16(),
    "to its device and type": lambda module: module.to("cpu", torch.float16),
    "twice": lambda module: module.to(torch.float16).to(torch.float32),
}


@pytest.mark.parametrize("make", [belief, extraction])
@pytest.mark.parametrize("how", CONVERSIONS)
def test_sums_stay_exact_when_the_module_is_converted(make, how):
    module = nn.ModuleDict({"scores": make()})
    metric = module["scores"]
    update(metric, LOSSES[0])
    CONVERSIONS[how](module)
    for loss in LOSSES[1:]:
        update(metric, loss)
    assert metric.loss_sum.dtype == torch.float64
    assert metric.loss_sum.item() == sum(LOSSES)
    assert metric.compute()["loss"].item() == pytest.approx(sum(LOSSES) / len(LOSSES), rel=1e-6)
    metric.reset()
    update(metric, 0.5)
    assert metric.loss_sum.dtype == torch.float64
    assert metric.loss_sum.item() == 0.5
    counts = [value for name, value in metric.metric_state.items() if name != "loss_sum"]
    assert {value.dtype for value in counts} == {torch.int64}


@pytest.mark.parametrize("make", [belief, extraction])
def test_a_device_without_double_has_sums_in_single_precision(make, monkeypatch):
    """The meta device stands for Apple's, on which a tensor in double is an error."""
    monkeypatch.setattr(gradual.tasks.scores, "_WITHOUT_DOUBLE", ("meta",))
    metric = make().to("meta")
    assert {part.device.type for part in metric.metric_state.values()} == {"meta"}
    assert metric.loss_sum.dtype == torch.float32
    metric.reset()
    assert metric.loss_sum.dtype == torch.float32
    with torch.device("meta"):
        assert make().loss_sum.dtype == torch.float32

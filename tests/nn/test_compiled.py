"""Modules that are compiled, whole or in part, are trained, carried, resumed and exported as others are."""

import pytest
import torch
from safetensors.torch import load_file
from slow_cases import fast_one_in
from step_counting_runs import Net, PowerCut, Stop, data, fit
from torch import nn

import gradual
from gradual.cli.export import export
from gradual.nn.compiled import lightning_module, plain_name
from gradual.runs.checkpoint import read_checkpoint
from gradual.stage.callbacks.weights import load_weights


class Part(Net):
    """Its head is compiled."""

    def __init__(self):
        super().__init__()
        self.head = torch.compile(self.head, backend="eager")


def whole():
    return torch.compile(Net(), backend="eager")


def weights(module):
    return {plain_name(name): value for name, value in lightning_module(module).state_dict().items()}


def same(left, right):
    left, right = weights(left), weights(right)
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


@pytest.mark.parametrize("make", fast_one_in(2, [Part, whole]))
def test_a_compiled_module_trains_to_the_weights_of_one_that_is_not(tmp_path, make):
    expected, plain = fit(tmp_path / "a")
    result, compiled = fit(tmp_path / "b", make())
    assert same(compiled, plain)
    assert [stage.test for stage in result.stages] == [stage.test for stage in expected.stages]
    assert type(lightning_module(compiled)) in (Net, Part)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("first", "then"), fast_one_in(4, [(Part, Net), (whole, whole), (Part, Part), (Net, Part), (whole, Net)])
)
def test_a_stopped_run_resumes_whichever_module_is_compiled(tmp_path, first, then):
    _, plain = fit(tmp_path / "a")
    with pytest.raises(PowerCut):
        fit(tmp_path / "b", first(), callbacks=[Stop(9)])
    allow_the_other_class(tmp_path / "b/run")
    _, again = fit(tmp_path / "b", then())
    assert same(again, plain)
    _, finished = fit(tmp_path / "b", then())
    assert same(finished, plain)


def allow_the_other_class(run):
    """Whether a class is compiled is no experiment of its own; the classes of this test are."""
    (run / "experiment.json").unlink()


def test_weights_of_a_compiled_part_are_exported_under_their_plain_names(tmp_path):
    result, _ = fit(tmp_path, Part(), [0])
    best = result.best_checkpoint()
    assert "head._orig_mod.weight" in read_checkpoint(best)["state_dict"], "the file has the module's own names"
    assert export(best, tmp_path / "a.safetensors") == 4
    model = Net()
    model.load_state_dict(load_file(tmp_path / "a.safetensors"))
    assert torch.equal(model.head.weight, read_checkpoint(best)["state_dict"]["head._orig_mod.weight"])
    other = Net()
    load_weights(other, best)
    assert same(other, model)


@pytest.mark.slow
def test_a_comparison_takes_compiled_modules(tmp_path):
    settings = {"accelerator": "cpu", "enable_progress_bar": False, "logger": False, "max_epochs": 1}
    page = gradual.compare(whole, data(), [8, 0], tmp_path, strategies=["one-stage"], seeds=[0], **settings)
    assert page.exists()


def test_modules_that_are_no_compiled_lightning_module_are_returned_unchanged():
    compiled = torch.compile(nn.Linear(1, 1), backend="eager")
    assert lightning_module(compiled) is compiled
    module = Net()
    assert lightning_module(module) is module
    both = torch.compile(module, backend="eager")
    assert lightning_module(both) is lightning_module(both) is module

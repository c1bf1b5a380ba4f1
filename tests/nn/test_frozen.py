"""Parameters that checkpoints leave out."""

import copy
import pickle

import pytest
import torch
from torch import nn

from gradual import InputError
from gradual.nn.frozen import check_saved, leave_out, leaves_out, saved_parameters


class Pretrained(nn.Module):
    """A frozen layer, whose weight is tied to another name, under one that is trained."""

    def __init__(self):
        super().__init__()
        self.base = nn.Linear(3, 3)
        self.norm = nn.BatchNorm1d(3)
        self.tied = nn.Linear(3, 3, bias=False)
        self.tied.weight = self.base.weight
        self.head = nn.Linear(3, 1)
        for parameter in self.base.parameters():
            parameter.requires_grad_(False)
        leave_out(self, ["base.weight", "base.bias", "tied.weight"])


SAVED = {"norm.weight", "norm.bias", "norm.running_mean", "norm.running_var", "norm.num_batches_tracked"} | {
    "head.weight", "head.bias",
}  # fmt: skip


def test_a_state_holds_what_was_not_left_out_and_all_buffers():
    assert set(Pretrained().state_dict()) == SAVED


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda module: pickle.loads(pickle.dumps(module))])
def test_copies_leave_out_the_same(copied):
    assert set(copied(Pretrained()).state_dict()) == SAVED


def test_a_state_is_loaded_strictly_but_for_what_was_left_out():
    source, target = Pretrained(), Pretrained()
    before = target.base.weight.clone()
    target.load_state_dict(source.state_dict())
    assert torch.equal(target.head.weight, source.head.weight)
    assert torch.equal(target.base.weight, before)
    state = source.state_dict()
    del state["head.bias"]
    with pytest.raises(RuntimeError, match=r'Missing key\(s\) in state_dict: "head\.bias"\.'):
        target.load_state_dict(state)
    with pytest.raises(RuntimeError, match=r'Unexpected key\(s\) in state_dict: "other"'):
        target.load_state_dict({**source.state_dict(), "other": torch.zeros(1)})


def test_a_compiled_part_leaves_out_the_same():
    module = Pretrained()
    module.base = torch.compile(module.base, backend="eager")
    assert set(module.state_dict()) == SAVED


def test_entries_below_a_parameter_are_left_out_with_it():
    module = Pretrained()
    module.base.register_state_dict_post_hook(add_scale)
    assert set(module.state_dict()) == SAVED


def add_scale(module, state, prefix, metadata):
    """As a quantized layer does."""
    state[f"{prefix}weight.absmax"] = torch.ones(1)


def test_saved_parameters_are_those_that_checkpoints_hold():
    module = Pretrained()
    assert saved_parameters(module) == [*module.norm.parameters(), *module.head.parameters()]
    assert leaves_out(module)
    assert saved_parameters(module.head) == list(module.head.parameters())
    assert not leaves_out(module.head)


@pytest.mark.parametrize("whole", [lambda module: module, lambda module: torch.compile(module, backend="eager")])
def test_training_what_is_not_saved_is_refused(whole):
    outer = nn.Sequential(whole(Pretrained()), nn.Linear(1, 1))
    names = [name for name, _ in outer.named_parameters()]
    saved = [name for name in names if ".base." not in name]
    assert len(saved) == len(names) - 2
    check_saved(outer, saved)
    with pytest.raises(InputError, match=r"would be trained \(0\.base\.weight, 0\.base\.bias\), and no later stage"):
        check_saved(outer, names)

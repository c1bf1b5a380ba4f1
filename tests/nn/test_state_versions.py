"""Modules whose state has changed its meaning (``_version``): own states are never taken for old ones."""

import pytest
import torch
from step_counting_runs import Net, PowerCut, Stop, data, fit
from torch import nn

from gradual.nn.compiled import named_as_in, plainly_named
from gradual.runs.checkpoint import WholeCheckpointIO, read_checkpoint
from gradual.stage.callbacks.weights import load_weights

IN = torch.tensor([[1.0, 2.0, 3.0, 4.0]])


class Negated(nn.Linear):
    """Version 1 kept the weight with the opposite sign."""

    _version = 2

    def _load_from_state_dict(self, state_dict, prefix, local_metadata, *rest):
        if local_metadata.get("version", 1) < 2:
            state_dict[prefix + "weight"] = -state_dict[prefix + "weight"]
        super()._load_from_state_dict(state_dict, prefix, local_metadata, *rest)


class Versioned(Net):
    def __init__(self, compiled=False):
        super().__init__()
        self.head = Negated(4, 1)
        if compiled:
            self.head = torch.compile(self.head, backend="eager")


def test_a_state_without_versions_is_migrated():
    module, other = Versioned(), Versioned()
    other.load_state_dict(dict(module.state_dict()))
    assert torch.equal(other.head.weight, -module.head.weight), "else the tests here could not fail"


@pytest.mark.parametrize("source", [False, True])
@pytest.mark.parametrize("target", [False, True])
def test_versions_follow_their_modules_under_other_names(source, target):
    torch.manual_seed(3)
    module, other = Versioned(source), Versioned(target)
    for renamed in (named_as_in(other, module.state_dict()), named_as_in(other, plainly_named(module.state_dict()))):
        other.load_state_dict(renamed)
        assert torch.equal(other.head(IN), module.head(IN))
    plain = Versioned()
    plain.load_state_dict(plainly_named(module.state_dict()))
    assert torch.equal(plain.head(IN), module.head(IN))


def test_an_old_state_without_versions_stays_one():
    assert not hasattr(named_as_in(Versioned(), dict(Versioned().state_dict())), "_metadata")


def test_stages_tests_and_averages_use_the_weights_that_were_validated(tmp_path):
    examples = data().load().val
    result, _ = fit(tmp_path, Versioned(), [24, 0], data(test=examples), final="average", max_epochs=1)
    for stage in (*result.stages, result.average):
        assert stage.test["loss"] == pytest.approx(stage.val["loss"])
    module = Versioned()
    load_weights(module, result.best_checkpoint())
    state = read_checkpoint(result.best_checkpoint())["state_dict"]
    assert torch.equal(module.head.weight, state["head.weight"])


def test_a_resumed_stage_continues_with_its_weights(tmp_path):
    _, expected = fit(tmp_path / "a", Versioned(), [24])
    with pytest.raises(PowerCut):
        fit(tmp_path / "b", Versioned(), [24], callbacks=[Stop(9)])
    _, resumed = fit(tmp_path / "b", Versioned(), [24])
    assert torch.equal(resumed.head.weight, expected.head.weight)


def test_a_state_collected_from_shards_is_saved_with_versions(tmp_path):
    module = Versioned()
    WholeCheckpointIO({}, module).save_checkpoint({"state_dict": dict(module.state_dict())}, tmp_path / "a.ckpt")
    loaded = torch.load(tmp_path / "a.ckpt", weights_only=True)["state_dict"]
    assert loaded._metadata == module.state_dict()._metadata

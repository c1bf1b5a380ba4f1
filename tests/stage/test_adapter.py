"""Models with frozen weights and an adapter, from stage to stage."""

import shutil
from pathlib import Path

import pytest
import torch
from adapted_model import Adapted, fit
from lightning.pytorch import Callback
from slow_cases import fast_one_in
from step_counting_runs import Net, PowerCut

from gradual import InputError, Schedule, TrainSettings
from gradual.runs.checkpoint import read_checkpoint
from gradual.stage.callbacks.weights import load_weights

TRAINED = {"head.weight", "head.bias", "down", "up"}
MERGE = {"adapter": "merge"}


def function_of(model):
    """What the model computes, as one matrix."""
    return model.base.weight + model.up @ model.down


def carried(root, folder):
    """A new model with the weights of a stage."""
    model = Adapted()
    load_weights(model, root / "run/seed-0" / folder / "best.ckpt")
    return model


def weights(model):
    return {name: value.detach() for name, value in model.named_parameters()}


def assert_equal_weights(left, right):
    assert left.keys() == right.keys()
    for name in left:
        assert torch.equal(left[name], right[name]), name


def test_no_checkpoint_holds_what_is_frozen(tmp_path):
    fit(tmp_path, (24, 0), weight_averaging=0.5, callbacks=[KeepStart(tmp_path / "start.pt")])
    for path in (tmp_path / "start.pt", *(tmp_path / "run").rglob("*.ckpt")):
        content = read_checkpoint(path)
        assert set(content["state_dict"]) == TRAINED
        assert largest_tensors(content) == {(64, 2), (1, 64)}, path


class KeepStart(Callback):
    """Copies the weights to go back to after a collapse, which a stage removes at its end."""

    def __init__(self, path):
        self.path = path

    def on_train_end(self, trainer, pl_module):
        start = Path(trainer.default_root_dir) / "start.pt"
        if start.exists():
            shutil.copy(start, self.path)


def largest_tensors(content):
    """The shapes of all large tensors in a checkpoint; the frozen weight is of shape (64, 3)."""
    if isinstance(content, torch.Tensor):
        shape = tuple(content.shape)
        return {shape} if content.dtype.is_floating_point and len(shape) == 2 and max(shape) == 64 else set()
    parts = content.values() if isinstance(content, dict) else content if isinstance(content, list | tuple) else ()
    return {shape for part in parts for shape in largest_tensors(part)}


def test_an_adapter_goes_on_by_default(tmp_path):
    model, _ = fit(tmp_path, (24, 8))
    assert_equal_weights(model.starts[1], weights(carried(tmp_path, "24")))
    assert torch.equal(model.starts[1]["base.weight"], model.starts[0]["base.weight"])


def test_a_merged_adapter_is_in_the_weights_and_a_new_one_begins(tmp_path):
    model, _ = fit(tmp_path, later=MERGE)
    for stage, (folder, start) in enumerate(zip(("24", "24/8"), model.starts[1:]), start=1):
        parent = carried(tmp_path, folder)
        torch.testing.assert_close(start["base.weight"], function_of(parent))
        assert not start["up"].any()
        assert torch.equal(start["head.weight"], parent.head.weight)
        assert not torch.equal(start["down"], model.starts[stage - 1]["down"])
    last = carried(tmp_path, "24/8/0")
    assert len(last.adapter.earlier) == 2
    assert_equal_weights(weights(last), weights(model))


SETTINGS = [{}, {"later": MERGE}, {"later": MERGE, "weight_averaging": 0.5}]


@pytest.mark.parametrize("stop", fast_one_in(4, [3, 16, 19, 24, 25]))  # the stages have 16, 8 and 4 steps
@pytest.mark.parametrize("settings", SETTINGS, ids=["continue", "merge", "average"])
def test_an_interrupted_run_resumes_to_the_same_bits(tmp_path, undisturbed_runs, settings, stop):
    whole, result = undisturbed_runs(settings)
    with pytest.raises(PowerCut):
        fit(tmp_path, callbacks=[StopOver(stop)], checkpoint_every=0, **settings)
    resumed, again = fit(tmp_path, checkpoint_every=0, **settings)
    assert_equal_weights(weights(resumed), whole)
    assert scores(again) == scores(result)


@pytest.fixture(scope="module")
def undisturbed_runs(tmp_path_factory):
    """Gives the last weights and the result of a run that is not interrupted, with the given settings."""
    known = {}

    def of(settings):
        if str(settings) not in known:
            model, result = fit(tmp_path_factory.mktemp("whole"), **settings)
            known[str(settings)] = weights(model), result
        return known[str(settings)]

    return of


class StopOver(Callback):
    """Fails at a training step, counted over all stages, as a power cut would."""

    def __init__(self, at):
        self.left = at

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if self.left == 0:
            raise PowerCut
        self.left -= 1

    def __deepcopy__(self, memo):  # each stage has a copy of the callbacks
        return self


def scores(result):
    return [(stage.val, stage.test, stage.epochs) for stage in result.stages]


def test_a_stage_that_collapses_merges_again(tmp_path):
    class Spike(Adapted):
        """The first attempt at the second stage has no finite loss."""

        def training_step(self, batch, batch_idx):
            return super().training_step(batch, batch_idx) * (float("nan") if len(self.starts) == 2 else 1.0)

    model, result = fit(tmp_path, (24, 0), Spike(), MERGE, collapse={"attempts": 2})
    assert [len(stage.collapses) for stage in result.stages] == [0, 1]
    assert_equal_weights(model.starts[1], model.starts[2])
    assert len(model.adapter.earlier) == 1


def test_stages_that_merge_are_others_than_those_that_continue(tmp_path):
    stages = Schedule([{"amount": 24, "adapter": "merge"}, {"amount": 8, "adapter": "continue"}, 0], MERGE)
    assert [stage.adapter for stage in stages] == [None, "continue", "merge"], "a first stage has nothing to merge"
    resolved = [TrainSettings().resolve(stage) for stage in stages]
    assert resolved[0] == resolved[1] == TrainSettings().resolve(Schedule([0])[0]), "the default is no setting"
    assert resolved[2] == {**resolved[0], "adapter": "merge"}


@pytest.mark.parametrize(
    ("model", "stage", "message"),
    [
        (Net, {"adapter": "merge"}, "adapter is 'merge', but this Net has no adapter: set lora, or remove adapter"),
        (Net, {"adapter": "continue"}, "adapter is 'continue', but this Net has no adapter"),
        (lambda: Adapted(refuses=True), {"adapter": "merge"}, "this adapter cannot be merged"),
    ],
)
def test_what_cannot_be_merged_is_said_before_any_stage_trains(tmp_path, model, stage, message):
    with pytest.raises(InputError, match=message):
        fit(tmp_path, model=model(), later=stage)
    assert not list((tmp_path / "run").rglob("*.ckpt"))


def test_other_values_are_refused():
    with pytest.raises(InputError, match="adapter is 'new': it must be 'continue', 'merge' or None"):
        Schedule([4, {"amount": 0, "adapter": "new"}])

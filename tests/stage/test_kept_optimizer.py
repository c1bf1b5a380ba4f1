"""The setting ``optimizer.state``: a stage goes on with the state of the optimizer of the stage before, or anew."""

import copy

import pytest
import torch
from adapted_model import fit as fit_adapted
from recorded_runs import QUIET, LinearModel, Scripted, Stop, data, run, weights

import gradual
from gradual import InputError, OptimizerConfig, Schedule, Stage

KEEP = {"optimizer": {"state": "keep"}}


class Recorded(LinearModel):
    """Records the state of each optimizer at the start of each stage, and after each epoch."""

    def __init__(self, lr=None):
        super().__init__(lr)
        self.begins, self.epochs = [], []

    def on_train_start(self):
        super().on_train_start()
        self.begins.append(self.state())
        self.epochs.append([])

    def on_train_epoch_end(self):
        self.epochs[-1].append(self.state())

    def state(self):
        names = {parameter: name for name, parameter in self.named_parameters()}
        optimizer = self.trainer.optimizers[0]
        return {names[parameter]: copy.deepcopy(state) for parameter, state in optimizer.state.items()}


def assert_same(left, right):
    assert left.keys() == right.keys() != set()
    for name in left:
        assert left[name].keys() == right[name].keys()
        for entry, value in left[name].items():
            assert torch.equal(torch.as_tensor(value), torch.as_tensor(right[name][entry])), (name, entry)


def test_a_stage_keeps_the_state_as_of_the_best_epoch_and_no_other(tmp_path):
    class Model(Recorded, Scripted):
        def __init__(self):
            Scripted.__init__(self, [5.0, 3.0, 4.0])
            self.begins, self.epochs = [], []

    model, result = run(tmp_path, Model(), [20, {"amount": 5, **KEEP}, 0])
    assert [stage.best_epoch for stage in result.stages] == [2, 2, 2]
    assert_same(model.begins[1], model.epochs[0][1])
    assert not model.begins[0], "there is no stage before the first one"
    assert not model.begins[2], "the last stage begins anew"


def test_steps_that_keep_the_state_are_those_of_one_optimizer(tmp_path):
    """By hand: the moments of Adam are averages over the gradients of both stages."""
    gradients = []

    class Model(Recorded):
        def on_before_optimizer_step(self, optimizer):
            gradients.append(self.head.bias.grad.clone())

    model, _ = run(tmp_path, Model(), [20, 0], optimizer=OptimizerConfig(lr=0.001, state="keep"), max_epochs=1)
    mean = torch.zeros(1)
    for gradient in gradients:
        mean = 0.9 * mean + 0.1 * gradient
    kept = model.epochs[1][0]["head.bias"]
    assert kept["exp_avg"] == pytest.approx(mean.numpy(), rel=1e-4)
    assert float(kept["step"]) == len(gradients)


def test_the_rates_and_their_schedule_begin_anew(tmp_path):
    warm = {"name": "linear", "warmup": 0.5}
    later = {"optimizer": {"state": "keep", "lr_scale": 0.5}}
    kept, _ = run(tmp_path / "keep", Recorded(), Schedule([20, 0], later), lr_schedule=warm)
    fresh, _ = run(
        tmp_path / "fresh", Recorded(), Schedule([20, 0], {"optimizer": {"lr_scale": 0.5}}), lr_schedule=warm
    )
    assert kept.rates == fresh.rates
    assert kept.begins[1]
    assert not fresh.begins[1]


def test_it_also_applies_to_the_module_s_own_optimizer(tmp_path):
    model = Recorded(0.05)
    model.configure_optimizers = lambda: torch.optim.SGD(model.parameters(), lr=0.005, momentum=0.9)
    run(tmp_path, model, [20, 0], optimizer=OptimizerConfig(state="keep"))
    assert "momentum_buffer" in model.begins[1]["head.weight"]


def test_a_stage_that_keeps_it_is_another_stage_and_the_default_is_not(tmp_path):
    run(tmp_path, schedule=[20, 0])
    assert run(tmp_path, schedule=[20, {"amount": 0, "optimizer": {"state": "fresh"}}])[0].losses == []
    first = [{"amount": 20, **KEEP}, 0]
    assert run(tmp_path, schedule=first)[0].losses == [], "without effect on a first stage"
    with pytest.raises(InputError, match=r"20/best.ckpt has no state of the optimizer.*choose another run_dir"):
        run(tmp_path, schedule=[20, {"amount": 0, **KEEP}])
    _, kept = run(tmp_path / "other", schedule=[20, {"amount": 0, **KEEP}])
    assert run(tmp_path / "other", schedule=[20, 0])[1].stages[1].path == "seed-0/20/0-2"
    assert kept.stages[1].path == "seed-0/20/0"


@pytest.mark.slow
def test_an_interrupted_stage_goes_on_as_if_it_had_not_been(tmp_path):
    schedule = [20, {"amount": 5, **KEEP}, {"amount": 0, **KEEP}]
    _, whole = run(tmp_path / "whole", schedule=schedule)

    with pytest.raises(RuntimeError, match="power cut"):
        run(tmp_path / "cut", schedule=schedule, callbacks=[Stop.at(1, 5)], checkpoint_every=0)
    _, cut = run(tmp_path / "cut", schedule=schedule)
    assert [stage.val for stage in cut.stages] == [stage.val for stage in whole.stages]
    for left, right in ((cut.best_checkpoint(k), whole.best_checkpoint(k)) for k in range(3)):
        assert {name: value.tolist() for name, value in weights(left).items()} == {
            name: value.tolist() for name, value in weights(right).items()
        }


@pytest.mark.parametrize(
    ("stages", "message"),
    [
        (
            [20, {"amount": 0, "optimizer": {"state": "keep", "class_path": "torch.optim.SGD"}}],
            "not torch.optim.SGD after",
        ),
        (
            [
                {"amount": 20, "optimizer": {"trainable_by_name": {"encoder.*": False}}},
                {"amount": 0, "optimizer": {"state": "keep"}},
            ],
            r"did not train \(encoder.weight, encoder.bias\)",
        ),
        ([20, {"amount": 0, "optimizer": {"state": "kept"}}], "state is 'kept': it must be 'fresh', 'keep' or None"),
    ],
)
def test_what_cannot_be_kept_is_refused_before_anything_trains(tmp_path, stages, message):
    model = LinearModel()
    with pytest.raises(InputError, match=message):
        run(tmp_path, model, stages)
    assert not model.losses


def test_a_module_that_changes_its_own_optimizer_is_refused_when_it_does(tmp_path):
    class Model(LinearModel):
        def configure_optimizers(self):
            kind = torch.optim.AdamW if self.trainer.datamodule.stage else torch.optim.SGD
            return kind(self.parameters(), lr=0.01)

    with pytest.raises(InputError, match="needs the same optimizer as before, not AdamW after SGD"):
        gradual.fit(Model(), data(), [20, 0], tmp_path / "run", optimizer={"state": "keep"}, **QUIET)


def test_a_new_adapter_has_no_state_to_keep(tmp_path):
    with pytest.raises(InputError, match="adapter: merge exclude each other"):
        fit_adapted(tmp_path, (24, Stage(0, optimizer=OptimizerConfig(state="keep"), adapter="merge")))
    fit_adapted(tmp_path, (24, Stage(0, optimizer=OptimizerConfig(state="keep"))))
    assert (tmp_path / "run/seed-0/24/0/result.json").exists()

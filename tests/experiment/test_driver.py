"""The driver: a fresh Trainer a stage, the best weights carried forward, the optimizer swapped, nothing done twice."""

import json
import logging
import warnings

import pytest
import torch
from lightning.pytorch import Callback
from lightning.pytorch.callbacks import EarlyStopping, Timer
from lightning.pytorch.loggers import CSVLogger
from linear_model import Examples
from recorded_runs import LinearModel, Own, Scripted, Stop, data, path_results, run, weights
from slow_cases import fast_one_in
from tensorboard.backend.event_processing.event_multiplexer import EventMultiplexer
from torch import nn

import gradual
from gradual import OptimizerConfig, Stage


def same(left, right) -> bool:
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


def test_each_stage_starts_from_the_best_weights_of_the_one_before(tmp_path):
    model, result = run(tmp_path)
    assert [stage.path for stage in result.stages] == ["seed-0/20", "seed-0/20/5", "seed-0/20/5/0"]
    assert same(model.starts[0], LinearModel().state_dict())
    for start, before in zip(model.starts[1:], range(2)):
        assert same(start, weights(result.best_checkpoint(before)))
    assert same(model.state_dict(), weights(result.best_checkpoint()))
    assert not same(model.starts[1], model.starts[0])


def test_each_stage_has_a_trainer_of_its_own(tmp_path):
    model, _ = run(tmp_path, callbacks=[Counter()])
    assert len({id(trainer) for trainer in model.trainers}) == 3
    counters = [next(c for c in trainer.callbacks if isinstance(c, Counter)) for trainer in model.trainers]
    assert [counter.epochs for counter in counters] == [3, 3, 3]


class Counter(Callback):
    def __init__(self):
        self.epochs = 0

    def on_train_epoch_end(self, trainer, pl_module):
        self.epochs += 1


def test_best_epoch_and_scores_are_those_of_the_lowest_validation_loss(tmp_path):
    _, result = run(tmp_path, max_epochs=6, logger=CSVLogger(tmp_path / "csv"))
    by_hand = [Scripted.validation_loss(weights(result.best_checkpoint(k)), "val", 3) for k in range(3)]
    assert [stage.val["loss"] for stage in result.stages] == pytest.approx(by_hand, rel=1e-5)
    tests = [Scripted.validation_loss(weights(result.best_checkpoint(k)), "test", 4) for k in range(3)]
    assert [stage.test["loss"] for stage in result.stages] == pytest.approx(tests, rel=1e-5)


def test_a_stage_ends_when_it_no_longer_improves_and_keeps_its_best(tmp_path):
    _, result = run(tmp_path, Scripted([5.0, 3.0, 4.0, 3.5, 3.2, 1.0]), [5, 0], patience=3, max_epochs=20)
    for stage in result.stages:  # best in the second epoch, then three without improvement
        assert (stage.epochs, stage.best_epoch, stage.val["loss"]) == (5, 2, 3.0)
    assert float(weights(result.best_checkpoint(0))["counter"]) == 2
    assert float(weights(result.best_checkpoint(1))["counter"]) == 4


def test_a_stage_overrides_what_it_sets_and_nothing_else(tmp_path):
    schedule = [
        20,
        Stage(5, optimizer=OptimizerConfig(lr_by_name={"encoder.*": 0.001}), max_epochs=1, batch_size=16, patience=7),
        {"amount": 0, "optimizer": {"lr_scale": 0.5}, "gradient_clip_val": 0.7},
    ]
    model, _ = run(tmp_path, schedule=schedule, patience=2)
    assert model.rates == [[0.05], [0.001, 0.05], [0.025]]
    assert [trainer.max_epochs for trainer in model.trainers] == [3, 1, 3]
    assert [trainer.gradient_clip_val for trainer in model.trainers] == [None, None, 0.7]
    assert [trainer.num_training_batches for trainer in model.trainers] == [8, 2, 3]
    assert [trainer.early_stopping_callback.patience for trainer in model.trainers] == [2, 7, 2]


def test_a_module_s_own_optimizer_is_used_and_scaled(tmp_path):
    model, _ = run(tmp_path, Own(0.1), [5, {"amount": 0, "optimizer": {"lr_scale": 0.25}}], optimizer=None)
    assert model.rates == [[0.1], [0.025]]
    assert isinstance(model.trainers[0].optimizers[0], torch.optim.SGD)
    assert "configure_optimizers" not in vars(model)


def test_a_patched_configure_optimizers_is_put_back(tmp_path):
    model = LinearModel(lr=0.1)
    run(tmp_path, model, [0], optimizer=OptimizerConfig(lr=0.2))
    assert model.rates == [[0.2]]
    assert model.configure_optimizers == model.own_optimizers


def test_samples_are_nested_and_written_down(tmp_path):
    _, result = run(tmp_path, seed=3)
    samples = [(tmp_path / "run" / stage.path / "sample.txt").read_text().split() for stage in result.stages]
    assert [len(sample) for sample in samples] == [20, 5, 0]
    assert samples[1] == samples[0][:5]
    assert len(set(samples[0])) == 20
    assert set(samples[0]) <= {f"out{index}" for index in range(40)}


def test_results_file_and_layout(tmp_path):
    run(tmp_path)
    root = tmp_path / "run"
    whole, content = json.loads((root / "results.json").read_text()), path_results(root)
    fields = ["index", "amount", "in_domain", "out_of_domain", "epochs", "best_epoch", "seconds", "val", "test", "path"]
    fields += ["collapses", "converged", "ended_by", "test_data"]
    fields += ["steps", "planned_steps", "validations", "examples_seen", "sources", "tokens", "averaged"]
    assert [list(stage) for stage in content["stages"]] == [fields] * 3
    assert [stage["out_of_domain"] for stage in content["stages"]] == [20, 5, 0]
    assert [stage["in_domain"] for stage in content["stages"]] == [12, 12, 12]
    assert content["final"] == {name: content["stages"][-1][name] for name in ("path", "val", "test")}
    assert content["paths"] == [stage["path"] for stage in content["stages"]]
    assert whole["strategies"]["fit"]["amounts"] == whole["strategies"]["fit"]["schedule"] == [20, 5, 0]
    assert (whole["seeds"], whole["monitor"], whole["mode"]) == ([0], "val/loss", "min")
    without_build = [version.partition("+")[0] for version in (whole["versions"]["torch"], torch.__version__)]
    assert without_build[0] == without_build[1], "the package's metadata may lack the build, such as +cpu"
    assert whole["command"]
    for stage in content["stages"]:
        for name in ("best.ckpt", "last.ckpt", "sample.txt"):
            assert (root / stage["path"] / name).exists()


def test_tensorboard_shows_each_stage_as_a_run_and_one_with_the_stage_as_its_axis(tmp_path):
    _, result = run(tmp_path, log_every_n_steps=1)
    runs = EventMultiplexer().AddRunsFromDirectory(str(tmp_path / "run")).Reload()
    assert set(runs.Runs()) == {"seed-0/20", "seed-0/20/5", "seed-0/20/5/0", "seed-0/by-stage/20-5-0"}
    for stage in result.stages:
        tags = runs.GetAccumulator(stage.path).Tags()["scalars"]
        assert {"train/loss", "val/loss", "test/loss"} <= set(tags)
        assert any(tag.startswith("lr-") for tag in tags)
    curve = runs.GetAccumulator("seed-0/by-stage/20-5-0").Scalars("stage/test/loss")
    assert [point.step for point in curve] == [1, 2, 3]
    assert [point.value for point in curve] == pytest.approx([stage.test["loss"] for stage in result.stages])


def test_one_seed_gives_one_result_and_another_seed_another(tmp_path):
    schedule = [5, 0]
    first, _ = run(tmp_path / "a", schedule=schedule, seed=1)
    torch.rand(7)  # whatever happened to the global random state before
    again, _ = run(tmp_path / "b", schedule=schedule, seed=1)
    other, _ = run(tmp_path / "c", schedule=schedule, seed=2)
    assert first.losses == again.losses
    assert same(first.state_dict(), again.state_dict())
    assert not same(first.state_dict(), other.state_dict())


def test_finished_stages_are_not_trained_again(tmp_path):
    model, result = run(tmp_path)
    again, reported = run(tmp_path)
    assert not again.trainers
    assert reported.to_dict()["stages"] == result.to_dict()["stages"]
    assert same(again.state_dict(), model.state_dict())


def test_a_second_schedule_shares_the_stages_it_begins_with(tmp_path):
    run(tmp_path, schedule=[20, 5, 0])
    model, result = run(tmp_path, schedule=[20, 0])
    assert len(model.trainers) == 1
    assert [stage.path for stage in result.stages] == ["seed-0/20", "seed-0/20/0"]
    assert same(model.starts[0], weights(tmp_path / "run/seed-0/20/best.ckpt"))


@pytest.fixture(scope="module")
def undisturbed_run(tmp_path_factory):
    """The model and the result of a run that was not stopped."""
    return run(tmp_path_factory.mktemp("whole"))


@pytest.mark.parametrize(("stage", "batch"), fast_one_in(2, [(0, 0), (0, 5), (0, 8), (2, 8), (1, 6)]))
def test_a_stopped_run_resumes_to_the_same_result(tmp_path, undisturbed_run, stage, batch):
    whole, expected = undisturbed_run
    with pytest.raises(RuntimeError, match="power cut"):
        run(tmp_path / "cut", callbacks=[Stop.at(stage, batch)])
    model, result = run(tmp_path / "cut")
    assert same(model.state_dict(), whole.state_dict())
    for ours, theirs in zip(result.stages, expected.stages):
        assert (ours.val, ours.test) == (theirs.val, theirs.test)
        assert (ours.epochs, ours.best_epoch) == (theirs.epochs, theirs.best_epoch)


def test_a_stage_that_had_converged_before_an_interruption_trains_no_further(tmp_path):
    losses = [5.0, 3.0, 4.0, 3.5, 1.0]
    run(tmp_path, Scripted(losses), [0], patience=2, max_epochs=20)
    (tmp_path / "run/seed-0/0/result.json").unlink()
    model, result = run(tmp_path, Scripted(losses), [0], patience=2, max_epochs=20)
    assert (result.stages[0].epochs, result.stages[0].best_epoch) == (4, 2)
    assert not model.losses


def test_a_changed_override_is_another_stage(tmp_path):
    run(tmp_path, schedule=[0])
    model, result = run(tmp_path, schedule=[{"amount": 0, "optimizer": {"lr": 0.01}}])
    assert result.stages[0].path == "seed-0/0-2"
    assert model.rates == [[0.01]]


def test_without_test_data_there_are_no_test_scores(tmp_path):
    model, result = run(tmp_path, schedule=[5, 0], data=data(test=None))
    assert [stage.test for stage in result.stages] == [{}, {}]
    assert same(model.state_dict(), weights(result.best_checkpoint()))


def test_the_users_callbacks_and_loggers_are_used(tmp_path):
    model, _ = run(tmp_path, schedule=[0], logger=False, callbacks=EarlyStopping("val/loss", patience=9))
    assert model.trainers[0].logger is None
    assert sorted(c.patience for c in model.trainers[0].early_stopping_callbacks) == [5, 9]


def test_the_trainer_s_time_limit_ends_a_stage(tmp_path):
    _, result = run(tmp_path, schedule=[0], max_epochs=50, max_time={"microseconds": 1})
    assert result.stages[0].epochs == 1


def test_a_timer_of_the_user_s_is_used(tmp_path):
    _, result = run(tmp_path, schedule=[0], max_epochs=50, callbacks=[Timer({"microseconds": 1})])
    assert result.stages[0].epochs == 1


def test_training_scores_stand_in_the_line_of_their_epoch(tmp_path):
    class Late(LinearModel):
        def on_train_epoch_end(self):
            self.log("train/epoch", float(self.current_epoch + 1))

    _, result = run(tmp_path, Late(), schedule=[0])
    lines = (tmp_path / "run" / result.stages[0].path / "history.jsonl").read_text().splitlines()
    assert [json.loads(line)["train/epoch"] for line in lines] == [1, 2, 3]


@pytest.mark.parametrize("way", ["limit", "empty"])
def test_without_a_test_the_best_weights_are_what_the_model_ends_with(tmp_path, way):
    changed = {"test": Examples("test", 0, 2.0, 4)} if way == "empty" else {}
    settings = {"limit_test_batches": 0} if way == "limit" else {}
    model, result = run(tmp_path, schedule=[5, 0], data=data(**changed), **settings)
    assert [stage.test for stage in result.stages] == [{}, {}]
    assert same(model.state_dict(), weights(result.best_checkpoint()))


class Built(LinearModel):
    """Makes its last layer from the data, in one of the two places that Lightning has for it."""

    def __init__(self, where: str):
        super().__init__()
        self.where = where
        del self.head

    def setup(self, stage):
        self._make("setup")

    def configure_model(self):
        self._make("configure_model")

    def _make(self, where):
        if where == self.where and not hasattr(self, "head"):
            self.head = nn.Linear(4, self.trainer.datamodule.domains.val[0][1].shape[0])


@pytest.mark.parametrize("where", ["setup", "configure_model"])
def test_a_finished_run_gives_its_weights_to_a_module_that_has_no_layers_yet(tmp_path, where):
    first, _ = run(tmp_path, Built(where), [5, 0])
    again, result = run(tmp_path, Built(where), [5, 0])
    assert not again.losses
    assert same(first.state_dict(), again.state_dict())
    assert same(again.state_dict(), weights(result.best_checkpoint()))


def test_only_warnings_of_lightning_that_one_can_act_on_are_shown(tmp_path, monkeypatch, recwarn):
    said = []
    handler = logging.Handler()
    handler.emit = said.append
    for name, level in (("lightning.pytorch", logging.INFO), ("lightning.fabric", logging.DEBUG)):
        logger = logging.getLogger(name)
        monkeypatch.setattr(logger, "handlers", [handler])
        monkeypatch.setattr(logger, "level", logger.level)
        logger.setLevel(level)
    warnings.simplefilter("always")
    filters = list(warnings.filters)

    class Warns(LinearModel):
        def on_train_start(self):
            warnings.warn("something of the user's", stacklevel=1)
            logging.getLogger("lightning.pytorch").info("nothing to act on")
            logging.getLogger("lightning.pytorch").warning("something of Lightning's")
            logging.getLogger("lightning.fabric").debug("what the user has asked for")
            super().on_train_start()

    gradual.fit(Warns(), data(), [2, 0], tmp_path, max_epochs=1, optimizer={"lr": 0.1})
    own = [record.getMessage() for record in said if record.funcName == "on_train_start"]
    assert own == ["something of Lightning's", "what the user has asked for"] * 2
    assert {record.levelno for record in said if record.name == "lightning.pytorch"} == {logging.WARNING}
    assert {str(w.message) for w in recwarn if "deprecated" not in str(w.message)} == {"something of the user's"}
    # and afterwards all is as it was
    assert logging.getLogger("lightning.pytorch").level == logging.INFO
    assert logging.getLogger("lightning.fabric").level == logging.DEBUG
    assert warnings.filters == filters

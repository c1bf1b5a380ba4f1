"""What Lightning would refuse in a late stage is refused before the first one trains, in a sentence that names it."""

import logging

import pytest
import torch
from lightning.pytorch.callbacks import (
    BatchSizeFinder,
    EMAWeightAveraging,
    LearningRateFinder,
    LearningRateMonitor,
    ModelPruning,
    OnExceptionCheckpoint,
    StochasticWeightAveraging,
)
from lightning.pytorch.strategies import SingleDeviceStrategy
from linear_model import Examples, make_experiment, trained
from slow_cases import fast_one_in
from step_counting_runs import Net, data, fit
from torch.optim.lr_scheduler import LambdaLR, ReduceLROnPlateau
from torch.utils.data import DataLoader, IterableDataset

import gradual
from gradual import InputError, Stage
from gradual.data.loader import EpochBatches
from gradual.distributed import as_one_of
from gradual.experiment.driver import compare_tree, plan_tree
from gradual.experiment.executors import in_process
from gradual.experiment.strategies import parse_strategies
from gradual.schedule import Schedule


class Manual(Net):
    """Takes its steps itself."""

    def __init__(self):
        super().__init__()
        self.automatic_optimization = False

    def training_step(self, batch, batch_idx):
        optimizer = self.optimizers()
        optimizer.zero_grad()
        self.manual_backward(super().training_step(batch, batch_idx))
        optimizer.step()


class Scheduled(Net):
    """Its optimizer as ``made`` says."""

    def __init__(self, made):
        super().__init__()
        self.made = made

    def configure_optimizers(self):
        return self.made(torch.optim.SGD(self.parameters(), lr=0.05))


class Streaming(gradual.MixedDomainDataModule):
    """Reads its examples in a way that tells nobody how many there are."""

    def train_dataloader(self):
        class Stream(IterableDataset):
            def __iter__(self):
                return iter(examples)

        examples = super().train_dataloader().dataset
        return DataLoader(Stream(), batch_size=4)


def streaming():
    parts = [Examples("in", 8, 2.0, 1), Examples("out", 40, 1.0, 2), Examples("val", 8, 2.0, 3)]
    return Streaming(*parts, batch_size=4)


LAST = r"^Stage 3 \(0 out-of-domain, 2 batches an epoch\) cannot be trained: "
REFUSED = {
    "more than the last stage's batches": ({"val_check_interval": 3}, LAST + "val_check_interval is 3, more than"),
    "a share of the last stage's batches": ({"limit_train_batches": 0.3}, LAST + r".*0\.3 \* 2 < 1"),
    "a share of the test": ({"limit_test_batches": 0.1}, r"^Stage 1 .*test_dataloader.*0\.1 \* 2 < 1"),
    "a share of the validation": ({"limit_val_batches": 0.1}, r"^Stage 1 .*val_dataloader.*0\.1 \* 2 < 1"),
    "no batches": ({"limit_train_batches": 0}, r"^Stage 1 .*no batches to train on"),
    "epochs without validation": ({"check_val_every_n_epoch": 3}, r"^Stage 1 \(.*\) would end after 16 batches, before "
     r"its first validation after 24 \(max_epochs: 2, check_val_every_n_epoch: 3"),
    "validation over all batches": ({"check_val_every_n_epoch": None, "val_check_interval": 6},
     r"^Stage 3 \(.*\) would end after 4 batches, before its first validation after 6"),
    "steps without validation": ({"max_steps": 3}, r"^Stage 1 \(.*\) would end after 3 batches, .* after 8"),
    "accumulated steps": ({"max_steps": 3, "accumulate_grad_batches": 2}, r"^Stage 1 \(.*\) would end after 6 batches"),
    "a loader without a length": ({"datamodule": streaming(), "limit_train_batches": 2},
     r"^Stage 1 \(24 out-of-domain\) cannot be trained: .* Streaming.train_dataloader returns has no length"),
    "a time": ({"val_check_interval": "00:00:01:00"}, "^val_check_interval is a time"),
    "a stage of too few epochs": ({"schedule": [24, {"amount": 0, "max_epochs": 1}], "check_val_every_n_epoch": 2},
     r"^Stage 2 \(.*\) would end after 2 batches"),
    "manual optimization with clipping": (
        {"model": Manual, "schedule": [24, {"amount": 0, "gradient_clip_val": 1.0}]},
        r"^Stage 2 \(0 .*\) cannot be trained: Automatic gradient clipping is not supported for manual optimization"),
    "manual optimization with accumulation": ({"model": Manual, "accumulate_grad_batches": 2}, "^Stage 1 .*accum"),
    "two optimizers": ({"model": lambda: Scheduled(lambda o: [o, torch.optim.SGD(o.param_groups[0]["params"], lr=1)])},
     "^Stage 1 .*multiple optimizers is only supported with manual"),
    "a schedule on nothing": ({"model": lambda: Scheduled(lambda o: {"optimizer": o, "lr_scheduler":
     {"scheduler": ReduceLROnPlateau(o)}})}, "^Stage 1 .*must include a monitor"),
    "an interval": ({"model": lambda: Scheduled(lambda o: {"optimizer": o, "lr_scheduler":
     {"scheduler": LambdaLR(o, lambda _: 1.0), "interval": "batch"}})}, '^Stage 1 .*"interval" key'),
    "a pattern in a late stage": ({"schedule": [24, Stage(0, optimizer=gradual.OptimizerConfig(lr=0.1, lr_by_name=
     {"enc.*": 1.0}))]}, "The parameter-name pattern 'enc.*' matches no trainable parameter"),
    "a schedule's name in a late stage": ({"schedule": [24, {"amount": 0, "lr_schedule": {"name": "linaer"}}],
     "optimizer": {"lr": 0.1}}, "lr_schedule.name is 'linaer'"),
}  # fmt: skip


@pytest.mark.parametrize("what", REFUSED)
def test_settings_that_lightning_would_refuse_later_are_refused_before_training(tmp_path, what):
    settings, said = REFUSED[what]
    model = dict(settings).pop("model", Net)()
    settings = {name: value for name, value in settings.items() if name != "model"}
    with pytest.raises(InputError, match=said) as refused:
        fit(tmp_path, model, **settings)
    assert "\n" not in str(refused.value)
    assert model.steps == 0
    assert not list(tmp_path.rglob("stage.json")), "no folder of a stage is left behind"


def test_the_test_s_rule_is_not_asked_where_there_is_no_test(tmp_path):
    result, _ = fit(tmp_path, datamodule=data(test=None), limit_test_batches=0.1)
    assert len(result.stages) == 3


@pytest.mark.parametrize(
    "settings",
    fast_one_in(
        2,
        [
            {"val_check_interval": 2},
            {"check_val_every_n_epoch": 2},
            {"check_val_every_n_epoch": None, "val_check_interval": 4},
            {"max_steps": 8},
            {"max_steps": 4, "accumulate_grad_batches": 2},
            {"max_steps": 8, "max_epochs": -1},
            {"limit_train_batches": 0.5},
            {"limit_train_batches": 2, "limit_val_batches": 1},
        ],
    ),
)
def test_settings_at_the_limit_are_trained(tmp_path, settings):
    """The largest numbers that the rules above leave."""
    result, _ = fit(tmp_path, **settings)
    assert len(result.stages) == 3


def test_a_module_that_makes_layers_later_is_checked_when_it_has_them(tmp_path):
    class Late(Net):
        def configure_model(self):
            if not hasattr(self, "extra"):
                self.extra = torch.nn.Linear(1, 1)

    later = {"amount": 0, "optimizer": {"lr_by_name": {"extrra.*": 0.1}}}
    model = Late()
    with pytest.raises(InputError, match=r"pattern 'extrra\.\*' matches no"):
        fit(tmp_path, model, [24, later], optimizer={"lr": 0.1})
    assert model.steps == 0
    later["optimizer"]["lr_by_name"] = {"extra.*": 0.1}
    result, _ = fit(tmp_path, Late(), [24, later], optimizer={"lr": 0.1})
    assert len(result.stages) == 2


def test_checking_changes_no_number(tmp_path, monkeypatch):
    """A module that draws random numbers wherever it is asked for something."""

    class Random(Net):
        def configure_optimizers(self):
            torch.rand(3)
            return super().configure_optimizers()

    _, checked = fit(tmp_path / "a", Random())
    monkeypatch.setattr("gradual.experiment.experiment.check_stages", lambda *_: None)
    _, unchecked = fit(tmp_path / "b", Random())
    for name, value in checked.state_dict().items():
        assert torch.equal(value, unchecked.state_dict()[name])


def test_errors_that_lightning_finds_while_training_are_one_sentence_too(tmp_path):
    def plateau(optimizer):
        scheduler = {"scheduler": ReduceLROnPlateau(optimizer), "monitor": "val/los"}
        return {"optimizer": optimizer, "lr_scheduler": scheduler}

    with pytest.raises(
        InputError, match=r"^Stage 1 \(24 out-of-domain\) cannot be trained: ReduceLROnPlateau .*val/los"
    ):
        fit(tmp_path, Scheduled(plateau))
    with pytest.raises(InputError, match=r"^Stage 1 .*LearningRateMonitor.*no logger"):
        fit(tmp_path / "b", callbacks=[LearningRateMonitor()])


def test_an_error_in_the_user_s_code_keeps_its_traceback(tmp_path):
    def broken(_):
        raise ValueError("mine")

    with pytest.raises(ValueError, match=r"^mine$"):
        fit(tmp_path, Scheduled(broken))


@pytest.mark.parametrize(
    "callback",
    [
        LearningRateFinder(),
        BatchSizeFinder(),
        StochasticWeightAveraging(0.1),
        EMAWeightAveraging(),
        ModelPruning("l1_unstructured"),
        OnExceptionCheckpoint("there"),
    ],
    ids=lambda callback: type(callback).__name__,
)
def test_callbacks_that_do_something_else_in_stages_are_refused(tmp_path, callback):
    said = f"^The callback {type(callback).__name__} cannot be used in stages: "
    with pytest.raises(InputError, match=said):
        fit(tmp_path, callbacks=callback)

    class Brings(Net):
        def configure_callbacks(self):
            return [callback]

    with pytest.raises(InputError, match=said):
        fit(tmp_path / "b", Brings())


def test_an_accumulation_over_more_batches_than_a_stage_has_is_reported(tmp_path, caplog):
    with caplog.at_level(logging.WARNING, "gradual"):
        fit(tmp_path, accumulate_grad_batches=4)
    (said,) = [record.getMessage() for record in caplog.records if "accumulate" in record.getMessage()]
    assert said == (
        "Stage 3 (0 out-of-domain, 2 batches an epoch): accumulate_grad_batches is 4, so each epoch is a single step, "
        "and its gradient is divided by 4 instead of 2."
    )


def test_a_strategy_that_is_given_as_an_object_serves_every_stage(tmp_path):
    result, _ = fit(tmp_path, strategy=SingleDeviceStrategy(torch.device("cpu")))
    assert len(result.stages) == 3


def test_a_finished_run_is_not_checked(tmp_path, monkeypatch):
    fit(tmp_path)
    monkeypatch.setattr("gradual.experiment.experiment.check_stages", None)
    assert len(fit(tmp_path)[0].stages) == 3


def test_a_comparison_checks_every_stage_of_its_tree_before_the_first(tmp_path):
    experiment = make_experiment(
        str(tmp_path)
    )  # 8 in-domain examples in batches of 512: one batch an epoch without a pool
    arguments = experiment.trainer_arguments()
    experiment.trainer_arguments = lambda: {**arguments, "val_check_interval": 2}
    tree = plan_tree(experiment, parse_strategies(None, Schedule([3000, 0])), [0, 1])
    said = (
        r"^Stage \d of the strategy 'in-domain only' \(0 out-of-domain, 1 batches an epoch\).*val_check_interval is 2"
    )
    with pytest.raises(InputError, match=said):
        compare_tree(experiment, tree, in_process(experiment))
    assert trained(tmp_path) == []


def test_batches_are_counted_for_the_processes_that_there_will_be():
    batches = EpochBatches(10, 2, 0, train=True)
    with as_one_of(2):
        assert len(batches) == 3  # of five, and one that is repeated
    assert len(batches) == 5


def test_the_batches_of_several_processes_are_checked_before_training(tmp_path):
    """The last stage's 2 batches are one for each of two processes."""
    model = Net()
    with pytest.raises(InputError, match=r"^Stage 3 \(0 out-of-domain, 1 batches an epoch\).*val_check_interval is 2"):
        fit(tmp_path, model, devices=2, strategy="ddp", val_check_interval=2)
    assert model.steps == 0


def test_overfitting_takes_the_same_batches_in_each_epoch(tmp_path):
    class Seen(Net):
        seen = []

        def training_step(self, batch, batch_idx):
            Seen.seen.append(round(float(batch[0].sum()), 4))
            return super().training_step(batch, batch_idx)

    fit(tmp_path, Seen(), [24], max_epochs=3, overfit_batches=2)
    assert Seen.seen == Seen.seen[:2] * 3
    assert len(set(Seen.seen)) == 2
    Seen.seen = []
    fit(tmp_path / "all", Seen(), [24], max_epochs=2)
    assert Seen.seen[:8] != Seen.seen[8:]


def test_missing_validation_examples_are_reported_before_training(tmp_path):
    model = Net()
    with pytest.raises(InputError, match=r"^Stage 1 \(.*\) has no validation examples"):
        fit(tmp_path, model, datamodule=data(val=Examples("val", 0, 2.0, 3)))
    assert model.steps == 0

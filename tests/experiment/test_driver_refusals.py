"""What the driver refuses, in a sentence and before it trains in vain."""

from pathlib import Path

import pytest
from lightning.pytorch.callbacks import EarlyStopping
from lightning.pytorch.plugins.io import AsyncCheckpointIO
from recorded_runs import LinearModel, Own, data, run

from gradual import InputError


def test_another_experiment_is_refused_with_the_difference(tmp_path):
    run(tmp_path, schedule=[0])
    with pytest.raises(InputError, match=r"max_epochs: 3, now 4"):
        run(tmp_path, schedule=[0], max_epochs=4)


def test_mistakes_end_in_one_sentence(tmp_path):
    with pytest.raises(InputError, match="There is no optimizer"):
        run(tmp_path / "a", optimizer=None)
    with pytest.raises(InputError, match=r"monitor is 'val/los'.*the names logged are .*val/loss"):
        run(tmp_path / "b", monitor="val/los", mode="min")
    with pytest.raises(InputError, match=r"monitor, 'val/los', does not say which values are better.* set mode to"):
        run(tmp_path / "k", monitor="val/los")
    with pytest.raises(InputError, match="no validation data"):
        run(tmp_path / "c", data=data(val=None))
    with pytest.raises(InputError, match="the pool holds 40"):
        run(tmp_path / "d", schedule=[41, 0])
    with pytest.raises(InputError, match="mode is 'best': it must be 'auto', 'min' or 'max'"):
        run(tmp_path / "e", mode="best")
    with pytest.raises(InputError, match=r"no setting 'patiense'\. Did you mean 'patience'"):
        run(tmp_path / "h", patiense=3)
    with pytest.raises(InputError, match="Did you mean 'lr'"):
        run(tmp_path / "f", optimizer={"l": 0.1})
    with pytest.raises(InputError, match="matches no trainable parameter"):
        run(tmp_path / "g", optimizer={"lr": 0.1, "lr_by_name": {"enc.*": 1}})
    with pytest.raises(InputError, match="Trainer cannot be made: The strategy `fsdp` requires a GPU"):
        run(tmp_path / "i", strategy="fsdp")
    with pytest.raises(InputError, match=r"Trainer cannot be made: .* more than one stateful callback of type `Early"):
        run(tmp_path / "l", callbacks=[EarlyStopping("val/loss"), EarlyStopping("val/loss", patience=9)])
    with pytest.raises(InputError, match="AsyncCheckpointIO cannot be used in stages"):
        run(tmp_path / "m", plugins=[AsyncCheckpointIO()])
    with pytest.raises(InputError, match="precision is 'three': it must be 64, 32, "):
        run(tmp_path / "j", precision="three")
    (tmp_path / "run").write_text("a file")
    with pytest.raises(InputError, match="cannot be created"):
        run(tmp_path)


def test_an_average_of_weights_is_refused_where_no_process_has_them_all(tmp_path, monkeypatch):
    monkeypatch.setattr("gradual.stage.train.is_sharded", lambda trainer: True)
    with pytest.raises(InputError, match="weight_averaging needs the whole module"):
        run(tmp_path, weight_averaging=0.9)


class Extra(LinearModel):
    def get_extra_state(self):
        return {"a": 1}

    def set_extra_state(self, state):
        pass


class Saving(LinearModel):
    def __init__(self, file):
        super().__init__()
        self.save_hyperparameters()


@pytest.mark.parametrize(
    ("model", "said"),
    [
        (lambda: Saving(Path("a")), "The hyperparameter 'file' of Saving is a PosixPath, which cannot be saved"),
        (lambda: Saving(lambda: 1), "The hyperparameter 'file' of Saving is a function, which cannot be saved"),
        (Extra, "The state of Extra has the entry '_extra_state', a dict: it must be a tensor"),
    ],
)
def test_values_that_no_checkpoint_can_hold_are_refused_before_training(tmp_path, model, said):
    model = model()
    with pytest.raises(InputError, match=said):
        run(tmp_path, model)
    assert not model.losses
    run(tmp_path / "plain", Saving("a"), schedule=[0])


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"optimizer": {"weight_decay": 0.1}, "lr_schedule": {"name": "linear"}},
         r"^optimizer\.weight_decay and lr_schedule\.name would do nothing"),
        ({"optimizer": {"lr_scale": 0.5}, "schedule": [5, {"amount": 0, "lr_schedule": {"warmup": 0.1}}]},
         r"^lr_schedule\.warmup would do nothing"),
    ],
)  # fmt: skip
def test_settings_that_a_module_s_own_optimizer_would_ignore_are_refused_before_any_stage(tmp_path, settings, said):
    model = Own(0.1)
    with pytest.raises(InputError, match=said):
        run(tmp_path, model, **settings)
    assert not model.losses


@pytest.mark.parametrize(
    "settings",
    [
        {"fast_dev_run": True},
        {"limit_val_batches": 0},
        {"barebones": True, "logger": None},
        {"enable_checkpointing": False},
    ],
)
def test_a_stage_that_could_keep_no_epoch_is_refused_before_training(tmp_path, settings):
    model = LinearModel()
    with pytest.raises(InputError, match=f"^With {next(iter(settings))}.* no epoch is the best"):
        run(tmp_path, model, **settings)
    assert not model.losses


def test_processes_that_bring_nothing_back_are_refused(tmp_path):
    with pytest.raises(InputError, match="DDPStrategy starts processes that end with what they have learnt"):
        run(tmp_path, strategy="ddp_spawn", devices=2)

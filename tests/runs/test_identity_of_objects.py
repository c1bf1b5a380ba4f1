"""What a run is made of, besides plain data: objects that a model keeps, and the Trainer's callbacks."""

import argparse
import functools
import json
import logging
import types
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from identified_runs import Net, fit, refusal
from lightning.pytorch import Callback
from lightning.pytorch.callbacks import EarlyStopping, GradientAccumulationScheduler, ModelCheckpoint, Timer

from gradual.runs.callbacks import callbacks_fingerprint, own_callbacks_fingerprint
from gradual.runs.fingerprint import model_fingerprint


def with_attrs(scale):
    return pytest.importorskip("attrs").make_class("Options", {"scale": pytest.importorskip("attrs").field()})(scale)


def with_pydantic(scale):
    return pytest.importorskip("pydantic").create_model("Options", scale=float)(scale=scale)


@dataclass
class Decay:
    rate: float

    def of(self, epoch):
        return self.rate**epoch


class Unknown:
    """Nothing tells what belongs to such an object."""


def holding(**attributes) -> Net:
    model = Net()
    for name, value in attributes.items():
        setattr(model, name, value)
    return model


OBJECTS = {
    "a partial function": (lambda lr: functools.partial(torch.optim.SGD, lr=lr), "lr"),
    "positional arguments": (lambda lr: functools.partial(torch.add, lr), "0"),
    "a namespace": (lambda scale: types.SimpleNamespace(scale=scale), "scale"),
    "arguments of a command": (lambda scale: argparse.Namespace(scale=scale, path=Path()), "scale"),
    "attrs": (with_attrs, "scale"),
    "pydantic": (with_pydantic, "scale"),
    "a bound method": (lambda rate: Decay(rate).of, "of.rate"),
    "objects in a mapping": (lambda lr: {"make": functools.partial(torch.optim.SGD, lr=lr)}, "make.lr"),
}


@pytest.mark.parametrize("kind", OBJECTS)
def test_an_object_of_attributes_counts_like_plain_data(finished, tmp_path, kind):
    make, where = OBJECTS[kind]
    fit(tmp_path, holding(thing=make(0.5)), schedule=[0])
    assert not fit(tmp_path, holding(thing=make(0.5)), schedule=[0])[0].trained
    assert refusal(tmp_path, holding(thing=make(2.0)), schedule=[0]) == f"model: thing.{where} 0.5, now 2.0"
    assert "model: thing not set, now {" in refusal(finished, holding(thing=make(0.5)))


def test_objects_are_described_besides_what_earlier_versions_recorded():
    partial = functools.partial(torch.optim.SGD, lr=0.1)
    model = holding(
        make=partial, mixed={"rate": 0.5, "make": partial}, listed=[partial], looped=types.SimpleNamespace()
    )
    model.looped.self = model.looped
    fingerprint = model_fingerprint(model)
    described = {"class": "SGD", "lr": 0.1}
    assert fingerprint["modules"][""]["mixed"] == {"rate": 0.5}
    assert not {"make", "listed"} & set(fingerprint["modules"][""])
    assert fingerprint["objects"] == {
        "make": described, "mixed": {"rate": 0.5, "make": described}, "listed": [described]
    }  # fmt: skip
    assert fingerprint["left_out"] == ["looped (SimpleNamespace)"]


def test_attributes_that_cannot_be_compared_are_named_once_a_run(tmp_path, caplog):
    model = holding(table=Unknown(), place=Path())
    model.encoder.kept = Unknown()
    with caplog.at_level(logging.INFO, "gradual"):
        fit(tmp_path, model, schedule=[0])
    lines = [line for line in caplog.messages if "not compared" in line]
    assert lines == [
        "These attributes of the model are not compared with other runs: table (Unknown), encoder.kept (Unknown)."
    ]


def test_a_directory_of_before_objects_were_recorded_stays_usable(done):
    path = done / "run/experiment.json"
    identity = json.loads(path.read_text())
    for name in ("objects", "left_out"):
        del identity["model"][name]
    del identity["settings"]["callbacks"], identity["own_callbacks"]
    path.write_text(json.dumps(identity))
    make = functools.partial(torch.optim.SGD, lr=0.1)
    new = {"model": holding(make=make), "callbacks": [GradientAccumulationScheduler({0: 2})]}
    assert not fit(done, **new)[0].trained
    assert refusal(done, holding(make=make)).startswith("callbacks.GradientAccumulationScheduler: {'scheduling': ")
    other = new | {"model": holding(make=functools.partial(torch.optim.SGD, lr=0.2))}
    assert refusal(done, **other) == "model: make.lr 0.1, now 0.2"


# -------------------------------------------------------------------------------------------------- callbacks


class Noise(Callback):
    """One of the user's own, which nothing tells from one that only watches."""

    def __init__(self, scale: float):
        self.scale, self.made = scale, object()

    def on_train_start(self, trainer, pl_module):
        pass


class Stopper(EarlyStopping):
    def __init__(self, steps: int, **others):
        super().__init__("val/loss", **others)
        self._steps = steps


@pytest.mark.parametrize(
    ("callbacks", "said"),
    [
        ([GradientAccumulationScheduler({0: 2})],
         "callbacks.GradientAccumulationScheduler: not set, now {'scheduling': {'0': 2}}"),
        ([Timer("00:00:01:00")], "callbacks.Timer: not set, now {'duration': 60.0, 'interval': 'step'}"),
    ],
)  # fmt: skip
def test_callbacks_that_change_the_training_are_part_of_the_experiment(finished, callbacks, said):
    assert refusal(finished, callbacks=callbacks) == said


def test_the_arguments_of_a_callback_are_compared(tmp_path):
    fit(tmp_path, callbacks=[Stopper(3, patience=2)])
    assert not fit(tmp_path, callbacks=[Stopper(3, patience=2, verbose=True)])[0].trained
    assert refusal(tmp_path, callbacks=[Stopper(3, patience=4)]) == "callbacks.Stopper.patience: 2, now 4"
    assert refusal(tmp_path, callbacks=[Stopper(5, patience=2)]) == "callbacks.Stopper.steps: 3, now 5"
    assert refusal(tmp_path).startswith("callbacks.Stopper: {")


def test_callbacks_that_only_watch_do_not_count(done):
    assert not fit(done, callbacks=[ModelCheckpoint(filename="mine")])[0].trained
    several = [EarlyStopping("a"), EarlyStopping("b"), ModelCheckpoint(), Callback(), Noise(0.1)]
    assert list(callbacks_fingerprint(several)) == ["EarlyStopping", "EarlyStopping 2"]
    assert own_callbacks_fingerprint(several) == {"Noise": {"scale": 0.1}}


def test_other_callbacks_of_the_user_s_own_are_warned_of(tmp_path, caplog):
    def warnings(*callbacks):
        caplog.clear()
        assert not fit(tmp_path, callbacks=list(callbacks))[0].trained
        return [line for line in caplog.messages if "was begun with other callbacks" in line]

    fit(tmp_path, callbacks=[Noise(0.1)])
    assert warnings(Noise(0.1)) == []
    for _ in range(2):
        (said,) = warnings(Noise(0.2))
        assert f"{tmp_path}/run was begun with other callbacks (callbacks.Noise.scale: 0.1, now 0.2)." in said
    (said,) = warnings()
    assert "(callbacks.Noise: {'scale': 0.1}, now not set)" in said
    assert warnings(Noise(0.1)) == []

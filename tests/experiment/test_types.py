"""The types of ``gradual.fit`` and ``gradual.compare``: complete, and checked by mypy."""

import inspect
import subprocess
import sys
from dataclasses import fields
from pathlib import Path
from typing import Literal, get_args, get_origin, get_type_hints

import pytest
from lightning.pytorch import Trainer

import gradual
from gradual import TrainSettings
from gradual.experiment.trainer_arguments import TrainerArguments

ROOT = Path(__file__).parents[2]


def kinds(hint) -> set:
    """The members of a union; those of literals one by one."""
    if get_origin(hint) is Literal:
        return set(get_args(hint))
    members = get_args(hint) if type(hint).__name__ in ("UnionType", "_UnionGenericAlias", "Union") else ()
    return set().union(*map(kinds, members)) if members else {str(hint).replace("typing.", "")}


def test_the_trainer_s_arguments_are_those_of_lightning_with_their_types():
    theirs = get_type_hints(Trainer.__init__)
    names = [name for name in inspect.signature(Trainer.__init__).parameters if name != "self"]
    ours = get_type_hints(TrainerArguments)
    assert list(ours) == names
    for name in set(names) - {"plugins"}:
        assert kinds(ours[name]) == kinds(theirs[name]), name
    assert {*get_args(get_args(theirs["plugins"])[0])} <= {*get_args(ours["plugins"])}


@pytest.mark.parametrize(("function", "missing"), [(gradual.fit, set()), (gradual.compare, {"seed"})])
def test_settings_of_training_are_arguments_with_the_same_defaults(function, missing):
    parameters = inspect.signature(function).parameters
    for field in fields(TrainSettings):
        if field.name in missing:
            assert field.name not in parameters
        else:
            parameter = parameters[field.name]
            assert parameter.kind is inspect.Parameter.KEYWORD_ONLY
            assert parameter.default == getattr(TrainSettings, field.name, None)


SNIPPET = """
import gradual
from lightning.pytorch import LightningModule
from lightning.pytorch.loggers import CSVLogger

def make() -> LightningModule:
    raise NotImplementedError

def load() -> gradual.MixedDomainDataModule:
    raise NotImplementedError

data = load()

result: gradual.RunResult = gradual.fit(
    make(), data, [4000, 0.5, {{"amount": 0, "patience": 9}}, gradual.Stage(0)], "runs/a", monitor="val/f1", patience=3,
    optimizer={{"lr": 1e-4}}, lr_schedule=gradual.LRScheduleConfig("linear"), seed=3, max_epochs=200, accelerator="cpu",
    precision="bf16-mixed", logger=CSVLogger("logs"), limit_val_batches=0.5,
)
gradual.compare(
    make, data, gradual.Schedule([10, 0]), "runs/b", strategies={{"long": [10, 5, 0], "mixed": {{}}}}, seeds=range(3),
    metrics=["f1"], baseline="mixed", jobs=2, optimizer=gradual.OptimizerConfig(lr=1e-4), devices=1,
)
gradual.compare(make, data, [10, 0], "runs/c", strategies=["mixed", "gradual"])
{wrong}
"""

WRONG = {
    'gradual.fit(make(), data, [0], "a", patience="3")': 'Argument "patience" to "fit" has incompatible type "str"',
    'gradual.fit(make(), data, [0], "a", max_epochs="3")': 'Argument "max_epochs" to "fit" has incompatible type',
    'gradual.fit(make(), data, [0], "a", max_epoch=3)': 'Unexpected keyword argument "max_epoch" for "fit"',
    'gradual.fit(make, data, [0], "a")': 'Argument 1 to "fit" has incompatible type "Callable[[], LightningModule]"',
    'gradual.fit(make(), data, 4000, "a")': 'Argument 3 to "fit" has incompatible type "int"',
    'gradual.compare(make, load, [0], "a")': 'Argument 2 to "compare" has incompatible type "Callable[[], Mixed',
    'gradual.compare(make, data, [0], "a", seed=3)': 'Unexpected keyword argument "seed" for "compare"',
    'gradual.compare(make, data, [0], "a", seeds=3)': 'Argument "seeds" to "compare" has incompatible type "int"',
    'gradual.compare(make, data, [0], "a", jobs="two")': 'Argument "jobs" to "compare" has incompatible type "str"',
    'gradual.compare(make, data, [0], "a", precision="half")': 'Argument "precision" to "compare" has incompatible',
}


@pytest.mark.slow
def test_mypy_accepts_right_calls_and_refuses_wrong_ones(tmp_path):
    pytest.importorskip("mypy")
    script = tmp_path / "script.py"
    script.write_text(SNIPPET.format(wrong="\n".join(WRONG)))
    first = script.read_text().splitlines().index(next(iter(WRONG))) + 1
    command = [sys.executable, "-m", "mypy", "--config-file", str(ROOT / "pyproject.toml"), str(script)]
    said = subprocess.run(command, capture_output=True, text=True, cwd=ROOT).stdout
    # by line: mypy's cache may name the folder of an earlier run
    places = (line.split(": error: ", 1) for line in said.splitlines() if ": error: " in line)
    errors = {int(place.rpartition(":")[2]): message for place, message in places}
    assert sorted(errors) == [first + number for number in range(len(WRONG))], said
    for number, expected in enumerate(WRONG.values()):
        assert expected in errors[first + number]

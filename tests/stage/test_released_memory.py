"""What a stage has made is gone before the next one begins, without waiting for Python's garbage collector."""

import copy
import gc
import subprocess
import sys
import weakref

import linear_model
import pytest

import gradual
from gradual.experiment import executors
from gradual.experiment.driver import compare_tree, plan_tree
from gradual.experiment.executors import in_process
from gradual.experiment.strategies import default_strategies
from gradual.schedule import Schedule
from gradual.stage.memory import stage_memory

pytestmark = pytest.mark.usefixtures("undrawn_figures")
SMALL = Schedule([20, 5, 0])


@pytest.fixture(scope="module", autouse=True)
def nothing_of_others():
    """What the tests of other files have left is gone."""
    gc.collect()


@pytest.fixture(autouse=True)
def no_automatic_collection():
    """Nothing is collected by chance."""
    gc.disable()
    yield
    gc.enable()


class Watched(linear_model.LinearModel):
    """Notes what each stage makes, and what of the stages before is there when one begins."""

    def __init__(self, log, made):
        super().__init__(log)
        self.made = made
        self.step = self.training_step  # a module may well refer to itself

    def on_train_start(self):
        super().on_train_start()
        self.made.append(made := Made(self))
        made.before = [name for other in self.made[:-1] for name in other.alive()]


class Made:
    """Weak references to what a stage has made."""

    def __init__(self, model):
        trainer = model.trainer
        things = {"model": model, "trainer": trainer, "optimizer": trainer.optimizers[0]}
        loaders = {"loader": trainer.train_dataloader, "validation": trainer.val_dataloaders}
        callbacks = {type(callback).__name__: callback for callback in trainer.callbacks}
        self.things = {name: weakref.ref(thing) for name, thing in (things | loaders | callbacks).items()}

    def alive(self):
        return [name for name, thing in self.things.items() if thing() is not None]


def in_worker(experiment):
    """As a process of several trains its stages, but in this one."""

    def execute(nodes, finished, collapsed):
        for node in nodes:
            executors._train(lambda: experiment, node)
            finished()

    return execute


@pytest.mark.parametrize("executor", [in_process, in_worker])
def test_nothing_of_a_comparison_s_stage_stays_in_memory(tmp_path, monkeypatch, executor):
    monkeypatch.setattr(executors, "_experiment", None)
    experiment, made, models = linear_model.make_experiment(str(tmp_path)), [], []

    def make_model():
        model = Watched(tmp_path / "trained.txt", made)
        assert [other for other in models if other() is not None] == []  # those of the checks before training, too
        models.append(weakref.ref(model))
        return model

    experiment.model = make_model
    tree = plan_tree(experiment, default_strategies(SMALL), seeds=[0])
    compare_tree(experiment, tree, executor(experiment))
    assert [stage.before for stage in made] == [[]] * 5
    assert [stage.alive() for stage in made] == [[]] * 5
    assert len(models) > 5


def test_only_the_user_s_model_of_a_stage_stays_in_memory(tmp_path):
    made = []
    model, data = Watched(tmp_path / "trained.txt", made), linear_model.make_data({})
    gradual.fit(model, data, SMALL, tmp_path / "run", optimizer={"lr": 0.05}, **linear_model.trainer_arguments())
    assert [stage.before for stage in made] == [[], ["model"], ["model"] * 2]
    assert [stage.alive() for stage in made] == [["model"]] * 3
    assert data.trainer is None
    with pytest.raises(RuntimeError, match="not attached"):
        _ = model.trainer
    assert copy.deepcopy(model).layer.weight.equal(model.layer.weight)


def test_nothing_of_a_failed_stage_stays_in_memory(tmp_path):
    made = []
    model, data = Watched(tmp_path / "trained.txt", made), linear_model.make_data({})
    arguments = linear_model.trainer_arguments() | {"optimizer": {"lr": 0.05}, "monitor": "val/loss"}

    def fails(*arguments):
        raise ArithmeticError

    model.training_step = fails
    with pytest.raises(ArithmeticError):
        gradual.fit(model, data, SMALL, tmp_path / "run", **arguments)
    gc.collect()  # the exception has held its frames until now
    assert [stage.alive() for stage in made] == [["model"]]
    assert gc.get_freeze_count() == 0


class Circle:
    def __init__(self):
        self.itself = self


def test_only_objects_of_the_stage_are_looked_at():
    before = weakref.ref(Circle())
    with stage_memory():
        inside = weakref.ref(Circle())
    assert inside() is None
    assert before() is not None  # a look at all objects would take longer than a small stage
    gc.collect()
    assert before() is None


def test_objects_that_a_program_has_frozen_stay_frozen():
    gc.freeze()
    try:
        with stage_memory():
            inside = weakref.ref(Circle())
        assert inside() is None
        assert gc.get_freeze_count() > 0
    finally:
        gc.unfreeze()


TEN_STAGES = """
import sys, torch
from pathlib import Path
sys.path.insert(0, {tests!r})
import linear_model
from gradual.experiment.driver import compare_tree, plan_tree
from gradual.experiment.executors import in_process
from gradual.schedule import Schedule
from gradual.experiment.strategies import default_strategies

class Large(linear_model.LinearModel):
    def __init__(self, log):
        super().__init__(log)
        self.table = torch.nn.Embedding(3_000_000, 1)

    def _losses(self, batch):
        return super()._losses(batch) + self.table(torch.tensor([1])) ** 2

def main():
    root = Path({root!r})
    experiment = linear_model.make_experiment(str(root))
    experiment.model = lambda: Large(root / "trained.txt")

    def execute(nodes, finished, collapsed):
        for node in nodes:
            in_process(experiment)([node], finished, collapsed)
            status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
            print("resident", int(status["VmRSS"].split()[0]) // 1024)

    compare_tree(experiment, plan_tree(experiment, default_strategies(Schedule([20, 5, 0])), [0, 1]), execute)

main()
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")
def test_a_process_of_ten_stages_grows_by_a_fifth_at_most_after_the_second(tmp_path):
    script = TEN_STAGES.format(tests=str(linear_model.Path(linear_model.__file__).parent), root=str(tmp_path))
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    resident = [int(words.split()[1]) for words in run.stdout.splitlines() if words.startswith("resident")]
    assert len(resident) == 10
    assert resident[-1] <= 1.2 * resident[1], resident

"""Where the stages of a comparison are trained: the order and the resources that are asked for."""

import functools
import sys
import types
from concurrent.futures import Future

import pytest
from linear_model import make_experiment, trained

from gradual import InputError, Schedule
from gradual.experiment import executors
from gradual.experiment.driver import plan_tree
from gradual.experiment.executors import pooled, ray_tasks
from gradual.experiment.strategies import default_strategies


class StandInRay(types.ModuleType):
    """Ray's functions that we call; tasks run at once, in this process."""

    def __init__(self, gpus=0, running=False):
        super().__init__("ray")
        self.gpus, self.running = gpus, running
        self.addresses, self.options, self.tasks, self.shutdowns = [], [], [], 0

    def is_initialized(self):
        return self.running

    def init(self, address, **options):
        self.addresses.append(address)

    def shutdown(self):
        self.shutdowns += 1

    def cluster_resources(self):
        return {"CPU": 2.0, "GPU": float(self.gpus)} if self.gpus else {"CPU": 2.0}

    def remote(self, **options):
        self.options.append(options)
        return lambda function: types.SimpleNamespace(remote=functools.partial(self.run, function))

    def run(self, function, make_experiment, node):
        self.tasks.append(node)
        done = Future()
        done.set_result(function(make_experiment, node))
        return types.SimpleNamespace(future=lambda: done)


@pytest.fixture
def ray(monkeypatch):
    ray = StandInRay()
    monkeypatch.setitem(sys.modules, "ray", ray)
    monkeypatch.setattr(executors, "_experiment", None)
    return ray


@pytest.fixture
def no_training(monkeypatch):
    monkeypatch.setattr(executors, "_train", lambda *arguments: None)


def execute(folder, address=None, controls=False, **options):
    experiment = make_experiment(str(folder))
    nodes = plan_tree(experiment, default_strategies(Schedule([20, 5, 0])), [0], controls).nodes
    finished = []
    pooled(lambda: ray_tasks(lambda: experiment, address, **options))(
        nodes, lambda: finished.append(None), lambda node, error: None
    )
    assert len(finished) == len(nodes)
    return nodes


def test_ray_trains_each_stage_once_after_its_parent(ray, tmp_path):
    nodes = execute(tmp_path)
    assert len(trained(tmp_path)) == len(nodes) == 5
    assert {id(node) for node in ray.tasks} == {id(node) for node in nodes}
    for place, node in enumerate(ray.tasks):
        assert node.parent is None or node.parent in ray.tasks[:place]


def test_ray_trains_a_control_after_what_it_copies(ray, no_training, tmp_path):
    nodes = execute(tmp_path, controls=True)
    assert len(ray.tasks) == len(nodes) > 5
    for place, node in enumerate(ray.tasks):
        assert all(other in ray.tasks[:place] for other in node.copies)


def test_ray_is_started_and_shut_down_where_it_does_not_run(ray, no_training, tmp_path):
    execute(tmp_path / "here")
    execute(tmp_path / "there", "ray://head:10001")
    assert (ray.addresses, ray.shutdowns) == (["local", "ray://head:10001"], 2)


def test_a_cluster_that_the_program_has_joined_stays_up(ray, no_training, tmp_path):
    ray.running = True
    execute(tmp_path)
    assert (ray.addresses, ray.shutdowns) == ([], 0)


@pytest.mark.parametrize(("gpus", "share"), [(0, 0), (8, 1)])
def test_a_stage_asks_for_a_core_and_a_gpu_where_there_are_any(ray, no_training, tmp_path, gpus, share):
    ray.gpus = gpus
    execute(tmp_path, retries=7)
    assert ray.options == [{"num_cpus": 1, "num_gpus": share, "max_retries": 7}]


def test_a_cluster_is_shut_down_after_a_stage_that_fails(ray, tmp_path, monkeypatch):
    def fails(*arguments):
        raise ArithmeticError

    monkeypatch.setattr(executors, "_train", fails)
    with pytest.raises(ArithmeticError):
        execute(tmp_path)
    assert ray.shutdowns == 1


def test_without_ray_the_error_says_how_to_install_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(InputError, match=r"pip install 'gradual\[ray\]'"):
        execute(tmp_path)

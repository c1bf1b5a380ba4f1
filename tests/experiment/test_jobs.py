"""``gradual.compare(jobs=...)``: several stages at once, from Python."""

import functools
import multiprocessing
import pickle
import subprocess
import sys
import threading
import types
from pathlib import Path

import pytest
import torch
from lightning.pytorch import Callback
from lightning.pytorch.loggers import CSVLogger
from recorded_runs import LinearModel, data

import gradual
from gradual import InputError
from gradual.experiment.pickling import pickled

SETTINGS = {"optimizer": {"lr": 0.05}, "max_epochs": 2, "accelerator": "cpu", "enable_progress_bar": False}


class Listening(Callback):
    """Holds what cannot be sent to another process."""

    def __init__(self):
        self.lock = threading.Lock()


def compare(root, *, model=LinearModel, **changes):
    given = {"strategies": ["in-domain only", "one-stage"], "seeds": [0], "jobs": 2, **SETTINGS, **changes}
    return gradual.compare(model, data(), [20, 0], root / "run", **given)


def outcome(root):
    """Weights and results by folder."""
    found = {}
    for path in sorted((root / "run").rglob("best.ckpt")):
        found[path.parent.relative_to(root)] = torch.load(path, weights_only=True)["state_dict"]
    return found


@pytest.mark.slow
def test_several_jobs_leave_the_weights_of_one_job(tmp_path):
    logger = CSVLogger(tmp_path / "csv")
    page = compare(tmp_path / "two", model=functools.partial(LinearModel), callbacks=[Callback()], logger=logger)
    assert page.exists()
    compare(tmp_path / "one", jobs=1)
    two, one = outcome(tmp_path / "two"), outcome(tmp_path / "one")
    assert list(two) == list(one)
    assert len(one) == 3
    for path, state in one.items():
        assert all(torch.equal(value, two[path][name]) for name, value in state.items())


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"model": lambda: LinearModel()},
            r"^model cannot be sent to the workers of jobs=2 \(.*lambda.*a function or class",
        ),
        ({"callbacks": [Listening()]}, r"^callbacks cannot be sent to the workers of jobs=2 \(.*lock.*picklable\.$"),
        ({"devices": 2}, "^devices is 2 and num_nodes 1: with jobs or ray"),
        ({"devices": "0, 1"}, "^devices is '0, 1' and num_nodes 1"),
        ({"jobs": 0}, "^jobs is 0: it must be an integer of at least 1"),
    ],
)
def test_what_other_processes_cannot_have_is_refused_before_anything_is_made(tmp_path, changes, said):
    with pytest.raises(InputError, match=said) as refused:
        compare(tmp_path, **changes)
    assert "\n" not in str(refused.value)
    assert not list(tmp_path.iterdir())


def of_a_notebook():
    return LinearModel()


def test_a_function_of_a_notebook_is_refused(monkeypatch):
    monkeypatch.setattr(of_a_notebook, "__module__", "__main__")
    monkeypatch.setitem(sys.modules, "__main__", types.SimpleNamespace(of_a_notebook=of_a_notebook))
    said = r"^model cannot be sent to the workers of jobs=2 \(of_a_notebook is defined in a notebook"
    with pytest.raises(InputError, match=said), pickled(dict, {"model": functools.partial(of_a_notebook)}, 2):
        pass


def test_data_are_sent_by_value_and_as_they_were_given():
    parts = {"datamodule": data()}
    with pickled(functools.partial(dict, **parts), parts, 2) as make:
        sent = pickle.loads(pickle.dumps(make))()["datamodule"]
    assert sent._domains is None
    assert torch.equal(sent.domains.val[3][0], data().domains.val[3][0])
    assert not sent.domains.val[3][0].is_shared()


def test_a_worker_that_imports_the_script_says_so(monkeypatch, tmp_path):
    monkeypatch.setattr(multiprocessing.current_process(), "_inheriting", True, raising=False)
    with pytest.raises(InputError, match=r"jobs=2 each worker imports this script: .* `if __name__ == '__main__':`"):
        compare(tmp_path)


UNGUARDED = """
import sys
sys.path[:0] = {path!r}
from pathlib import Path
from test_jobs import compare
compare(Path({root!r}))
"""


@pytest.mark.slow
def test_a_script_without_a_guard_ends_with_the_reason(tmp_path):
    script = tmp_path / "script.py"
    here = Path(__file__)
    script.write_text(UNGUARDED.format(path=[str(here.parent), str(here.parents[1])], root=str(tmp_path)))
    ran = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=300)
    assert ran.returncode != 0
    assert "call gradual.compare under `if __name__ == '__main__':`" in ran.stderr
    assert "A worker process ended before its stage was finished: what it said is above." in ran.stderr

"""Controls that are interrupted, damaged, added later or trained in several processes have the same results."""

import functools
import json
import multiprocessing

import pytest
import torch
from controlled_runs import COPIES, OWN, Counting, compare, counted, make_experiment, results

from gradual import Schedule, Strategy
from gradual.experiment.executors import processes
from gradual.runs.directory import StageDirectory

pytestmark = pytest.mark.usefixtures("undrawn_figures")


class Halting(Counting):
    """Fails once in the middle of a stage, as a power cut would."""

    def on_train_batch_start(self, batch, batch_idx):
        folder, marker = self.trainer.checkpoint_callback.dirpath, self.log_file.with_name("halted")
        if folder.endswith("0-as-12/0-as-4") and self.trainer.global_step == 13 and not marker.exists():
            marker.touch()
            raise RuntimeError("power cut")


@pytest.mark.slow
def test_an_interrupted_control_goes_on_to_the_same_result(whole, tmp_path):
    for expected in ("power cut", None):
        experiment = make_experiment(tmp_path, Halting, data={"batch_size": 4})
        if expected:
            with pytest.raises(RuntimeError, match=expected):
                compare(tmp_path, experiment=experiment)
        else:
            compare(tmp_path, experiment=experiment)
    for path, result in results(tmp_path).items():
        other = results(whole)[path]
        assert {**result, "seconds": 0} == {**other, "seconds": 0}
    path = "run/seed-0/24/0-as-12/0-as-4/best.ckpt"
    ours, theirs = (torch.load(root / path, weights_only=True)["state_dict"] for root in (tmp_path, whole))
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


@pytest.mark.slow
def test_controls_can_be_added_to_stages_of_an_earlier_version(whole, tmp_path):
    """Whose results do not say how many steps they took."""
    compare(tmp_path, controls=False)
    for path in (tmp_path / "run").glob("seed-*/**/result.json"):
        content = json.loads(path.read_text())
        for name in ("steps", "planned_steps", "validations", "examples_seen"):
            del content[name]
        directory = StageDirectory(path.parent)
        directory.finish(type(directory.result())(**content))
    trained = counted(tmp_path)
    compare(tmp_path, controls=["same training, same restarts"])
    assert {path: steps for path, steps in counted(tmp_path)[0].items() if path in OWN} == trained[0]
    found = results(tmp_path)
    assert found.pop("24")["steps"] is None, "what nothing copies is left as it is"
    for path, result in found.items():
        assert {**result, "seconds": 0} == {**results(whole)[path], "seconds": 0}


@pytest.mark.slow
def test_a_copied_stage_that_is_trained_anew_with_other_steps_has_other_controls(tmp_path, monkeypatch):
    schedule = {"gradual": Strategy(Schedule([24, 4, 0]))}
    compare(tmp_path, schedule, controls=["same training, same restarts"])
    (tmp_path / "run/seed-0/24/4/best.ckpt").write_bytes(b"damaged")
    (tmp_path / "run/seed-0/24/4/0/result.json").unlink()
    monkeypatch.setitem(Counting.losses, 4, [5, 4, 5, 5])
    compare(tmp_path, schedule, controls=["same training, same restarts"])
    steps, _ = counted(tmp_path)
    assert steps["24/24-as-4"] == 21
    assert steps["24/24-as-4-2"] == 4 * 3
    assert "24/24-as-4-2/0-as-0" in steps
    content = json.loads((tmp_path / "run/compare.json").read_text())["strategies"]
    paths = content["gradual: same training, same restarts"]["seeds"]["0"]["paths"]
    assert paths == ["seed-0/24", "seed-0/24/24-as-4-2", "seed-0/24/24-as-4-2/0-as-0"]


@pytest.mark.slow
def test_a_damaged_control_is_repaired(whole, tmp_path):
    schedule = {"gradual": Strategy(Schedule([24, 4, 0]))}
    compare(tmp_path, schedule, controls=["same training, same restarts"])
    before = results(tmp_path)
    (tmp_path / "run/seed-0/24/24-as-4/result.json").write_text("{}")
    compare(tmp_path, schedule, controls=["same training, same restarts"])
    after = results(tmp_path)
    assert {**after["24/24-as-4"], "seconds": 0} == {**before["24/24-as-4"], "seconds": 0}
    assert after.keys() == before.keys()


@pytest.mark.slow
def test_in_several_processes_the_folders_and_results_are_the_same(whole, tmp_path, monkeypatch):
    get_context = multiprocessing.get_context
    monkeypatch.setattr(multiprocessing, "get_context", lambda method: get_context("fork"))  # starts in no time
    make = functools.partial(make_experiment, str(tmp_path))
    compare(tmp_path, execute=processes(make, jobs=2))
    folders = {
        str(path.parent.relative_to(tmp_path / "run")) for path in (tmp_path / "run").glob("seed-*/**/result.json")
    }
    assert folders == {f"seed-0/{path}" for path in OWN | COPIES}
    for path, result in results(tmp_path).items():
        assert {**result, "seconds": 0} == {**results(whole)[path], "seconds": 0}

"""Controls: they take exactly the steps of what they copy, at its batch sizes and rates, with other amounts."""

import functools
import json
import math
import multiprocessing
from collections import Counter
from pathlib import Path

import linear_model
import pytest
import torch
from lightning.pytorch.callbacks import EarlyStopping, Timer

import gradual
from gradual import CollapseConfig, InputError, LRScheduleConfig, OptimizerConfig, Schedule, Strategy, TrainSettings
from gradual.experiment.controls import CONTROLS, ON_REQUEST, REPLAY, WEIGHTED, check_controls, controls_of
from gradual.experiment.driver import compare_tree, plan_tree
from gradual.experiment.executors import in_process, processes
from gradual.experiment.experiment import Experiment
from gradual.runs.directory import RunDirectory, StageDirectory
from gradual.runs.result import STEPS_OF_STRATEGY

pytestmark = pytest.mark.usefixtures("undrawn_figures")
PATH = [24, 12, 4, 0]  # 8, 5, 3 and 2 batches an epoch
GRADUAL = {"gradual": Strategy(Schedule(PATH))}


class Counting(linear_model.LinearModel):
    """Writes a line per optimizer step and per validation; its validation scores decide when patience ends a stage."""

    losses = {24: [5, 4, 3, 4, 4], 12: [5, 4, 4], 4: [5, 4, 3, 2, 1, 2, 2], 2: [5], 0: [5, 4, 3, 3, 3]}

    def _write(self, what):
        folder = Path(self.trainer.checkpoint_callback.dirpath)
        path = folder.relative_to(next(parent for parent in folder.parents if parent.name.startswith("seed-")))
        with self.log_file.with_name("counted.jsonl").open("a") as file:
            file.write(json.dumps({"path": str(path), **what}) + "\n")

    def optimizer_step(self, *arguments, **more):
        super().optimizer_step(*arguments, **more)
        self._write({"step": self.trainer.global_step, "lr": self.trainer.optimizers[0].param_groups[0]["lr"]})

    def training_step(self, batch, batch_idx):
        self.seen = len(batch[0])
        return super().training_step(batch, batch_idx)

    def validation_step(self, batch, batch_idx):
        if batch_idx == 0 and not self.trainer.sanity_checking:
            self._write({"validation": self.trainer.global_step})
        script = self.losses[self.trainer.datamodule.amounts[self.trainer.datamodule.stage]]
        epoch = self.trainer.current_epoch
        self.log("val/loss", float(script[min(epoch, len(script) - 1)]), batch_size=len(batch[0]))


def make_experiment(root, cls=Counting, settings=None, data=None, **trainer) -> Experiment:
    arguments = {**linear_model.trainer_arguments(), "max_epochs": 40, **trainer}
    defaults = {"optimizer": OptimizerConfig(lr=0.05), "patience": 2, **(settings or {})}
    return Experiment(
        lambda: cls(Path(root) / "trained.txt"),
        lambda changes: linear_model.make_data({"batch_size": 4, **(data or {}), **changes}),
        RunDirectory(Path(root) / "run"),
        TrainSettings(**defaults),
        lambda: dict(arguments),
    )


def compare(root, strategies=GRADUAL, controls=True, seeds=(0,), execute=None, experiment=None, **more):
    experiment = experiment or make_experiment(root, **more)
    tree = plan_tree(experiment, strategies, seeds, controls)
    compare_tree(experiment, tree, execute or in_process(experiment))
    return tree


def counted(root) -> tuple[Counter, Counter]:
    """The optimizer steps and the validations of each stage, by its path, as the model counted them."""
    lines = [json.loads(line) for line in (root / "counted.jsonl").read_text().splitlines()]
    steps, validations = Counter(), Counter()
    for line in lines:
        (steps if "step" in line else validations)[line["path"]] += 1
    return steps, validations


# 24 out-of-domain: 5 epochs of 8 batches; 12: 4 of 5; 4: 7 of 3; 0: 5 of 2
OWN = {"24": 40, "24/12": 20, "24/12/4": 21, "24/12/4/0": 10}
COPIES = {
    "24-as-24+12+4": 81,
    "24-as-24+12+4/0-as-0": 10,
    "24/24-as-12": 20,
    "24/24-as-12/24-as-4": 21,
    "24/24-as-12/24-as-4/0-as-0": 10,
    "24/0-as-12": 20,
    "24/0-as-12/0-as-4": 21,
    "24/0-as-12/0-as-4/0-as-0": 10,
    "24-as-24+12+4+0": 91,
}


def results(root) -> dict[str, dict]:
    folder = root / "run/seed-0"
    return {
        str(path.parent.relative_to(folder)): json.loads(path.read_text()) for path in folder.glob("**/result.json")
    }


REQUESTED = {
    "24/24-weighted-as-12": 20,
    "24/24-weighted-as-12/24-weighted-as-4": 21,
    "24/24-weighted-as-12/24-weighted-as-4/0-as-0": 10,
    "24/12/4/2-as-0": 10,
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A comparison with all controls that nothing disturbed."""
    root = tmp_path_factory.mktemp("whole")
    compare(root, controls=[*CONTROLS, *ON_REQUEST])
    return root


def test_controls_take_exactly_the_steps_of_what_they_copy(whole):
    steps, _ = counted(whole)
    assert steps == OWN | COPIES | REQUESTED


def test_a_control_validates_as_often_as_what_it_copies(whole):
    _, validations = counted(whole)
    assert {path: validations[path] for path in OWN} == {"24": 5, "24/12": 4, "24/12/4": 7, "24/12/4/0": 5}
    assert validations["24-as-24+12+4"] == 14, "81 steps, 6 between two of them: at most 5 + 4 + 7"
    assert validations["24/24-as-12/24-as-4"] == validations["24/0-as-12/0-as-4"] == 7
    assert {path: result["validations"] for path, result in results(whole).items()} == validations


def test_a_control_ends_by_the_steps_of_its_strategy_and_counts_as_converged(whole):
    steps, _ = counted(whole)
    for path, result in results(whole).items():
        assert result["steps"] == steps[path]
        assert (result["converged"], result["ended_by"]) == (True, STEPS_OF_STRATEGY if "-as-" in path else "patience")
    assert results(whole)["24/12"]["planned_steps"] == 40 * 5
    assert results(whole)["24/24-as-12"]["planned_steps"] == 40 * 5
    assert results(whole)["24-as-24+12+4"]["planned_steps"] == 40 * (8 + 5 + 3)
    assert results(whole)["24"]["examples_seen"] == 5 * (8 + 24)
    assert results(whole)["24/24-as-12"]["examples_seen"] == 20 / 8 * (8 + 24)


@pytest.mark.slow
def test_a_control_of_a_stage_that_was_cut_off_has_not_converged_either(tmp_path):
    compare(tmp_path, {"gradual": Strategy(Schedule([24, {"amount": 4, "max_epochs": 3}, 0]))})
    found = {path: result["converged"] for path, result in results(tmp_path).items()}
    assert found == {
        "24": True, "24/4": False, "24/4/0": True, "24-as-24+4": False, "24-as-24+4/0-as-0": True,
        "24/24-as-4": False, "24/24-as-4/0-as-0": True, "24/0-as-4": False, "24/0-as-4/0-as-0": True,
        "24-as-24+4+0": False,
    }  # fmt: skip
    assert results(tmp_path)["24/24-as-4"]["steps"] == 9


def test_the_best_validation_of_a_control_is_carried_forward(whole):
    root = whole / "run/seed-0/24/24-as-12"
    result = StageDirectory(root).result()
    script = Counting.losses[24]
    assert (result.epochs, result.best_epoch) == (3, 3)  # 20 steps are two epochs and a half
    assert result.val["loss"] == min(script[:3])
    kept = torch.load(root / "best.ckpt", weights_only=True)["state_dict"]
    start = torch.load(root / "24-as-4/last.ckpt", weights_only=True)
    assert start["global_step"] == 21
    assert not torch.equal(start["state_dict"]["layer.weight"], kept["layer.weight"])


def test_controls_on_request_repeat_in_domain_examples_or_keep_a_tenth_of_the_first_amount(whole):
    content = json.loads((whole / "run/compare.json").read_text())["strategies"]
    weighted, replay = content[f"gradual: {WEIGHTED}"], content[f"gradual: {REPLAY}"]
    assert weighted["amounts"] == [24, 24, 24, 0]
    assert [stage["in_domain_weight"] for stage in weighted["schedule"][1:3]] == [24 / 12, 24 / 4]
    assert replay["amounts"] == [24, 12, 4, 2]
    assert replay["seeds"]["0"]["paths"][2:] == ["seed-0/24/12/4", "seed-0/24/12/4/2-as-0"]


@pytest.mark.parametrize(("amount", "weight"), [(12, 2.0), (4, 6.0), (9, 24 / 9)])
def test_repeated_in_domain_examples_have_the_share_of_the_smaller_stage(amount, weight):
    data = linear_model.make_data({"batch_size": 4})
    data.schedule = [24, {"amount": 24, "in_domain_weight": weight}]
    data.setup("fit")
    data.set_stage(1)
    loader = data.train_dataloader()
    epoch = [tuple(inputs.tolist()) for batch in loader for inputs in batch[0]]
    in_domain = Counter(tuple(inputs.tolist()) for inputs, _ in data.domains.in_domain)
    found = Counter(example for example in epoch if example in in_domain)
    assert len(epoch) - found.total() == 24
    assert found.keys() == in_domain.keys()
    assert found.total() / 24 == pytest.approx(8 / amount, abs=0.5 / 24)
    assert set(found.values()) <= {math.floor(weight), math.ceil(weight)}
    assert len(epoch) == data.examples_per_epoch


SLOWER = {"amount": 12, "optimizer": {"lr_scale": 0.5}}


@pytest.mark.slow
def test_strategies_share_what_controls_have_in_common(tmp_path):
    strategies = {
        "gradual": Strategy(Schedule([24, 12, 0])),
        "longer": Strategy(Schedule([24, 12, 4, 0])),
        "slower": Strategy(Schedule([24, SLOWER, 0])),
    }
    tree = compare(tmp_path, strategies, controls=CONTROLS[:2])
    steps, _ = counted(tmp_path)
    own = {"24/12/0": 10, "24/12-2": 20, "24/12-2/0": 10}
    one_stage = {
        f"24-as-24+{path}": steps
        for path, steps in (
            ("12", 60),
            ("12/0-as-0", 10),
            ("12-2", 60),
            ("12-2/0-as-0", 10),
            ("12+4", 81),
            ("12+4/0-as-0", 10),
        )
    }
    same_restarts = {
        f"24/24-as-12{path}": steps
        for path, steps in (
            ("", 20),
            ("/0-as-0", 10),
            ("/24-as-4", 21),
            ("/24-as-4/0-as-0", 10),
            ("-2", 20),
            ("-2/0-as-0", 10),
        )
    }
    assert steps == OWN | own | one_stage | same_restarts
    assert len(tree.nodes) == len(steps)
    shared = [tree.paths[f"{name}: same training, same restarts", 0][1] for name in ("gradual", "longer", "slower")]
    assert shared[0] is shared[1] is not shared[2]


def test_what_a_control_would_share_entirely_is_no_control():
    def names(amounts):
        return list(controls_of("x", Strategy(Schedule(amounts)), amounts, [*CONTROLS, *ON_REQUEST]))

    assert names([24, 12, 0]) == [f"x: {kind}" for kind in (*CONTROLS, *ON_REQUEST)]
    assert names([24, 0]) == ["x: mixed, same training", "x: ends with replay"]
    assert names([24, 24, 0]) == [
        "x: same training, one stage", "x: same training, drop at once", "x: mixed, same training",
        "x: ends with replay",
    ]  # fmt: skip
    assert names([24]) == []


def rates(root, path):
    lines = [json.loads(line) for line in (root / "counted.jsonl").read_text().splitlines()]
    return [line["lr"] for line in lines if line["path"] == path and "step" in line]


@pytest.mark.slow
def test_learning_rates_are_planned_as_in_what_is_copied(tmp_path):
    settings = {"lr_schedule": LRScheduleConfig(name="linear", warmup=0.1)}
    compare(tmp_path, {"gradual": Strategy(Schedule([24, SLOWER, 0]))}, settings=settings)
    for path, copied in (("24/24-as-12", "24/12"), ("24/0-as-12", "24/12"), ("24/0-as-12/0-as-0", "24/12/0")):
        assert rates(tmp_path, path) == rates(tmp_path, copied)
    planned = 40 * (8 + 5)  # of the two stages together, of which the first tenth warms up
    by_hand = [0.05 * min(step / (planned / 10), (planned - step) / (0.9 * planned)) for step in range(60)]
    assert rates(tmp_path, "24-as-24+12") == pytest.approx(by_hand, rel=1e-6)


class OwnPlan(Counting):
    """A schedule of its own, over the epochs that the Trainer plans."""

    def configure_optimizers(self):
        optimizer = torch.optim.SGD(self.parameters(), lr=0.1)
        return [optimizer], [torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=self.trainer.max_epochs)]

    def on_train_start(self):
        epochs = self.trainer.lr_scheduler_configs[0].scheduler.T_max
        self._write({"epochs": epochs, "steps": self.trainer.estimated_stepping_batches})


@pytest.mark.slow
def test_a_module_s_own_schedule_sees_the_plan_too(tmp_path):
    experiment = make_experiment(tmp_path, OwnPlan, {"optimizer": OptimizerConfig()})
    compare(tmp_path, experiment=experiment)
    lines = [json.loads(line) for line in (tmp_path / "counted.jsonl").read_text().splitlines()]
    plans = {line["path"]: (line["epochs"], line["steps"]) for line in lines if "epochs" in line}
    assert plans["24/12"] == (40, 200)
    assert plans["24/24-as-12"] == (25, 200)  # epochs of 8 steps
    assert plans["24/0-as-12"] == (100, 200)  # of 2 steps
    assert plans["24-as-24+12+4"] == (80, 40 * 16)


@pytest.mark.slow
def test_nothing_of_the_trainer_s_ends_a_control_early(tmp_path):
    def callbacks():
        return [EarlyStopping("val/loss", patience=1), Timer("00:01:00:00")]

    experiment = make_experiment(tmp_path, min_epochs=3, max_time="00:01:00:00", accumulate_grad_batches=2)
    given = experiment.trainer_arguments()
    experiment.trainer_arguments = lambda: {**given, "callbacks": callbacks()}
    compare(tmp_path, {"gradual": Strategy(Schedule([24, 4, 0]))}, experiment=experiment)
    steps, _ = counted(tmp_path)  # an epoch of 3 batches is 2 steps; epochs as their patience of 1 has it
    assert {path: steps[path] for path in ("24", "24/4", "24/4/0")} == {"24": 4 * 4, "24/4": 2 * 6, "24/4/0": 4}
    assert steps["24-as-24+4"] == 28
    assert steps["24/24-as-4"] == steps["24/0-as-4"] == 12


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


def test_nothing_is_trained_again_by_the_same_command(whole):
    before = (whole / "counted.jsonl").read_text()
    compare(whole, controls=[*CONTROLS, *ON_REQUEST])
    assert (whole / "counted.jsonl").read_text() == before


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


def test_a_control_without_a_finite_score_has_not_converged(tmp_path, monkeypatch):
    monkeypatch.setitem(Counting.losses, 0, [5, 4, 3, math.nan])
    experiment = make_experiment(tmp_path, settings={"collapse": CollapseConfig(attempts=0)})
    compare(
        tmp_path, {"gradual": Strategy(Schedule([24, 12, 0]))}, ["same training, drop at once"], experiment=experiment
    )
    dropped = results(tmp_path)["24/0-as-12"]
    assert (dropped["converged"], dropped["ended_by"]) == (False, "")
    assert dropped["steps"] < 20


def test_what_is_asked_for_must_be_a_control():
    assert check_controls(True) == CONTROLS
    assert check_controls(False) == check_controls([]) == ()
    assert check_controls([REPLAY, REPLAY]) == (REPLAY,)
    with pytest.raises(InputError, match=r"no control 'drop at once'; .*Did you mean 'same training, drop at once'"):
        check_controls(["drop at once"])
    with pytest.raises(InputError, match=r"controls is 'mixed': it must be true, false or a list of names"):
        check_controls("mixed")


def test_a_strategy_must_not_have_the_name_of_a_control(tmp_path):
    strategies = {**GRADUAL, "gradual: mixed, same training": Strategy(Schedule([20]))}
    with pytest.raises(InputError, match="rename it"):
        compare(tmp_path, strategies)


def test_python_takes_controls_too(tmp_path):
    arguments = {"seeds": [0], "max_epochs": 2, "accelerator": "cpu", "enable_progress_bar": False, "logger": False}
    data = linear_model.make_data({"batch_size": 4})
    model = functools.partial(Counting, tmp_path / "trained.txt")
    optimizer = {"lr": 0.05}
    controls = ["same training, one stage"]
    gradual.compare(model, data, [24, 4, 0], tmp_path / "run", controls=controls, optimizer=optimizer, **arguments)
    steps, _ = counted(tmp_path)
    assert steps["24-as-24+4"] == 2 * 8 + 2 * 3
    with pytest.raises(InputError, match="controls is 3"):
        gradual.compare(model, data, [24, 0], tmp_path / "run", controls=3, optimizer=optimizer, **arguments)


def test_a_stage_ends_after_its_limit_of_steps_which_is_part_of_its_identity_only_where_it_is_set(tmp_path):
    strategies = {"gradual": Strategy(Schedule([{"amount": 24, "max_steps": 12}, 0]))}
    compare(tmp_path, strategies, controls=False)
    steps, _ = counted(tmp_path)
    assert steps["24"] == 12
    limited = results(tmp_path)["24"]
    assert (limited["ended_by"], limited["converged"], limited["planned_steps"]) == ("max_steps", False, 12)
    settings = {path: StageDirectory(tmp_path / "run/seed-0" / path).settings() for path in ("24", "24/0")}
    assert settings["24"]["max_steps"] == 12
    assert not {"max_steps", "in_domain_weight", "same_training"} & settings["24/0"].keys()


def test_a_replay_keeps_a_part_of_each_source():
    strategy = Strategy(Schedule([{"books": 400, "dvd": 0.5}, {"books": 100, "dvd": 0.25}, 0]))
    (control,) = controls_of("gradual", strategy, [500, 150, 0], [REPLAY]).values()
    assert control.schedule[2].amount == {"books": 33, "dvd": pytest.approx(0.25 * 50 / 150)}

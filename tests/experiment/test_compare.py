"""Comparing strategies: each stage trained once, wherever it runs, however often it is interrupted."""

import functools
import json
import multiprocessing
import os
import queue
import signal
from collections import Counter
from pathlib import Path

import linear_model
import pytest
import torch
from paper_table5 import table5
from slow_cases import fast_one_in
from tensorboard.backend.event_processing.event_multiplexer import EventMultiplexer

from gradual import InputError, Schedule
from gradual.experiment.driver import compare_tree, fit_path, plan_path, plan_tree
from gradual.experiment.executors import _begin_worker, in_process, pooled, processes, ray_tasks
from gradual.experiment.experiment import PathExperiment
from gradual.experiment.strategies import Strategy, default_strategies, parse_strategies
from gradual.runs.directory import StageDirectory

SMALL = default_strategies(Schedule([20, 5, 0]))


def compare(root: Path, strategies=SMALL, seeds=(0, 1), execute=None, **arguments) -> Path:
    experiment = linear_model.make_experiment(str(root))
    tree = plan_tree(experiment, strategies, seeds)
    return compare_tree(experiment, tree, execute or in_process(experiment), **arguments)


def scores(root: Path) -> dict[str, dict]:
    """Validation and test scores by stage folder."""
    found = {}
    for path in sorted((root / "run").glob("seed-*/**/result.json")):
        content = json.loads(path.read_text())
        found[str(path.parent.relative_to(root))] = {
            name: content[name] for name in ("val", "test", "epochs", "best_epoch")
        }
    return found


def report_files(root: Path) -> dict[str, bytes]:
    names = ("table.csv", "significance.csv", "stages.svg")
    return {name: (root / "run/report" / name).read_bytes() for name in names}


def test_the_paper_s_strategies_without_out_of_domain_data_are_refused_where_there_is_a_pool(tmp_path):
    for schedule in ([0], [0.0, 0], [0.0001]):  # which is none of 4,000
        with pytest.raises(InputError, match="pool of 4000 out-of-domain examples, since the schedule has none"):
            compare(tmp_path, default_strategies(Schedule(schedule)))
    experiment = linear_model.make_experiment(str(tmp_path))
    without = lambda changes: linear_model.make_data({"out_of_domain": None, **changes})  # noqa: E731
    experiment.datamodule = without
    assert list(plan_tree(experiment, default_strategies(Schedule([0])), [0]).amounts) == ["in-domain only"]


def test_strategies_of_one_s_own_may_leave_the_pool_unused_and_a_note_says_so(tmp_path, caplog):
    caplog.set_level("INFO", "gradual")
    slow = {"schedule": [0], "optimizer": {"lr": 0.01}}
    compare(tmp_path, parse_strategies({"in-domain only": {}, "slow": slow}, Schedule([20, 0])), seeds=(0,))
    assert "No strategy uses the pool of 4000 out-of-domain examples." in caplog.text


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A comparison that nothing disturbed."""
    root = tmp_path_factory.mktemp("whole")
    compare(root)
    return root


@pytest.mark.slow
def test_table_5_trains_12_stages_and_the_largest_once(tmp_path):
    rows = {name: strategy for name, strategy in table5(vectors=False).items() if name != "all domains"}
    compare(tmp_path, rows, seeds=(0,))
    assert len(linear_model.trained(tmp_path)) == 12
    assert Counter(linear_model.trained(tmp_path))["4000"] == 1
    compare(tmp_path, rows | {"mixed": Strategy(Schedule([4000]))}, seeds=(0,))
    assert len(linear_model.trained(tmp_path)) == 12


def test_each_stage_is_trained_once_for_each_seed(whole):
    assert Counter(linear_model.trained(whole)) == {"20": 2, "5": 2, "0": 6}
    assert set(scores(whole)) == {
        f"run/seed-{seed}/{path}" for seed in (0, 1) for path in ("0", "20", "20/0", "20/5", "20/5/0")
    }


def test_the_report_holds_the_mean_of_the_seeds(whole):
    content = json.loads((whole / "run/compare.json").read_text())
    assert content["metrics"] == ["close"]
    assert content["baseline"] == "in-domain only"
    by_seed = content["strategies"]["one-stage"]["seeds"]
    paths = {seed: of_seed["paths"] for seed, of_seed in by_seed.items()}
    assert paths == {"0": ["seed-0/20", "seed-0/20/0"], "1": ["seed-1/20", "seed-1/20/0"]}
    by_hand = [scores(whole)[f"run/seed-{seed}/20/5/0"]["test"]["close"] for seed in (0, 1)]
    header, *rows = (line_.split(",") for line_ in (whole / "run/report/table.csv").read_text().splitlines())
    gradual = dict(zip(header, next(row for row in rows if row[0] == "gradual")))
    assert float(gradual["close_mean"]) == pytest.approx(sum(by_hand) / 2)


def test_fit_and_compare_reuse_each_other(tmp_path):
    import gradual

    compare(tmp_path, {"gradual": Strategy(Schedule([20, 5, 0]))}, seeds=(0,))
    count = len(linear_model.trained(tmp_path))
    parts = linear_model.make_experiment(str(tmp_path))
    experiment = PathExperiment(
        parts.model(),
        parts.data({}),
        Schedule([20, 5, 0]),
        parts.run,
        parts.defaults,
        parts.trainer_arguments,
    )
    result = fit_path(experiment, plan_path(experiment))
    assert isinstance(result, gradual.RunResult)
    assert len(linear_model.trained(tmp_path)) == count
    compare(tmp_path, seeds=(0,))
    assert len(linear_model.trained(tmp_path)) == count + 2  # in-domain only, and one-stage's last


@pytest.mark.parametrize("after", fast_one_in(2, [1, 4]))
def test_an_interrupted_comparison_resumes_to_the_same_report(whole, tmp_path, after):
    def fails(nodes, finished, collapsed):
        experiment = linear_model.make_experiment(str(tmp_path))
        for node in nodes[:after]:
            experiment.train(node)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        compare(tmp_path, execute=fails)
    assert len(linear_model.trained(tmp_path)) == after
    compare(tmp_path)
    assert len(linear_model.trained(tmp_path)) == 10
    assert scores(tmp_path) == scores(whole)
    expected = report_files(whole)
    again = report_files(tmp_path)
    assert again["stages.svg"] == expected["stages.svg"]
    assert again["significance.csv"] == expected["significance.csv"]


@pytest.fixture(params=["fork", pytest.param("spawn", marks=pytest.mark.slow)])
def start_of_workers(request, monkeypatch):
    """Workers are started anew, which takes seconds; in the fast tests they are forked from this process."""
    get_context = multiprocessing.get_context
    monkeypatch.setattr(multiprocessing, "get_context", lambda method: get_context(request.param))


def test_several_processes_give_the_same_scores(whole, tmp_path, start_of_workers):
    compare(tmp_path, execute=processes(functools.partial(linear_model.make_experiment, str(tmp_path)), jobs=2))
    assert sorted(linear_model.trained(tmp_path)) == sorted(linear_model.trained(whole))
    assert scores(tmp_path) == scores(whole)


@pytest.mark.parametrize(("visible", "expected"), [("4,5,6,7", ["4", "5"]), ("4", ["4", "4"]), ("", [None, None])])
def test_each_worker_has_one_gpu(monkeypatch, visible, expected):
    monkeypatch.setattr(torch, "set_num_threads", lambda number: None)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    given = []
    shares = queue.Queue()
    for share in range(2):
        shares.put(share)
    for _ in range(2):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
        _begin_worker(shares, 2)
        given.append(os.environ["CUDA_VISIBLE_DEVICES"] or None)
    assert given == expected


def test_a_failing_stage_fails_the_comparison_and_keeps_what_is_done(tmp_path, start_of_workers):
    make = functools.partial(failing_experiment, str(tmp_path))
    with pytest.raises(RuntimeError, match="out of paper"):
        compare(tmp_path, seeds=(0,), execute=processes(make, jobs=1))
    assert 1 <= len(scores(tmp_path)) < 5


class FailingModel(linear_model.LinearModel):
    def on_train_start(self):
        super().on_train_start()
        if self.trainer.checkpoint_callback.dirpath.endswith("20/5"):
            raise RuntimeError("out of paper")


def failing_experiment(root: str):
    experiment = linear_model.make_experiment(root)
    experiment.model = lambda: FailingModel(Path(root) / "trained.txt")
    return experiment


class DyingModel(linear_model.LinearModel):
    """Kills its process in the middle of one stage, once."""

    def on_train_epoch_start(self):
        if self.trainer.checkpoint_callback.dirpath.endswith("20/5") and self.trainer.current_epoch == 1:
            marker = self.log_file.with_name("died")
            if not marker.exists():
                marker.touch()
                os.kill(os.getpid(), signal.SIGKILL)


def dying_experiment(root: str):
    experiment = linear_model.make_experiment(root)
    experiment.model = lambda: DyingModel(Path(root) / "trained.txt")
    return experiment


@pytest.mark.slow
def test_a_lost_ray_worker_s_stage_is_run_again(whole, tmp_path):
    ray = pytest.importorskip("ray", reason="ray is an extra: pip install gradual[ray]")
    here = str(Path(__file__).parents[1])
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, runtime_env={"env_vars": {"PYTHONPATH": here}})
    try:
        make = functools.partial(dying_experiment, str(tmp_path))
        compare(tmp_path, seeds=(0,), execute=pooled(lambda: ray_tasks(make, None)))
    finally:
        ray.shutdown()
    assert (tmp_path / "died").exists()
    assert Counter(linear_model.trained(tmp_path)) == {"20": 1, "5": 2, "0": 3}  # begun twice, and gone on with
    assert scores(tmp_path) == {path: score for path, score in scores(whole).items() if "seed-0" in path}


def test_tensorboard_shows_the_strategies_side_by_side(whole):
    runs = EventMultiplexer().AddRunsFromDirectory(str(whole / "run/strategies")).Reload()
    assert set(runs.Runs()) == set(SMALL)
    points = runs.GetAccumulator("gradual").Scalars("test/close/mean")
    assert [point.step for point in points] == [1, 2, 3]
    first = [scores(whole)[f"run/seed-{seed}/20"]["test"]["close"] for seed in (0, 1)]
    assert points[0].value == pytest.approx(sum(first) / 2)
    plugins = runs.GetAccumulator("gradual").PluginTagToContent("hparams")
    assert "_hparams_/session_start_info" in plugins
    assert "custom_scalars__config__" in runs.GetAccumulator("gradual").PluginTagToContent("custom_scalars")


def test_tensorboard_has_the_validation_scores_and_what_converged(whole):
    runs = EventMultiplexer().AddRunsFromDirectory(str(whole / "run/strategies")).Reload()
    gradual = runs.GetAccumulator("gradual")
    by_hand = [scores(whole)[f"run/seed-{seed}/20/5"]["val"]["loss"] for seed in (0, 1)]
    assert gradual.Scalars("val/loss/mean")[1].value == pytest.approx(sum(by_hand) / 2)
    results = [StageDirectory(whole / f"run/seed-{seed}/20/5").result() for seed in (0, 1)]
    assert gradual.Scalars("converged")[1].value == all(result.converged for result in results)


def test_without_test_data_strategies_are_compared_by_validation(tmp_path, capsys):
    experiment = linear_model.make_experiment(str(tmp_path))
    experiment.datamodule = lambda changes: linear_model.make_data({**changes, "test": None})
    strategies = default_strategies(Schedule([20, 0]))
    tree = plan_tree(experiment, strategies, seeds=(0, 1))
    compare_tree(experiment, tree, in_process(experiment), baseline="one-stage")

    printed = capsys.readouterr().out
    assert "With this schedule, one-stage and gradual are the same path: the row gradual stands for both." in printed
    results = json.loads((tmp_path / "run/report/results.json").read_text())
    assert results["baseline"] == "gradual"
    assert list(results["strategies"]) == ["in-domain only", "mixed", "gradual"]
    by_hand = [scores(tmp_path)[f"run/seed-{seed}/20/0"]["val"]["loss"] for seed in (0, 1)]
    assert results["strategies"]["gradual"]["val_loss_mean"] == pytest.approx(sum(by_hand) / 2)
    runs = EventMultiplexer().AddRunsFromDirectory(str(tmp_path / "run/strategies")).Reload()
    assert runs.GetAccumulator("gradual").Scalars("val/loss/mean")[1].value == pytest.approx(sum(by_hand) / 2)


def test_history_and_test_examples_agree_with_the_results(whole):
    for folder, score in scores(whole).items():
        epochs = [json.loads(row) for row in (whole / folder / "history.jsonl").read_text().splitlines()]
        assert [row["epoch"] for row in epochs] == list(range(1, score["epochs"] + 1))
        assert epochs[score["best_epoch"] - 1]["val/loss"] == score["val"]["loss"]
        examples = [json.loads(row) for row in (whole / folder / "test_examples.jsonl").read_text().splitlines()]
        assert len(examples) == 8
        share = sum(row["close"][0] for row in examples) / sum(row["close"][1] for row in examples)
        assert share == pytest.approx(score["test"]["close"])


def test_mistakes_are_reported_before_anything_is_trained(tmp_path):
    with pytest.raises(InputError, match=r"'big': .*the pool holds 4000"):
        compare(tmp_path, {"big": Strategy(Schedule([5000, 0]))})
    with pytest.raises(InputError, match="baseline is 'best'"):
        compare(tmp_path, baseline="best")
    with pytest.raises(InputError, match="jobs is 0"):
        processes(linear_model.make_experiment, 0)
    assert not linear_model.trained(tmp_path)


def test_weights_of_equal_seeds_are_equal_and_of_others_are_not(whole):
    states = [torch.load(whole / f"run/seed-{s}/20/best.ckpt", weights_only=True)["state_dict"] for s in (0, 1)]
    assert not torch.equal(states[0]["layer.weight"], states[1]["layer.weight"])

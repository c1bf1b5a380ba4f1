"""A stage that collapses in every attempt ends the paths that need it, and no others."""

import math
from pathlib import Path

import pytest
from controlled_runs import Counting, compare, make_experiment, results
from slow_cases import fast_one_in

from gradual import InputError, Schedule, Strategy
from gradual.experiment.executors import pooled, this_process
from gradual.stage.callbacks.collapse import CollapsedError

pytestmark = pytest.mark.usefixtures("undrawn_figures")

SHORT = {"gradual": Strategy(Schedule([24, 12, 0])), "one-stage": Strategy(Schedule([24, 0]))}
KINDS = ["same training, drop at once", "same training, one stage"]


class Bad(Counting):
    """Its loss is NaN in the stages with these folders under seed 0."""

    folders = ("12",)

    def training_step(self, batch, batch_idx):
        folder = Path(self.trainer.checkpoint_callback.dirpath)
        loss = super().training_step(batch, batch_idx)
        return loss * math.nan if folder.name in self.folders and "seed-0" in folder.parts else loss


class BadControl(Bad):
    folders = ("0-as-12",)


class BadStart(Bad):
    folders = ("24",)


def in_a_pool(experiment):
    return pooled(lambda: this_process(experiment))


def run(root, cls, execute=None, strategies=SHORT, seeds=(0, 1), controls=KINDS):
    experiment = make_experiment(root, cls, max_epochs=3)
    compare(root, strategies, controls, seeds, execute and execute(experiment), experiment)
    return (root / "run/report/table.md").read_text()


@pytest.mark.parametrize("execute", fast_one_in(2, [None, in_a_pool]))
def test_a_control_that_collapses_ends_alone(tmp_path, caplog, execute):
    text = run(tmp_path, BadControl, execute)
    assert (
        "gradual: same training, drop at once, seed 0: 1 of 3 stages finished; seed-0/24/0-as-12 collapsed in" in text
    )
    assert len(text[text.index("## Missing") :].split(", seed 0: ")) == 2, "nothing else is missing"
    assert set(results(tmp_path)) == {"24", "24/12", "24/12/0", "24/0", "24-as-24+12", "24-as-24+12/0-as-0"}
    (said,) = [line for line in caplog.messages if "collapsed in 3 of 3 attempts" in line]
    assert said.startswith("seed 0, stage 2 (0 out-of-domain) of the strategy 'gradual: same training, drop at once' ")
    assert "trained with the learning rates of stage 2 (12 out-of-domain) of 'gradual': in the schedule, give" in said
    assert said.endswith("Paths that do not need this stage go on.")
    counted = (tmp_path / "counted.jsonl").read_text()
    assert run(tmp_path, BadControl, execute) == text
    assert (tmp_path / "counted.jsonl").read_text() == counted, "a second call trains nothing"


@pytest.mark.parametrize("execute", fast_one_in(2, [None, in_a_pool]))
def test_a_stage_that_collapses_ends_its_path_and_the_controls_that_copy_it(tmp_path, caplog, execute):
    text = run(tmp_path, Bad, execute, seeds=(0,))
    assert set(results(tmp_path)) == {"24", "24/0"}
    missing = text[text.index("## Missing") :]
    assert "gradual, seed 0: 1 of 3 stages finished; seed-0/24/12 collapsed in every attempt." in missing
    needs = "; it needs seed-0/24/12, which collapsed in every attempt."
    assert f"gradual: same training, drop at once, seed 0: 1 of 3 stages finished{needs}" in missing
    assert f"gradual: same training, one stage, seed 0: 0 of 2 stages finished{needs}" in missing
    assert "one-stage, seed 0" not in missing
    (said,) = [line for line in caplog.messages if "collapsed in 3 of 3 attempts" in line]
    assert said.startswith("seed 0, stage 2 (12 out-of-domain) of the strategy 'gradual' collapsed")
    page = (tmp_path / "run/report/report.html").read_text()
    assert "✕ collapsed in every attempt" in page


@pytest.mark.parametrize("execute", [None, in_a_pool])
def test_where_every_path_needs_the_stage_the_comparison_ends(tmp_path, execute):
    with pytest.raises(CollapsedError, match=r"^seed 0, stage 1 \(24 out-of-domain\) of the strategy 'gradual' collap"):
        run(tmp_path, BadStart, execute, seeds=(0,), controls=[])
    assert issubclass(CollapsedError, InputError)
    assert not (tmp_path / "run/report").exists()

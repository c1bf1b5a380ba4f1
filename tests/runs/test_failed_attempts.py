"""A stage that failed before it saved anything leaves no folder."""

import pytest
from identified_runs import Net, fit
from lightning.pytorch import Callback

from gradual import InputError


def test_a_failed_first_attempt_leaves_no_folder(tmp_path):
    with pytest.raises(InputError, match="monitor"):
        fit(tmp_path, monitor="val/los", mode="min")
    _, result = fit(tmp_path, Net())
    assert [stage.path for stage in result.stages] == ["seed-0/20", "seed-0/20/0"]


def test_a_later_stage_that_failed_leaves_no_folder(done):
    class Fails(Callback):
        def on_train_start(self, trainer, pl_module):
            raise RuntimeError("out of paper")

    for amount in (20, 7):
        with pytest.raises(RuntimeError, match="out of paper"):
            fit(done, schedule=[20, {"amount": 5, "patience": amount}], callbacks=[Fails()])
    _, result = fit(done, schedule=[20, 5])
    assert result.stages[1].path == "seed-0/20/5"

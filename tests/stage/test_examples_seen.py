"""A stage's result says how many training examples its batches had."""

import pytest
from step_counting_runs import Net, fit


class Counting(Net):
    """Counts its training examples by stage."""

    def __init__(self):
        super().__init__()
        self.seen = {}

    def training_step(self, batch, batch_idx):
        stage = self.trainer.datamodule.stage
        self.seen[stage] = self.seen.get(stage, 0) + len(batch[0])
        return super().training_step(batch, batch_idx)


LIMITS = {
    "none": {},
    "batches of an epoch": {"limit_train_batches": 2},
    "a share of them": {"limit_train_batches": 0.5},
    "steps": {"max_steps": 11},
    "accumulated steps in a limited epoch": {"limit_train_batches": 3, "accumulate_grad_batches": 2},
}


@pytest.mark.parametrize("settings", LIMITS.values(), ids=LIMITS)
def test_examples_seen_are_those_of_the_batches_that_were_trained_on(tmp_path, settings):
    """Where the last batch of an epoch is as large as the others, as here."""
    result, model = fit(tmp_path, Counting(), [24, 8], **settings)
    assert [stage.examples_seen for stage in result.stages] == [model.seen[0], model.seen[1]]

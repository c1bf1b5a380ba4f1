"""A stage's result says how many training examples its batches had."""

import pytest
from linear_model import Examples
from step_counting_runs import Net, fit
from torch.utils.data import DataLoader

import gradual


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


class Several(gradual.MixedDomainDataModule):
    """Beside its batches, it has those of another loader, which are few."""

    def train_dataloader(self):
        return {"own": super().train_dataloader(), "other": DataLoader(range(3))}


def test_of_several_loaders_the_batches_are_counted(tmp_path):
    class Takes(Counting):
        def training_step(self, batch, batch_idx):
            return super().training_step(batch["own"], batch_idx)

    parts = [Examples("in", 8, 2.0, 1), Examples("out", 40, 1.0, 2), Examples("val", 8, 2.0, 3)]
    result, model = fit(tmp_path, Takes(), [24, 0], datamodule=Several(*parts, batch_size=4))
    assert [stage.examples_seen for stage in result.stages] == [2 * 32, 2 * 8]
    assert model.steps == 2 * 8 + 2 * 3, "the longer loader is the epoch"

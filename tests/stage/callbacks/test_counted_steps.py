"""Modules that optimize by themselves: each step must be one that Lightning counts."""

import pytest
from bare_fit import BATCHES, ScriptedModule, fit

from gradual import InputError
from gradual.stage.callbacks.counted_steps import CountedSteps


class Manual(ScriptedModule):
    """Takes a step after a number of batches, with Lightning's optimizer or torch's."""

    def __init__(self, counted: bool, batches: int = 1):
        super().__init__()
        self.automatic_optimization = False
        self.counted, self.batches, self.done = counted, batches, 0

    def training_step(self, batch, batch_idx):
        self.manual_backward(super().training_step(batch, batch_idx))
        self.done += 1
        if self.done % self.batches == 0:
            optimizer = self.optimizers(use_pl_optimizer=self.counted)
            optimizer.step()
            optimizer.zero_grad()


@pytest.mark.parametrize("batches", [1, 3])
def test_steps_that_lightning_does_not_count_are_refused_at_the_first_one(batches):
    module = Manual(counted=False, batches=batches)
    with pytest.raises(InputError, match=r"^Manual takes optimizer steps .* without use_pl_optimizer=False\.$"):
        fit(module, CountedSteps())
    assert module.done == batches


@pytest.mark.parametrize("batches", [1, 3, BATCHES + 1, 99])
def test_steps_that_it_counts_are_none_too_few(batches):
    module = Manual(counted=True, batches=batches)
    _, trainer = fit(module, CountedSteps())
    assert trainer.global_step == 2 * BATCHES // batches
    assert not trainer.optimizers[0]._optimizer_step_post_hooks


def test_automatic_optimization_is_not_looked_at():
    _, trainer = fit(ScriptedModule(), CountedSteps())
    assert trainer.global_step == 2 * BATCHES

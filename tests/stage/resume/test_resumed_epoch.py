"""An epoch that is resumed in its middle goes on as it began: with what its start has set."""

import pytest
import torch
from interrupted_runs import At, Net, fit, in_a_process, outcome
from lightning.pytorch.callbacks import GradientAccumulationScheduler
from slow_cases import fast_one_in


class Tempered(Net):
    """Sets an attribute for each epoch, which no checkpoint holds."""

    temperature = 1.0

    def on_train_epoch_start(self):
        self.temperature = 2.0 + self.current_epoch

    def training_step(self, batch, batch_idx):
        return super().training_step(batch, batch_idx) * self.temperature


class Stateful(Tempered):
    """Changes what a checkpoint holds, too, at the start of each epoch, and needs what the start of the fit made."""

    def __init__(self, log):
        super().__init__(log)
        self.register_buffer("epochs", torch.tensor(0))
        self.register_buffer("scale", torch.ones(1), persistent=False)
        self.running = torch.nn.BatchNorm1d(3)

    def on_train_start(self):
        self._offset = torch.rand(()) * 0 + 1

    def on_train_epoch_start(self):
        super().on_train_epoch_start()
        self.epochs += 1
        self.scale.fill_(self._offset + self.current_epoch)
        self.running.reset_running_stats()
        self.error.reset()
        torch.nn.init.zeros_(self.net[2].bias)
        self.optimizers().optimizer.param_groups[0]["weight_decay"] += torch.rand(()).item()
        self.lr_schedulers().step()
        self.log("train/temperature", self.temperature)
        self._losses = []

    def training_step(self, batch, batch_idx):
        loss = super().training_step([self.running(batch[0]), batch[1]], batch_idx) * self.scale.mean() * self.epochs
        self._losses.append(loss)
        return loss


CASES = {
    "gradient accumulation that is scheduled": (Net, lambda: [GradientAccumulationScheduler({0: 2})]),
    "another one in the second epoch": (Net, lambda: [GradientAccumulationScheduler({0: 1, 1: 2})]),
    "an attribute": (Tempered, list),
    "attributes and state": (Stateful, list),
}


@pytest.mark.parametrize("case", fast_one_in(2, CASES))
def test_what_the_start_of_an_epoch_has_set_holds_where_it_is_resumed(tmp_path, monkeypatch, case):
    model, callbacks = CASES[case]
    monkeypatch.setattr("interrupted_runs.Net", model)

    def run(root, *more):
        root.mkdir(exist_ok=True)
        return in_a_process(lambda: fit(root, *callbacks(), *more, checkpoint_every=0))

    assert run(tmp_path / "whole") == 0
    expected = outcome(tmp_path / "whole")
    for batch in (2, 4, 5, 7):
        root = tmp_path / f"killed-at-{batch}"
        assert run(root, At("on_train_batch_start", batch)) < 0
        assert run(root) == 0
        assert outcome(root) == expected, f"killed at batch {batch}"


def test_a_failure_at_the_start_leaves_the_module_as_it_was(tmp_path, monkeypatch):
    """As where the next cell of a notebook goes on with the same module."""

    class Fails(Tempered):
        def on_train_epoch_start(self):
            raise RuntimeError("of the module")

    monkeypatch.setattr("interrupted_runs.Net", Tempered)
    assert in_a_process(lambda: fit(tmp_path, At("on_train_batch_start", 3), checkpoint_every=0)) < 0
    made = []
    monkeypatch.setattr("interrupted_runs.Net", lambda log: made.append(Tempered(log)) or made[-1])
    monkeypatch.setattr(Tempered, "on_train_epoch_start", Fails.on_train_epoch_start)
    with pytest.raises(RuntimeError, match="of the module"):
        fit(tmp_path, checkpoint_every=0)
    assert "on_train_start" not in vars(made[0])

"""What callbacks freeze and free within a stage is so again after an interruption, and not in the next stage."""

import logging

import pytest
import torch
from lightning.pytorch import Callback
from lightning.pytorch.callbacks import BackboneFinetuning
from slow_cases import fast_one_in
from step_counting_runs import Net, PowerCut, Stop, fit
from torch import nn

EPOCHS = 4  # of 8 batches in the first stage and 2 in the last


def same(left, right):
    return all(torch.equal(value, right.state_dict()[name]) for name, value in left.state_dict().items())


class Normalized(Net):
    """The backbone has a batch norm, and what is optimized at first is the head."""

    def __init__(self):
        super().__init__()
        self.backbone = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))

    def configure_optimizers(self):
        return torch.optim.Adam(self.head.parameters(), lr=0.05)


class Free(Callback):
    """Freezes the backbone before a stage, and frees it in the second epoch, without a state of its own."""

    def on_fit_start(self, trainer, pl_module):
        pl_module.backbone.requires_grad_(False)
        pl_module.backbone.eval()

    def on_train_epoch_start(self, trainer, pl_module):
        if trainer.current_epoch == 1 and not any(p.requires_grad for p in pl_module.backbone.parameters()):
            pl_module.backbone.requires_grad_(True)
            pl_module.backbone.train()
            trainer.optimizers[0].add_param_group({"params": list(pl_module.backbone.parameters()), "lr": 0.01})


def backbone(**changes):
    return BackboneFinetuning(unfreeze_backbone_at_epoch=1, backbone_initial_lr=1e-2, **changes)


CALLBACKS = {
    "BackboneFinetuning": backbone,
    "with its batch norm": lambda: backbone(train_bn=False),
    "one of the user's own": Free,
}


@pytest.mark.slow
@pytest.mark.parametrize("name", fast_one_in(3, CALLBACKS))
@pytest.mark.parametrize("at", fast_one_in(3, [11, 20, 29]))
def test_a_resumed_stage_trains_the_parameters_that_were_unfrozen(tmp_path, name, at):
    """Stopped in the epoch of the change and two epochs after it."""
    make = CALLBACKS[name]
    settings = {"schedule": [24, 0], "max_epochs": EPOCHS, "checkpoint_every": 0}
    expected, whole = fit(tmp_path / "a", Normalized(), callbacks=[make()], **settings)
    with pytest.raises(PowerCut):
        fit(tmp_path / "b", Normalized(), callbacks=[make(), Stop(at)], **settings)
    result, again = fit(tmp_path / "b", Normalized(), callbacks=[make()], **settings)
    assert again.steps == whole.steps - at
    assert [stage.val for stage in result.stages] == [stage.val for stage in expected.stages]
    assert same(whole, again)


def test_an_unfrozen_backbone_is_trained(tmp_path):
    """Else the test above would show nothing."""
    _, free = fit(tmp_path / "a", Normalized(), [24], callbacks=[backbone()], max_epochs=EPOCHS)
    _, frozen = fit(tmp_path / "b", Normalized(), [24], callbacks=[BackboneFinetuning(99)], max_epochs=EPOCHS)
    start = Normalized().state_dict()["backbone.0.weight"]
    assert torch.equal(frozen.state_dict()["backbone.0.weight"], start)
    assert not torch.equal(free.state_dict()["backbone.0.weight"], start)


class Thaw(Callback):
    """Frees what the module froze, for good."""

    frozen = []

    def on_train_start(self, trainer, pl_module):
        Thaw.frozen.append(not pl_module.backbone.weight.requires_grad)
        pl_module.backbone.requires_grad_(True)


class Frozen(Net):
    def __init__(self):
        super().__init__()
        self.backbone.requires_grad_(False)


def test_each_stage_begins_with_the_parameters_frozen_as_given(tmp_path):
    """So it does in a new process, and in a comparison, where each stage has a new module."""
    Thaw.frozen = []
    _, whole = fit(tmp_path / "a", Frozen(), callbacks=[Thaw()])
    assert Thaw.frozen == [True] * 3
    assert not whole.backbone.weight.requires_grad
    fit(tmp_path / "b", Frozen(), [24], callbacks=[Thaw()])
    _, again = fit(tmp_path / "b", Frozen(), callbacks=[Thaw()])
    assert same(whole, again)


def test_layers_created_in_a_stage_begin_each_stage_frozen_as_created(tmp_path):
    class Made(Net):
        def configure_model(self):
            if not hasattr(self, "extra"):
                self.extra = nn.Linear(1, 1).requires_grad_(False)

    class Free(Callback):
        frozen = []

        def on_train_start(self, trainer, pl_module):
            Free.frozen.append(not pl_module.extra.weight.requires_grad)
            pl_module.extra.requires_grad_(True)

    fit(tmp_path, Made(), callbacks=[Free()])
    assert Free.frozen == [True] * 3


def test_callbacks_before_a_fit_see_the_weights_that_the_stage_starts_from(tmp_path):
    class Probe(Callback):
        seen = []

        def on_fit_start(self, trainer, pl_module):
            Probe.seen.append(pl_module.head.weight.clone())

    fit(tmp_path, schedule=[24])
    fit(tmp_path, schedule=[24, 0], callbacks=[Probe()])  # another process: the module is as it was made
    best = torch.load(tmp_path / "run/seed-0/24/best.ckpt", weights_only=True)["state_dict"]
    assert torch.equal(Probe.seen[0], best["head.weight"])


def test_callbacks_without_a_state_are_named_when_a_stage_resumes(tmp_path, caplog):
    class Counts(Callback):
        def __init__(self):
            self.count = 0

    class Keeps(Counts):
        def state_dict(self):
            return {"count": self.count}

    with pytest.raises(PowerCut):
        fit(tmp_path, callbacks=[Stop(9), backbone()])
    with caplog.at_level(logging.WARNING, "gradual"):
        fit(tmp_path, callbacks=[Counts(), Keeps(), backbone(), Thaw()])
    (said,) = [record.getMessage() for record in caplog.records if "goes on" in record.getMessage()]
    assert said == "Stage 1 (24 out-of-domain) goes on; callbacks without a state begin anew: Counts."

"""What of a tracker is trained, in which mode and type, and what a checkpoint keeps of it."""

import pytest
import torch
from dialogue_trackers import make_tracker
from quiet_trainer import quiet_trainer
from slow_cases import fast_one_in
from trained_parameters import trained
from trained_precision import trained_in
from transformers import AutoModel

from gradual.tasks.dialogue import BeliefScores, DialogueStateTracker
from gradual.tasks.dialogue.model import turn_losses

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")  # Lightning's advice on workers and devices


def test_a_trackers_parameters_are_one_encoder_and_the_head(demo, datamodule):
    """No second encoder, neither trained nor stored, and no pooling head; and the frozen vectors."""
    tracker = make_tracker(demo, datamodule)
    encoder = AutoModel.from_pretrained(demo / "encoder", add_pooling_layer=False)
    d, h = 64, 20
    head = {
        "attention": 4 * (d * d + d),
        "start": d * h + h,
        "gru": 3 * h * (d + h + 2),
        "output": h * d + d,
        "norm": 2 * d,
    }
    expected = encoder.num_parameters() + sum(head.values())
    assert sum(parameter.numel() for parameter in trained(tracker).values()) == expected
    ontology = datamodule.ontology
    slots, widest = len(ontology.slots), max(map(len, ontology.values))
    stored = slots * d + slots * widest * d + slots * widest
    assert sum(value.numel() for value in tracker.state_dict().values()) == expected + stored
    assert {name.split(".")[1] for name in tracker.state_dict()} == (
        {"encoder", "attention", "tracker", "slot_vectors", "value_vectors", "value_mask"}
    )


def test_the_encoders_dropout_is_active_in_training_and_only_there(demo, datamodule):
    tracker = make_tracker(demo, datamodule)
    assert all(module.training for module in tracker.modules())
    batch = next(iter(datamodule.val_dataloader()))
    assert not torch.equal(tracker(batch), tracker(batch))
    ids = batch.groups[0].input_ids
    first, second = (tracker.model.encoder(ids).last_hidden_state for _ in range(2))
    assert not torch.equal(first, second), "the encoder's own"
    tracker.eval()
    assert torch.equal(tracker(batch), tracker(batch))


def test_a_fit_trains_every_parameter_in_training_mode_and_a_checkpoint_keeps_it_all(
    demo, datamodule, tmp_path, monkeypatch
):
    class Watched(DialogueStateTracker):
        def training_step(self, batch, batch_idx):
            modes.append({module.training for module in self.modules() if not isinstance(module, BeliefScores)})
            return super().training_step(batch, batch_idx)

        def configure_optimizers(self):
            return torch.optim.AdamW(self.parameters(), lr=1e-2)

    modes = []
    torch.manual_seed(0)
    tracker = Watched(str(demo / "encoder"), hidden=20)
    before = {name: parameter.detach().clone() for name, parameter in trained(tracker).items()}
    # the second epoch comes after a validation, which puts all modules in evaluation mode for its time
    trainer = quiet_trainer(max_epochs=2)
    trainer.fit(tracker, datamodule)
    assert modes == [{True}] * 4
    assert set(trained(tracker)) == set(before)
    assert not any(torch.equal(parameter, before[name]) for name, parameter in trained(tracker).items())
    assert {"val/loss", "val/joint_accuracy", "train/loss", "train/slot_accuracy"} <= set(trainer.callback_metrics)
    trainer.save_checkpoint(tmp_path / "tracker.ckpt")

    # not set up with any data: what was trained and the slots' vectors come from the checkpoint
    loaded = DialogueStateTracker.load_from_checkpoint(tmp_path / "tracker.ckpt", weights_only=True).eval()
    batch = next(iter(datamodule.test_dataloader()))
    with torch.no_grad():
        assert torch.equal(loaded(batch), tracker.eval()(batch))
    monkeypatch.setattr("gradual.tasks.dialogue.task.text_vectors", lambda *_: pytest.fail("encoded again"))
    trainer = quiet_trainer()
    assert trainer.test(loaded, datamodule, verbose=False) == trainer.test(tracker, datamodule, verbose=False)


@pytest.mark.parametrize("precision", fast_one_in(2, ["bf16-true", "64-true"]))
def test_a_model_in_another_type_learns_and_its_loss_is_summed_exactly(demo, datamodule, tmp_path, precision):
    torch.manual_seed(0)
    tracker = DialogueStateTracker(str(demo / "encoder"), hidden=20)
    trainer, before, logged = trained_in(precision, tracker, datamodule)
    dtype = {"bf16-true": torch.bfloat16, "64-true": torch.float64}[precision]
    assert {parameter.dtype for parameter in tracker.parameters()} == {dtype}
    assert logged < before
    batches = list(datamodule.val_dataloader())
    with torch.no_grad():
        losses = torch.cat([turn_losses(tracker.eval()(batch), batch.labels) for batch in batches]).double()
    assert logged == pytest.approx(losses.mean(0).sum().item(), rel=1e-6)

    trainer.save_checkpoint(tmp_path / "tracker.ckpt")
    loaded = DialogueStateTracker.load_from_checkpoint(tmp_path / "tracker.ckpt").eval()
    assert {value.dtype for value in loaded.state_dict().values()} == {torch.float32, torch.bool}
    assert len(loaded(batches[0])) == len(batches[0].labels)

"""The plain implementations that benchmarks compare with compute the package's models."""

import pytest
import torch
from dialogue_files import encoded, tiny_bert
from plain_sumbt import PlainSumbt, pad

from gradual.tasks.dialogue import Sumbt
from gradual.tasks.dialogue.features import TurnCollator
from gradual.tasks.dialogue.model import batch_loss, turn_losses

CANDIDATES = (3, 5, 2)


def make_model():
    """In evaluation mode; of equal weights at each call."""
    encoder = tiny_bert()
    torch.manual_seed(1)
    model = Sumbt(encoder, heads=4, hidden=11).eval()
    model.set_vectors(torch.randn(3, 16), [torch.randn(count, 16) for count in CANDIDATES])
    return model


@pytest.mark.parametrize("turns", [5, 22])
def test_the_plain_dialogue_model_has_our_loss_and_gradients(turns):
    dialogues = encoded([[4, 9, 6], [12], [7, 7, 3, 20, 5]], CANDIDATES, missing=0.2)
    model, twin = make_model(), make_model()
    batch = TurnCollator(pad_token_id=0)(dialogues)
    ours = batch_loss(turn_losses(model(batch), batch.labels), batch.labels)
    plain = PlainSumbt(twin)(pad(dialogues, turns, 64, 0))
    torch.testing.assert_close(plain, ours, rtol=1e-4, atol=1e-4)
    ours.backward()
    plain.backward()
    expected = {name: parameter.grad for name, parameter in model.named_parameters()}
    for name, parameter in twin.named_parameters():
        torch.testing.assert_close(parameter.grad, expected[name], rtol=1e-3, atol=1e-4)

"""A few epochs in another precision, and what they were computed in."""

import torch
from quiet_trainer import quiet_trainer


def trained_in(precision, model, datamodule):
    """Train a model for three epochs; the Trainer, and the losses on validation before and after."""
    model.configure_optimizers = lambda: torch.optim.AdamW(model.parameters(), lr=1e-2)
    made = quiet_trainer(max_epochs=3, precision=precision, inference_mode=False)
    before = made.validate(model, datamodule, verbose=False)[0]["val/loss"]
    made.fit(model, datamodule)
    return made, before, made.validate(model, datamodule, verbose=False)[0]["val/loss"]


def types_of_results(model):
    """A set to which the types of what the linear layers of a model compute are added from now on."""
    found = set()
    for layer in model.modules():
        if isinstance(layer, torch.nn.Linear):
            layer.register_forward_hook(lambda layer, args, output: found.add(output.dtype))
    return found

"""What the tests of dialogue state trackers share."""

import torch

from gradual.tasks.dialogue import DialogueStateTracker


def make_tracker(demo, datamodule, **arguments):
    """A tracker that knows the ontology, in the mode that it was made in."""
    torch.manual_seed(0)
    tracker = DialogueStateTracker(str(demo / "encoder"), **{"hidden": 20, **arguments})
    datamodule.configure(tracker)
    tracker.setup("fit")
    return tracker


def trained(model):
    """The parameters that are trained, by name."""
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}

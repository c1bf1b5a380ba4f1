"""A dialogue state tracker that is ready for data."""

import torch

from gradual.tasks.dialogue import DialogueStateTracker


def make_tracker(demo, datamodule, **arguments):
    """A tracker that knows the ontology, in the mode that it was made in."""
    torch.manual_seed(0)
    tracker = DialogueStateTracker(str(demo / "encoder"), **{"hidden": 20, **arguments})
    datamodule.configure(tracker)
    tracker.setup("fit")
    return tracker

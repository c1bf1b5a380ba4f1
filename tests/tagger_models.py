"""Taggers with their data, as the tests of tagging use them."""

import torch

from gradual.tasks import TokenClassificationData, TokenClassifier

KINDS = ("bert", "roberta", "modernbert")


def data(folder, kind="bert", parts=("in_domain", "val", "test", "out_of_domain"), **changes):
    files = {"in_domain": "train", "val": "dev", "test": "test", "out_of_domain": "pool"}
    given = {part: str(folder / f"{files[part]}.txt") for part in parts}
    settings = {"tokenizer": str(folder / kind), "cache_dir": str(folder / "cache"), "num_proc": 1}
    return TokenClassificationData(**given | settings | changes)


def tagger(folder, kind="bert", **changes):
    return TokenClassifier(str(folder / kind), **changes)


def configured(folder, kind="bert", parts=("in_domain", "val", "test", "out_of_domain"), **changes):
    """A tagger in evaluation mode, and its data."""
    module = data(folder, kind, parts, **changes)
    model = tagger(folder, kind)
    torch.manual_seed(1)
    module.configure(model)
    model.configure_model()
    return model.eval(), module

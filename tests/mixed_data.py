"""Data modules of a few numbers: in-domain examples, and a pool to draw from."""

from torch.utils.data import Dataset

from gradual.data.module import MixedDomainDataModule

IN_DOMAIN, POOL = list(range(10)), list(range(100, 150))
SCHEDULE = [20, 10, 5, 0]


class Named(Dataset):
    """A dataset that knows its examples' ids."""

    def __init__(self, ids, values=None):
        self.ids = list(ids)
        self.values = list(values or ids)

    def __len__(self):
        return len(self.values)

    def __getitem__(self, index):
        return self.values[index]


def same(batch):
    return batch


def module(in_domain=IN_DOMAIN, pool=POOL, val=None, test=None, **settings):
    return MixedDomainDataModule(in_domain, pool, val, test, **{"schedule": SCHEDULE, "collate_fn": same, **settings})


def mixed(data):
    """All examples of an epoch of the current stage."""
    return sorted(example for batch in data.train_dataloader() for example in batch)

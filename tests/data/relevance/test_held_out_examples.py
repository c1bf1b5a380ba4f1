"""Nothing of validation and test data is in an order."""

import pytest
from relevance_data import POOL, TARGET, Texts, module, order_of
from torch.utils.data import Dataset

from gradual import MixedDomainDataModule


class Raising(Dataset):
    """Examples that nobody may read."""

    def __init__(self, ids=()):
        if ids:
            self.ids = list(ids)

    def __len__(self):
        return 3

    def __getitem__(self, index):
        raise AssertionError("read an example of validation or test data")


@pytest.mark.parametrize("by", ["ngrams", "classifier"])
def test_validation_and_test_data_are_never_read(by):
    data = MixedDomainDataModule(
        Texts(TARGET), Texts(POOL, "out"), Raising(), Raising(), schedule=[1.0], order=by, text_of=str
    )
    data.setup()
    assert sorted(order_of(data)) == list(range(10))
    assert order_of(data) == order_of(module(by))


@pytest.mark.parametrize("by", ["ngrams", "classifier"])
def test_the_twin_of_a_test_example_is_worth_no_more_than_without_it(by):
    """A text of the pool that is also a test example, and an in-domain one that is held out, count for nothing."""
    test = Texts(["a film not seen", "zebra", "the plot"], "held")
    with_test = MixedDomainDataModule(
        Texts(TARGET), Texts(POOL, "out"), test=test, schedule=[1.0], order=by, text_of=str
    )
    with_test.setup()
    assert order_of(with_test) == order_of(module(by))
    target, pool = Texts([*TARGET, "zebra zebra"], "in"), Texts([*POOL, "zebra"], "out")
    ids = Raising(["in4", "out10", "x"])
    held = MixedDomainDataModule(target, pool, test=ids, schedule=[1.0], order=by, text_of=str)
    held.setup()
    assert order_of(held) == order_of(module(by)), "as if the held-out examples were not there"

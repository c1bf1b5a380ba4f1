"""What `gradual init` proposes: names of sources from their files, settings from the sizes of data and model."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradual.cli.proposal import amounts, propose, rounded
from gradual.cli.source_names import sources_in
from gradual.schedule import Schedule


@pytest.mark.parametrize(
    ("given", "names"),
    [
        (["pool-books.jsonl", "pool-dvd.jsonl", "pool-sci-fi.csv"], ["books", "dvd", "sci-fi"]),
        (["books/train.jsonl", "dvd/train.jsonl"], ["books", "dvd"]),
        (["a/books.jsonl", "b/dvd.jsonl"], ["books", "dvd"]),
        (["pool.jsonl", "pool-more.jsonl"], ["pool", "pool-more"]),
        (["books-*.jsonl", "dvd-*.csv"], ["books", "dvd"]),
        (["books.jsonl", "bookings.jsonl"], ["books", "bookings"]),
        (["sources/books", "sources/dvd"], ["books", "dvd"]),
        (["part-00000-of-00002.jsonl", "part-00001-of-00002.jsonl"], None),
        (["train1.jsonl", "train2.jsonl"], None),
        (["in-domain.jsonl", "dvd.jsonl"], None),
        ([f"{letter}.jsonl" for letter in "abcdefghijk"], None),
        ("pool.jsonl", None),
    ],
)
def test_sources_are_called_what_tells_their_files_apart(given, names):
    assert sources_in(given) == (given if names is None else dict(zip(names, given)))


def test_the_schedule_of_the_paper():
    assert amounts(500, 10_000) == [4000, 2000, 500, 0]


@given(in_domain=st.integers(1, 10**6), pool=st.integers(1, 10**8), parameters=st.integers(1, 10**10))
def test_any_sizes_give_settings_that_are_accepted(in_domain, pool, parameters):
    proposal = propose(in_domain, pool, parameters)
    found = proposal.schedule
    assert Schedule(found).amounts(pool) == found
    assert found[-1] == 0
    assert sorted(set(found), reverse=True) == found
    assert found[0] <= 8 * in_domain
    assert found[0] == pool or found[0] > 0.9 * 8 * in_domain * (in_domain > 1)  # rounded down to two digits
    assert 3 <= proposal.patience <= proposal.in_domain_patience <= 20
    assert 8 <= proposal.batch_size <= 32
    assert 1 <= proposal.warmup <= -(-in_domain // proposal.batch_size)


def test_a_plateau_at_the_beginning_takes_more_patience():
    usual, plateau = (propose(197, 1500, 22_000_000, plateau) for plateau in (False, True))
    assert (usual.patience, usual.in_domain_patience) == (3, 12)
    assert (plateau.patience, plateau.in_domain_patience) == (6, 20)


@given(number=st.floats(0, 1e12))
def test_two_digits_are_kept(number):
    found = rounded(number)
    assert found <= number
    assert int(number) < 100 or number - found < number / 10
    assert len(str(found).rstrip("0")) <= 2


def test_larger_models_have_lower_rates_and_very_large_ones_an_adapter():
    sizes = (20e6, 110e6, 340e6, 700e6)
    rates = [propose(5000, 10_000, int(size)).lr for size in sizes]
    assert rates == sorted(rates, reverse=True)
    assert rates[0] > rates[1] > rates[-1]
    assert not any(propose(5000, 10_000, int(size)).lora for size in sizes)
    large = propose(5000, 10_000, 7_000_000_000)
    assert large.lora
    assert large.lr > rates[0]  # an adapter takes higher ones

"""The pool of a dialogue experiment: which dialogues it holds, in which order, and of which slots they tell."""

import pytest
from dialogue_files import SLOTS, write_dialogues
from hotel_dialogues import DEV, FILES, IN, OUT, TEST, dialogue, ids, ids_in, labels_of, written_labels

from gradual.errors import InputError
from gradual.tasks.dialogue import DialogueDataModule


@pytest.mark.parametrize("pool", ["train2", "train9", "train10"])
def test_the_pool_is_what_a_file_holds_beyond_the_training_file(make, pool):
    expected = [id_ for id_ in ids(FILES[pool]) if id_.startswith("OUT")]
    data = make(pool=f"{pool}.tsv")
    assert data.domains.out_of_domain.ids == expected
    assert data.pool_size == len(expected)


def test_the_pool_can_have_named_sources(make):
    """Each is what its file holds beyond the training file, and has its own shared slots."""
    data = make(pool={"some": "train2.tsv", "bus": {"files": "train10.tsv"}}, out_of_domain_slots="shared")
    data.schedule = [{"some": 2, "bus": 4}, {"bus": 3}, 0]
    data.setup()
    assert data.sources == ("bus", "some")
    assert data.source_sizes == {"bus": 5, "some": 2}
    assert data.composition == {"bus": 4, "some": 2}
    bus, some = data.domains.out_of_domain.datasets
    assert some.ids == ["OUT0", "OUT1"]
    assert bus.ids == ["OUT4", "OUT0", "OUT2", "OUT3", "OUT1"]
    shared = {"bus": {"hotel-area", "bus-people"}, "some": {"bus-people"}}
    for source, dialogues in (("bus", OUT), ("some", OUT[:2])):
        expected = written_labels(dialogues, {*SLOTS} - shared[source])
        assert labels_of({"bus": bus, "some": some}[source]) == expected
    first = data.sample_ids()
    assert {id_.partition("/")[0] for id_ in first} == {"bus", "some"}
    data.set_stage(1)
    assert {*data.sample_ids()} < {*first}
    assert data.content_of("out_of_domain.some") != data.content_of("out_of_domain.bus")
    column = data.statistics()["hotel"]
    assert [column[f"dialogues, pool{source}"] for source in ("", ", bus", ", some")] == [7, 5, 2]


@pytest.mark.parametrize(
    ("pool", "said"),
    [
        ({}, "The pool has no sources"),
        ({"some": "train.tsv"}, r"train.tsv has no dialogues that are not in train\.tsv"),
        ({"some": "none.tsv"}, "none.tsv"),
        ({"some": ["train2.tsv", "train9.tsv"]}, r"out_of_domain\.some is .*a path"),
        ({"some": {"files": "train2.tsv", "weight": 1}, "bus": "train10.tsv"}, "'bus' has no weight"),
    ],
)
def test_sources_that_cannot_be_used_are_refused(make, pool, said):
    with pytest.raises(InputError, match=said):
        make(pool=pool).setup()


def test_the_pool_file_is_the_one_with_the_highest_number(make, folder):
    """By number, not by the alphabet; other files that begin alike are none."""
    for name in ("train-notes", "train99b", "trainer100"):
        (folder / f"{name}.tsv").write_text("no dialogues at all")
    assert make().domains.out_of_domain.ids == [id_ for id_ in ids(FILES["train10"]) if id_.startswith("OUT")]


def test_without_a_mixed_file_there_is_no_pool(make, folder):
    for number in (2, 9, 10):
        (folder / f"train{number}.tsv").unlink()
    data = make(batch_size=3)
    assert data.domains.out_of_domain is None
    assert data.pool_size == 0
    assert [sorted(batch) for batch in ids_in(data.train_dataloader())] == [ids(IN)]
    with pytest.raises(InputError, match="pool holds 0"):
        data.schedule = [1, 0]


def test_a_pool_file_that_adds_nothing_is_no_pool(make):
    assert make(pool="train.tsv").domains.out_of_domain is None


def test_a_bad_pool_file_is_an_input_error(make, folder):
    with pytest.raises(InputError) as missing:
        make(pool="train4000.tsv").setup()
    assert str(missing.value).startswith(f"{folder / 'train4000.tsv'}: ")
    write_dialogues(folder / "train11.tsv", [*IN, dialogue("OUT9", hotel_area="nowhere")])
    with pytest.raises(InputError) as bad:
        make().setup()
    turns = sum(len(turns) for _, turns in IN) + 2
    assert str(bad.value).startswith(f"{folder / 'train11.tsv'}:{1 + turns}: slot 'hotel-area'")


@pytest.mark.parametrize(
    ("slots", "missing"),
    [
        ("all", []),
        # both kinds fill bus-people and hotel-area; bus-day is the pool's alone and hotel-name the target's
        ("shared", ["bus-day", "hotel-name"]),
        (["hotel-area"], ["bus-day", "bus-people", "hotel-name"]),
        (["bus-*"], ["hotel-area", "hotel-name"]),
        (["*-day", "hotel-name"], ["bus-people", "hotel-area"]),
        (["*"], []),
    ],
    ids=str,
)
def test_labels_of_other_slots_are_missing_in_the_pool_alone(make, slots, missing):
    domains = make(out_of_domain_slots=slots).domains
    assert labels_of(domains.out_of_domain) == written_labels(OUT, missing)
    for part, dialogues in (("in_domain", IN), ("val", DEV), ("test", TEST)):
        assert labels_of(getattr(domains, part)) == written_labels(dialogues)


def test_unknown_slots_of_the_pool_are_an_input_error(make, folder):
    with pytest.raises(
        InputError, match=r"out_of_domain_slots is 'some': it must be all, shared or a list of slots\.$"
    ):
        make(out_of_domain_slots="some")
    with pytest.raises(InputError, match=r"'taxi-\*' matches no slot") as caught:
        make(out_of_domain_slots=["bus-*", "taxi-*"]).setup()
    assert str(folder / "ontology.json") in str(caught.value)


def test_the_pool_can_be_in_an_order_by_relevance(folder, encoder, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    data = DialogueDataModule(str(tmp_path), "hotel", encoder, pool="train10.tsv", order="ngrams")
    data.schedule = [1.0, 2]
    data.setup()
    pool = data.domains.out_of_domain
    whole = pool.token_ids(0, len(pool))
    assert whole.lengths.tolist() == [sum(map(len, pool[at].tokens)) for at in range(len(pool))]
    assert whole.ids.tolist() == [piece for at in range(len(pool)) for turn in pool[at].tokens for piece in turn]
    assert pool.token_ids(1, 3).lists() == whole.lists()[1:3]
    order = data.sample().tolist()
    data.set_stage(1)
    assert data.sample().tolist() == order[:2]

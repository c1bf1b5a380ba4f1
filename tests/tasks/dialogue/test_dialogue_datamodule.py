"""The data of a dialogue experiment: which file gives what, and what the pool's dialogues say of which slots."""

import json
import logging
import shutil

import pytest
from dialogue_files import CANDIDATES, SLOTS, write_dialogues, write_ontology

from gradual.errors import InputError
from gradual.nn.encoder import load_tokenizer
from gradual.tasks.dialogue import DialogueDataModule
from gradual.tasks.dialogue.demo import write_demo_data
from gradual.tasks.dialogue.features import MISSING

HOTEL = {"hotel-area": "north", "hotel-name": "worth house"}


def dialogue(id_, turns=2, **state):
    """A dialogue whose last turn fills the slots of `state` (`_` for `-`)."""
    filled = {slot.replace("_", "-"): value for slot, value in state.items()}
    empty = [("i need a bed", "" if turn == 0 else "which day?", {}) for turn in range(turns - 1)]
    return id_, [*empty, ("that is all", "" if turns == 1 else "anything else?", filled)]


IN = [
    dialogue("IN0", hotel_area="north", bus_people="2"),
    dialogue("IN1", 1),
    dialogue("IN2", 3, hotel_name="dontcare"),
]
OUT = [
    dialogue("OUT0", bus_day="monday"),
    dialogue("OUT1", 4, bus_people="1"),
    dialogue("OUT2", 1, hotel_area="south"),
    dialogue("OUT3", 2),
    dialogue("OUT4", 2, bus_day="dontcare"),
]
DEV = [dialogue("DEV0", 1), dialogue("DEV1", 3), dialogue("DEV2", 2)]
TEST = [dialogue("TEST0", 2), dialogue("TEST1", 2)]
FILES = {
    "train": IN,
    "train2": [OUT[0], *IN, OUT[1]],
    "train9": [*IN, *OUT[:3]],
    "train10": [OUT[4], IN[1], OUT[0], OUT[2], IN[0], OUT[3], OUT[1], IN[2]],
    "dev": DEV,
    "test": TEST,
}


@pytest.fixture(scope="session")
def encoder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo")
    write_demo_data(folder, train=2, dev=1, test=1, out_of_domain=2)
    return str(folder / "encoder")


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "domains" / "hotel"
    folder.mkdir(parents=True)
    write_ontology(folder / "ontology.json")
    for name, dialogues in FILES.items():
        write_dialogues(folder / f"{name}.tsv", dialogues)
    return folder


@pytest.fixture
def make(folder, encoder):
    """Makes a data module of the files; arguments as given."""

    def make(**arguments):
        root = folder.parents[1]
        return DialogueDataModule(**{"root": str(root), "domain": "hotel", "tokenizer": encoder, **arguments})

    return make


def ids(dialogues):
    return [id_ for id_, _ in dialogues]


def ids_in(loader):
    """Ids of the dialogues of each batch."""
    return [batch.ids for batch in loader]


def labels_of(dataset):
    """Labels by dialogue id, as text or None, turn by turn and slot by slot."""
    return {
        example.id: [
            {slot: None if label == MISSING else CANDIDATES[slot][label] for slot, label in zip(SLOTS, turn)}
            for turn in example.labels.tolist()
        ]
        for example in (dataset[index] for index in range(len(dataset)))
    }


def written_labels(dialogues, missing=()):
    def value(slot, state):
        return None if slot in missing else {"dontcare": "do not care"}.get(state.get(slot), state.get(slot, "none"))

    return {id_: [{slot: value(slot, state) for slot in SLOTS} for *_, state in turns] for id_, turns in dialogues}


# --------------------------------------------------------------------------------------------------- files and pools


def test_each_file_has_its_part(make):
    data = make()
    domains = data.domains
    assert domains.in_domain.ids == ids(IN)
    assert domains.val.ids == ids(DEV)
    assert domains.test.ids == ids(TEST)
    assert [data.ontology.slots[index] for index in data.target_slots] == ["hotel-area", "hotel-name"]
    for part, dialogues in (("in_domain", IN), ("out_of_domain", OUT), ("val", DEV), ("test", TEST)):
        assert labels_of(getattr(domains, part)) == written_labels(dialogues)


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


@pytest.mark.parametrize("name", ["ontology.json", "train.tsv", "dev.tsv", "test.tsv"])
def test_a_missing_file_is_an_input_error(make, folder, name):
    (folder / name).unlink()
    with pytest.raises(InputError) as caught:
        make().setup()
    assert str(caught.value).startswith(f"{folder / name}: ")


def test_an_unknown_domain_is_answered_with_those_there_are(make, folder):
    (folder.parent / "bus").mkdir()
    with pytest.raises(
        InputError, match=r"hotels is not a folder of dialogue files; the domains there are bus, hotel\.$"
    ):
        make(domain="hotels").setup()


def test_a_root_without_domains_is_answered_with_how_to_get_some(make, tmp_path):
    for root in (tmp_path / "nowhere", tmp_path / "domains"):
        with pytest.raises(InputError, match="gradual download multiwoz"):
            make(root=str(root)).setup()


def test_a_domain_without_slots_is_an_input_error(make, folder):
    folder.rename(folder.parent / "taxi")
    with pytest.raises(InputError, match=r"the domain 'taxi' has no slots; it must be bus or hotel\.$"):
        make(domain="taxi").setup()


def test_a_missing_tokenizer_is_an_input_error(make, tmp_path):
    with pytest.raises(InputError, match="cannot be loaded as a tokenizer"):
        make(tokenizer=str(tmp_path / "nowhere")).setup()


# -------------------------------------------------------------------------------------- slots of the pool's dialogues


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


# ----------------------------------------------------------------------------------------------------------- loaders


def test_a_stage_mixes_all_in_domain_dialogues_with_its_sample(make):
    data = make(batch_size=3)
    data.schedule = [5, 2, 0]
    for stage, amount in enumerate((5, 2, 0)):
        data.set_stage(stage)
        batches = ids_in(data.train_dataloader())
        assert [len(batch) for batch in batches][:-1] == [3] * (len(batches) - 1)
        seen = [id_ for batch in batches for id_ in batch]
        assert sorted(seen) == sorted(ids(IN) + data.sample_ids())
        assert len(data.sample_ids()) == amount
        assert set(data.sample_ids()) <= set(ids(OUT))


def test_evaluation_batches_follow_the_file(make):
    data = make(eval_batch_size=2)
    assert [sorted(batch) for batch in ids_in(data.val_dataloader())] == [["DEV0", "DEV1"], ["DEV2"]]
    assert ids_in(data.test_dataloader()) == [["TEST0", "TEST1"]]


def test_predictions_are_of_their_file_or_else_of_the_test_file(make, tmp_path):
    assert ids_in(make().predict_dataloader()) == [ids(TEST)]
    write_dialogues(tmp_path / "new.tsv", [dialogue("NEW0", 3), dialogue("NEW1", 2), dialogue("IN0", 1)])
    data = make(predict_file=str(tmp_path / "new.tsv"))
    assert ids_in(data.predict_dataloader()) == [["NEW0", "NEW1", "IN0"]]
    assert ids_in(data.test_dataloader()) == [ids(TEST)]
    assert data.in_domain_size == 3, "what is only predicted is not held out"
    with pytest.raises(InputError, match=r"absent\.tsv: "):
        make(predict_file=str(tmp_path / "absent.tsv")).setup()


def test_files_are_tokenized_once(make, monkeypatch):
    """However many stages, fits and tests follow; the training dialogues in the pool's file are not taken twice."""
    tokenized = []

    class Counting:
        def __init__(self, name, **arguments):
            self._tokenizer = load_tokenizer(name, **arguments)

        def __call__(self, texts, *others, **arguments):
            tokenized.extend(texts)
            return self._tokenizer(texts, *others, **arguments)

        def __getattr__(self, name):
            return getattr(self._tokenizer, name)

    monkeypatch.setattr("gradual.tasks.dialogue.datamodule.load_tokenizer", Counting)
    data = make()
    assert not tokenized, "nothing is read before it is needed"
    for stage in ("fit", "validate", "test", None):
        data.setup(stage)
    data.schedule = [5, 2, 0]
    for stage in (0, 1, 2, 0):
        data.set_stage(stage)
        data.setup("fit")
        list(data.train_dataloader())
        list(data.train_dataloader())
        list(data.val_dataloader())
    data.setup("test")
    list(data.test_dataloader())
    list(data.predict_dataloader())
    assert sorted(tokenized) == sorted(user for part in (IN, OUT, DEV, TEST) for _, turns in part for user, *_ in turns)


def test_long_turns_and_dialogues_to_train_on_are_cut_and_that_is_logged(make, folder, caplog):
    long = ("LONG", [("bed " * 50, "", {}), ("bed " * 50, "day " * 50, {}), ("i need a bed", "day?", {})])
    write_dialogues(folder / "dev.tsv", [*DEV, long])
    with caplog.at_level(logging.INFO, "gradual"):
        data = make(max_length=20, max_turns=2)
        data.setup()
    messages = [record.getMessage() for record in caplog.records]
    assert "2 turns are longer than 20 word pieces and were truncated." in messages
    assert sum("cut to" in message for message in messages) == 2
    cut = {"train": 1, "train10": 2}  # IN2; IN2 and OUT1
    for name, count in cut.items():
        expected = f"{folder / name}.tsv is fine but odd: {count} dialogues cut to 2 turns."
        assert messages.count(expected) == 1
    domains = data.domains
    for dataset in (domains.in_domain, domains.out_of_domain):
        for example in (dataset[index] for index in range(len(dataset))):
            assert 1 <= len(example.tokens) <= 2
            assert max(map(len, example.tokens)) <= 20
    whole = [len(turns) for _, turns in (*DEV, long)]
    assert [len(domains.val[index].tokens) for index in range(len(domains.val))] == whole
    assert list(map(len, domains.val[3].tokens))[:2] == [20, 20]


def test_ordinary_files_are_not_worth_a_line(make, caplog):
    with caplog.at_level(logging.INFO, "gradual"):
        make().setup()
    assert caplog.records == []


@pytest.mark.parametrize(
    "arguments", [{"max_length": 2}, {"max_turns": 0}, {"batch_size": 0}, {"eval_batch_size": 0}], ids=str
)
def test_sizes_that_leave_nothing_are_an_input_error(make, arguments):
    """A turn of two word pieces has no room for its words, and a dialogue of no turns none for anything."""
    (name,) = arguments
    with pytest.raises(InputError, match=name):
        make(**arguments).setup()


def test_more_word_pieces_than_the_encoder_takes_are_an_input_error(make):
    make(max_length=64).setup()
    with pytest.raises(InputError, match="max_length is 65"):
        make(max_length=65).setup()


def test_a_tokenizer_without_a_padding_token_is_an_input_error(make, encoder, tmp_path):
    shutil.copytree(encoder, tmp_path / "encoder")
    config = tmp_path / "encoder" / "tokenizer_config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "pad_token": None}))
    with pytest.raises(InputError, match="no padding token"):
        make(tokenizer=str(tmp_path / "encoder")).setup()


# ------------------------------------------------------------------------------------------------------- statistics


def test_a_folder_that_is_no_domain_is_no_column_of_the_statistics(make, folder):
    for name in ("bus", "hotel-before-cleaning"):
        shutil.copytree(folder, folder.with_name(name))
    assert list(make().statistics()) == ["bus", "hotel"]


# ----------------------------------------------------------------------------------------------- held-out dialogues


def test_validation_and_test_examples_are_never_trained_on(make, folder, caplog):
    first, *others = FILES["train10"]
    write_dialogues(folder / "train10.tsv", [DEV[1], first, TEST[0], *others, DEV[2]])
    write_dialogues(folder / "test.tsv", [*TEST, IN[1]])
    data = make(batch_size=2)
    with caplog.at_level(logging.WARNING, "gradual"):
        data.setup("fit")
        data.schedule = [1.0, 3, 0]
        for stage, amount in enumerate((5, 3, 0)):
            data.set_stage(stage)
            data.setup("fit")
            seen = [id_ for batch in ids_in(data.train_dataloader()) for id_ in batch]
            assert sorted(seen) == sorted(["IN0", "IN2", *data.sample_ids()])
            assert len(data.sample_ids()) == amount
            assert set(data.sample_ids()) <= set(ids(OUT))
        data.setup("test")
    assert data.pool_size == 5
    assert data.in_domain_size == 2
    assert len(data.domains.val) == 3
    assert len(data.domains.test) == 3
    (message,) = [record.getMessage() for record in caplog.records if "Left out of training" in record.getMessage()]
    assert "1 in-domain and 3 out-of-domain examples" in message


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

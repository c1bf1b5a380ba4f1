"""The data of a dialogue experiment: which file gives what, what is cut, in which batches."""

import json
import logging
import shutil

import pytest
from dialogue_files import write_dialogues
from hotel_dialogues import DEV, FILES, IN, OUT, TEST, dialogue, ids, ids_in, labels_of, written_labels

from gradual.errors import InputError
from gradual.nn.encoder import load_tokenizer


def test_each_file_has_its_part(make):
    data = make()
    domains = data.domains
    assert domains.in_domain.ids == ids(IN)
    assert domains.val.ids == ids(DEV)
    assert domains.test.ids == ids(TEST)
    assert [data.ontology.slots[index] for index in data.target_slots] == ["hotel-area", "hotel-name"]
    for part, dialogues in (("in_domain", IN), ("out_of_domain", OUT), ("val", DEV), ("test", TEST)):
        assert labels_of(getattr(domains, part)) == written_labels(dialogues)


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


def test_a_folder_that_is_no_domain_is_no_column_of_the_statistics(make, folder):
    for name in ("bus", "hotel-before-cleaning"):
        shutil.copytree(folder, folder.with_name(name))
    assert list(make().statistics()) == ["bus", "hotel"]


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

"""How examples are made of files, and ordered, is part of what a run is made of; where the files lie is not."""

import copy
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from dialogue_files import SLOTS, write_dialogues, write_ontology
from events_examples import write_encoder
from events_files import document, sentence, write_documents
from identified_runs import PARTS, Net, fit, refusal
from language_files import tokenizer_of
from linear_model import Examples
from row_files import write
from tiny_models import write_model
from torch import nn

from gradual import FileDataModule, MixedDomainDataModule
from gradual.runs.fingerprint import data_fingerprint
from gradual.runs.identity import changed
from gradual.tasks import CausalLMData, Seq2SeqData, TextClassificationData, TokenClassificationData
from gradual.tasks.dialogue import DialogueDataModule
from gradual.tasks.events import EventDataModule
from gradual.tasks.events.batch import Pruning

WORDS = ["good", "bad", "food", "room", "the", "was", "one", "two"]
FILES = ("in_domain", "out_of_domain", "val", "test")


def fingerprint(datamodule: MixedDomainDataModule) -> dict:
    datamodule.setup()
    return json.loads(json.dumps(data_fingerprint(datamodule)))


def differences(before: MixedDomainDataModule | dict, now: MixedDomainDataModule) -> list[str]:
    """What makes data another experiment's."""
    old = before if isinstance(before, dict) else fingerprint(before)
    return changed({"settings": {}, "data": old}, {"settings": {}, "data": fingerprint(now)})


def row(number: int) -> dict:
    """A row with the columns of every task, of nine words."""
    words = [WORDS[(number * place + place) % 8] for place in range(9)]
    text, other = " ".join(words), " ".join(words[::-1])
    return {
        **{"text": text, "other": other, "source": text, "target": other, "prompt": text, "completion": other},
        **{"x": number / 9, "y": number % 2, "z": number // 2 % 2, "label": number % 3 % 2, "marks": number % 2},
        **{"tokens": words, "tags": ["B-X", *["O"] * 8], "other_tags": ["O", "B-X", *["O"] * 7]},
    }


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Files for every task, with the folders of their tokenizers."""
    folder = tmp_path_factory.mktemp("files")
    for start, part in enumerate(FILES):
        write(folder / f"{part}.jsonl", [row(number) for number in range(start, start + 8)])
    write_model(folder / "bert", "bert", WORDS)
    tokenizer_of("llama").save_pretrained(folder / "llama")
    return folder


@pytest.fixture
def own(folder, tmp_path):
    """A copy of them that a test changes."""
    shutil.copytree(folder, tmp_path / "own")
    return tmp_path / "own"


def rows(folder: Path, kind: type[FileDataModule], **changes) -> FileDataModule:
    given = {part: str(folder / f"{part}.jsonl") for part in FILES}
    given |= {"tokenizer": str(folder / ("llama" if kind is CausalLMData else "bert")), "max_length": 20}
    return kind(**{**given, "cache_dir": str(folder / "cache"), "num_proc": 1, **changes})


def texts(folder: Path, **changes) -> FileDataModule:
    columns = {"columns": ["x"], "text_column": "text", "label_column": "y"}
    return rows(folder, FileDataModule, **{**columns, **changes})


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"max_length": 5}, "data.max_length: 20, now 5"),
        ({"max_length": 11}, "data.max_length: 20, now 11"),  # no text is longer
        ({"text_column": "other"}, "data.text_column: ['text'], now ['other']"),
        ({"label_column": "z"}, "data.label_column: 'y', now 'z'"),
        ({"columns": ["x", "z"]}, "data.columns: ['x'], now ['x', 'z']"),
        ({"length_column": "marks"}, "data.length_column: not set, now 'marks'"),
    ],
)
def test_files_that_are_read_in_another_way_are_other_data(folder, changes, said):
    assert differences(texts(folder), texts(folder, **changes)) == [said]


@pytest.mark.parametrize(
    ("kind", "changes", "said"),
    [
        (TextClassificationData, {"max_length": 5}, "data.max_length: 20, now 5"),
        (TextClassificationData, {"text_column": "other"}, "data.text_column: 'text', now 'other'"),
        (TextClassificationData, {"label_column": "marks"}, "data.label_column: 'label', now 'marks'"),
        (TextClassificationData, {"target": "number"}, "data.target: 'label', now 'number'"),
        (TextClassificationData, {"out_of_domain_labels": "own"}, "data.out_of_domain_labels: 'all', now 'own'"),
        (TokenClassificationData, {"tags_column": "other_tags"}, "data.tags_column: 'tags', now 'other_tags'"),
        (TokenClassificationData, {"spans": False}, "data.spans: True, now False"),
        (TokenClassificationData, {"out_of_domain_labels": "own"}, "data.out_of_domain_labels: 'all', now 'own'"),
        (Seq2SeqData, {"prefix": "the "}, "data.prefix: '', now 'the '"),
        (Seq2SeqData, {"max_target_length": 5}, "data.max_target_length: 64, now 5"),
        (CausalLMData, {"loss_on": "all"}, "data.loss_on: 'answer', now 'all'"),
    ],
)
def test_a_task_s_files_that_are_read_in_another_way_are_other_data(folder, kind, changes, said):
    target = {"target": "label"} if kind is TextClassificationData else {}
    assert differences(rows(folder, kind, **target), rows(folder, kind, **{**target, **changes})) == [said]


def swap_words(folder: Path) -> None:
    """Exchange two words in the vocabulary of a tokenizer."""
    path = folder / "tokenizer.json"
    content = json.loads(path.read_text())
    words = content["model"]["vocab"]
    words["good"], words["bad"] = words["bad"], words["good"]
    path.write_text(json.dumps(content))


@pytest.mark.parametrize("kind", [FileDataModule, TextClassificationData, TokenClassificationData, Seq2SeqData])
def test_a_changed_tokenizer_in_the_same_folder_makes_other_data(own, kind):
    settings = {"text_column": "text"} if kind is FileDataModule else {}
    before = fingerprint(rows(own, kind, **settings))
    swap_words(own / "bert")
    assert differences(before, rows(own, kind, **settings)) == ["data.tokenizer: different content"]


@pytest.mark.parametrize("kind", [FileDataModule, TextClassificationData, CausalLMData])
def test_where_files_lie_and_how_they_are_converted_does_not_matter(folder, own, kind):
    settings = {"text_column": "text"} if kind is FileDataModule else {}
    before = rows(folder, kind, **settings)
    other = {"cache_dir": str(own / "other"), "num_proc": 2, "eval_batch_size": 3, "num_workers": 1, **settings}
    assert differences(before, rows(own, kind, **other)) == []
    write(own / "test.jsonl", [row(number) for number in range(20, 24)])
    assert differences(before, rows(own, kind, **settings)) == [], "other test data is the same experiment"


def test_columns_that_are_found_are_those_that_are_named(folder):
    named = {"text_column": "text", "label_column": "label", "target": "label"}
    assert differences(rows(folder, TextClassificationData), rows(folder, TextClassificationData, **named)) == []


@pytest.mark.parametrize("label", ["aa", "zz"])  # before the others, which are then numbered anew, or after them
def test_a_label_that_test_data_alone_have_is_named(tmp_path, label):
    encoder = write_model(tmp_path / "bert", "bert", WORDS)
    made = []
    for test in (["no", "yes"], ["no", label]):
        labels = {"in": ["no", "yes"], "val": ["yes"], "test": test}
        for name, values in labels.items():
            write(tmp_path / f"{name}.jsonl", [{"text": "good food", "label": value} for value in values])
        files = {"in_domain": "in", "val": "val", "test": "test"}
        files = {part: str(tmp_path / f"{name}.jsonl") for part, name in files.items()}
        module = TextClassificationData(**files, tokenizer=encoder, num_proc=1, cache_dir=str(tmp_path / "cache"))
        made.append(fingerprint(module))
    before, now = ({"settings": {}, "data": each} for each in made)
    assert changed(before, now) == [f"labels: new '{label}'"]
    assert changed(now, before) == [f"labels: gone '{label}'"]


class Scaled(FileDataModule):
    """Files whose numbers are changed as they are loaded, which no setting says."""

    factor = 1.0

    def load(self):
        domains = super().load()
        return replace(domains, in_domain=[{"x": example["x"] * self.factor} for example in domains.in_domain])


def test_examples_that_are_made_of_the_same_files_in_another_way_are_other_data(folder):
    before, now = (rows(folder, Scaled, columns=["x"]) for _ in range(2))
    now.factor = 2.0
    assert differences(before, now) == ["in_domain: different examples from the same files"]
    assert differences(before, rows(folder, Scaled, columns=["x"])) == []


@pytest.mark.parametrize("kind", [FileDataModule, TextClassificationData])
def test_settings_that_an_earlier_version_did_not_record_are_not_compared(folder, kind):
    settings = {"text_column": "text"} if kind is FileDataModule else {}
    earlier = copy.deepcopy(fingerprint(rows(folder, kind, **settings)))
    del earlier["example_settings"]
    for part in FILES:
        earlier[part].pop("sample", None)
    assert differences(earlier, rows(folder, kind, **settings)) == []


@pytest.fixture(scope="module")
def dialogues(small_demo, tmp_path_factory):
    """Makes a data module of two dialogues in each file."""
    folder = tmp_path_factory.mktemp("dialogues") / "domains/hotel"
    folder.mkdir(parents=True)
    write_ontology(folder / "ontology.json")
    for name in ("train", "train9", "dev", "test"):
        turns = [("i need a bed in the north", "", {}), ("yes", "which day?", {SLOTS[0]: "none"})]
        write_dialogues(folder / f"{name}.tsv", [(f"{name}{number}", turns) for number in range(2)])
    given = {"root": str(folder.parents[1]), "domain": "hotel", "tokenizer": str(small_demo / "encoder")}
    return lambda **changes: DialogueDataModule(**{**given, **changes})


@pytest.fixture(scope="module")
def events(tmp_path_factory):
    """Makes a data module of a document in each file."""
    folder = tmp_path_factory.mktemp("events")
    for part in FILES:
        spoken = sentence("rebels shot two men", [(0, 0, "PER")], events=[(1, "Attack", [(0, 0, "Attacker")])])
        write_documents(folder / f"{part}.json", [document(part, spoken)])
    encoder = write_encoder(folder / "encoder", ["rebels", "shot", "two", "men"], hidden_size=16, intermediate_size=16)
    files = {part: str(folder / f"{part}.json") for part in FILES}
    return lambda **changes: EventDataModule(**{**files, "tokenizer": encoder, **changes})


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"max_length": 5}, "data.max_length: 64, now 5"),
        ({"max_turns": 1}, "data.max_turns: 22, now 1"),
        ({"domain": "hotel", "out_of_domain_slots": "shared"}, "data.out_of_domain_slots: 'all', now 'shared'"),
        ({"num_workers": 1, "eval_batch_size": 3}, None),
    ],
)
def test_dialogues_that_are_read_in_another_way_are_other_data(dialogues, changes, said):
    assert differences(dialogues(), dialogues(**changes)) == ([] if said is None else [said])


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"max_length": 8}, "data.max_length: 64, now 8"),
        ({"max_span_width": 2}, "data.max_span_width: 8, now 2"),
        ({"out_of_domain_labels": "own"}, "data.out_of_domain_labels: 'all', now 'own'"),
        ({"pruning": Pruning(triggers=0.5)}, "data.pruning.triggers: 0.3, now 0.5"),
        ({"pruning": Pruning(), "max_length": 64, "num_workers": 1, "eval_batch_size": 3}, None),
    ],
)
def test_documents_that_are_read_in_another_way_are_other_data(events, changes, said):
    assert differences(events(max_length=64), events(**{"max_length": 64, **changes})) == (
        [] if said is None else [said]
    )


class Numbers(Net):
    """Predicts a number of a row from another."""

    def __init__(self, label: str):
        super().__init__()
        self.encoder = nn.Linear(1, 4)
        self._label = label

    def _loss(self, batch):
        target = batch[self._label].float().unsqueeze(1)
        return nn.functional.mse_loss(self(batch["x"].float().unsqueeze(1)), target)

    def validation_step(self, batch, batch_idx):
        self.log("val/loss", self._loss(batch), batch_size=len(batch["x"]))


def test_a_run_in_python_on_files_with_another_label_is_refused(folder, tmp_path):
    def read(label: str) -> FileDataModule:
        return rows(folder, FileDataModule, columns=["x"], label_column=label, test=None, batch_size=4)

    _, first = fit(tmp_path, Numbers("y"), schedule=[4, 0], data=read("y"))
    assert refusal(tmp_path, Numbers("z"), schedule=[4, 0], data=read("z")) == "data.label_column: 'y', now 'z'"
    model, again = fit(tmp_path, Numbers("y"), schedule=[4, 0], data=read("y"))
    assert (model.trained, again.final) == ([], first.final)


# ------------------------------------------------------------------------------------------------------- order


BY_SCORE = {"by": "column", "column": "score"}


def scored(change: Callable[[np.ndarray], object]) -> MixedDomainDataModule:
    """The data of ``identified_runs``, whose pool is ordered by scores of its own, which are changed."""
    parts = {name: Examples(*part) for name, part in PARTS.items()}
    parts["out_of_domain"].score = np.arange(40.0)
    change(parts["out_of_domain"].score)
    return MixedDomainDataModule(**parts, order=BY_SCORE, batch_size=4)


def test_a_pool_in_memory_that_is_ordered_by_other_scores_is_refused(tmp_path):
    _, first = fit(tmp_path, data=scored(lambda score: None))
    sample = (tmp_path / "run/seed-0/20/sample.txt").read_text()
    assert set(sample.split()) == {f"out{number}" for number in range(20, 40)}
    for change in (lambda score: np.negative(score, out=score), lambda score: score.put(7, 100.0)):
        assert refusal(tmp_path, data=scored(change)) == "data.order: different values of 'score'"
    model, again = fit(tmp_path, data=scored(lambda score: None))
    assert (model.trained, again.final) == ([], first.final)


class Numbered(list):
    """A large dataset with scores."""

    def __init__(self, size: int):
        super().__init__(range(size))
        self.score = np.arange(size, dtype=np.float32)


def test_one_score_of_a_large_pool_is_noticed():
    def large(change: int) -> MixedDomainDataModule:
        pool = Numbered(250_000)
        pool.score[change] = -1.0
        return MixedDomainDataModule(Examples("in", 4, 1.0, 1), pool, Examples("val", 4, 1.0, 2), order=BY_SCORE)

    before = large(123_456)
    assert differences(before, large(123_456)) == []
    assert differences(before, large(123_457)) == ["data.order: different values of 'score'"]

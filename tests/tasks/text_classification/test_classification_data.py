"""Texts with labels in files: what is predicted follows from the labels, and some cannot be used."""

import math

import pyarrow as pa
import pyarrow.parquet as parquet
import pytest
from classification_files import WORDS, data, write
from pair_files import write_model as write_pair_model
from tokenizers.processors import TemplateProcessing
from transformers import AutoTokenizer

from gradual.errors import InputError
from gradual.tasks import TextClassificationData, TextClassifier


def test_what_is_predicted_follows_from_the_labels(tmp_path, encoders):
    kinds = {
        "label": ["b", "a", "b"],
        "labels": [["b"], [], ["a", "b"]],
        "number": [0.5, 2, 1],
    }
    for target, values in kinds.items():
        examples = [{"sentence": "good food", "label": value} for value in values]
        path = write(tmp_path, target, examples)
        datamodule = TextClassificationData(path, tokenizer=encoders["bert"], cache_dir=str(tmp_path / "cache"))
        datamodule.setup()
        spec = datamodule.spec()
        assert (spec.target, spec.labels) == (target, () if target == "number" else ("a", "b"))
        batch = datamodule.collate_fn(datamodule.domains.in_domain.__getitems__([0, 1, 2]))
        wanted = {
            "label": [[False, True], [True, False], [False, True]],
            "labels": [[False, True], [False, False], [True, True]],
            "number": [0.5, 2.0, 1.0],
        }[target]
        assert batch.gold.tolist() == wanted
        assert batch.ids == ["0", "1", "2"]


def test_integers_are_labels_in_their_order_unless_they_are_to_be_numbers(tmp_path, encoders):
    path = write(tmp_path, "stars", [{"text": "good", "label": stars} for stars in (10, 2, 1)])
    files = {"in_domain": path, "tokenizer": encoders["bert"], "cache_dir": str(tmp_path / "cache")}
    datamodule = TextClassificationData(**files)
    datamodule.setup()
    assert datamodule.spec().labels == ("1", "2", "10")
    datamodule = TextClassificationData(**files, target="number")
    datamodule.setup()
    assert datamodule.domains.in_domain[0]["label"] == 10


@pytest.mark.parametrize(
    ("values", "settings", "said"),
    [
        ([{"a": 1}, {"a": 2}], {}, "holds objects: it must hold text or integers"),
        (["a", "b"], {"target": "number"}, "holds text: .* The target is number"),
        (["a", "a"], {}, "Every example has the label 'a'"),
        ([[], []], {}, "holds no labels"),
        ([["a", None], []], {}, r"x\.jsonl:1: one of its labels is null"),
        (["a", None], {}, r"x\.jsonl:2: 'label' has no value"),
        (["a", "b"], {"label_column": "stars"}, "has no column 'stars'"),
        (["a", "b"], {"text_column": "label", "label_column": "id"}, "has no column 'id'"),
        ([0.5, 1e30], {}, r"x\.jsonl:2: its label is 1e\+30: it must be a number from -1e15 to 1e15"),
        ([1, 2.5], {"target": "label"}, r"x\.jsonl:2: 'label' is 2.5, but labels must be text or whole numbers"),
        (
            [1.0, 2.0],
            {},
            r"x\.jsonl: 'label' holds whole numbers, but written as 1\.0: set target to label if they are",
        ),
    ],
)
def test_labels_that_cannot_be_used(tmp_path, encoders, values, settings, said):
    path = write(tmp_path, "x", [{"text": "good", "label": value} for value in values])
    datamodule = TextClassificationData(path, tokenizer=encoders["bert"], cache_dir=str(tmp_path / "cache"), **settings)
    with pytest.raises(InputError, match=said):
        datamodule.setup()


def test_a_label_that_is_no_number_is_refused(tmp_path, encoders):
    """In Parquet, NaN is a value; such a loss would never be finite."""
    path = tmp_path / "x.parquet"
    parquet.write_table(pa.table({"text": ["good", "bad", "fine"], "label": [1.0, math.nan, 2.5]}), path)
    datamodule = TextClassificationData(str(path), tokenizer=encoders["bert"], cache_dir=str(tmp_path / "cache"))
    with pytest.raises(InputError, match=r"x\.parquet, row 2: its label is nan: it must be a number"):
        datamodule.setup()


def whole_numbers(folder, encoder, point_in, **settings):
    """A data module of texts whose labels are 0 and 1, written as 0.0 and 1.0 in one part."""
    files = {}
    for part in ("in_domain", "out_of_domain", "val"):
        kind = float if part == point_in else int
        examples = [{"text": WORDS[number], "label": kind(number % 2)} for number in range(4)]
        files[part] = write(folder, part, examples)
    return TextClassificationData(**files, tokenizer=encoder, cache_dir=str(folder / "cache"), **settings)


@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_true_and_false_are_labels(tmp_path, encoders, kind):
    values = [True, False, False, True]
    path = write(tmp_path, "x", [{"text": "good", "label": value} for value in values])
    if kind == "parquet":
        path = str(tmp_path / "x.parquet")
        parquet.write_table(pa.table({"text": ["good"] * 4, "label": values}), path)
    datamodule = TextClassificationData(path, tokenizer=encoders["bert"], cache_dir=str(tmp_path / "cache"))
    datamodule.setup()
    assert datamodule.spec().labels == ("False", "True")
    assert gold(datamodule, datamodule.domains.in_domain) == [
        [False, True],
        [True, False],
        [True, False],
        [False, True],
    ]


def gold(datamodule, dataset):
    """The labels of a batch of the first four examples."""
    return datamodule.collate_fn(dataset.__getitems__([0, 1, 2, 3])).gold.tolist()


@pytest.mark.parametrize("part", ["in_domain", "out_of_domain", "val"])
def test_whole_numbers_with_a_point_may_be_labels_or_numbers(tmp_path, encoders, caplog, part):
    with pytest.raises(InputError, match=rf"{part}\.jsonl: 'label' holds whole numbers, .* \(as 1 in .*set target to"):
        whole_numbers(tmp_path, encoders["bert"], part).setup()
    with caplog.at_level("INFO", "gradual"):
        labels = whole_numbers(tmp_path, encoders["bert"], part, target="label", out_of_domain_labels="own")
        labels.setup()
        assert labels.spec().labels == ("0", "1")
        assert labels.spec().allowed == ((True, True), (True, True))
        for dataset in (labels.domains.in_domain, labels.domains.out_of_domain, labels.domains.val):
            assert gold(labels, dataset) == [[True, False], [False, True]] * 2
        assert "Column 'label': one of 2 labels." in caplog.text
        numbers = whole_numbers(tmp_path, encoders["bert"], part, target="number")
        numbers.setup()
        assert [numbers.domains.val[at]["label"] for at in range(4)] == [0.0, 1.0, 0.0, 1.0]
        assert "Column 'label': a number, from 0 to 1." in caplog.text


def test_the_log_says_that_a_text_may_have_several_labels(tmp_path, encoders, caplog):
    with caplog.at_level("INFO", "gradual"):
        data(tmp_path, encoders["bert"], "labels", labels=("a", "b", "c")).setup()
    assert "Column 'label': any of 2 labels." in caplog.text  # no text has the last one


@pytest.mark.parametrize("family", ["t5", "bart"])
def test_texts_with_the_token_at_which_a_model_is_read_off_are_refused(tmp_path, family):
    """The heads of these models need the same number of them in each text of a batch, and would read off elsewhere."""
    model = str(write_pair_model(tmp_path / family, family))
    tokenizer = AutoTokenizer.from_pretrained(model)
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing("$A </s>", "$A </s> $B </s>", [("</s>", 1)])
    tokenizer.save_pretrained(model)
    good = [{"text": text, "text_pair": "vier", "label": text} for text in ("ein", "zwei plus")]
    settings = {"tokenizer": model, "cache_dir": str(tmp_path / "cache"), "num_proc": 1}
    for columns in ({"text_pair_column": None}, {"text_column": "text_pair", "text_pair_column": "text"}):
        TextClassificationData(write(tmp_path, "good", good), **settings, **columns).setup()
        bad = [*good, {"text": "ein </s> zwei", "text_pair": "vier", "label": "ein"}]
        with pytest.raises(InputError, match=r"bad\.jsonl:3: the text holds '</s>', by which this model finds the end"):
            TextClassificationData(write(tmp_path, "bad", bad), **settings, **columns).setup()
    alone = [{"text": row["text"], "label": row["label"]} for row in bad]
    with pytest.raises(InputError, match=r"alone\.jsonl:3: the text holds '</s>'"):
        TextClassificationData(write(tmp_path, "alone", alone), **settings).setup()


def test_settings_that_cannot_be_meant(encoders):
    with pytest.raises(InputError, match="out_of_domain_labels is 'some': it must be all or own"):
        TextClassificationData("x.jsonl", out_of_domain_labels="some")
    with pytest.raises(InputError, match="target is 'class': it must be label, labels, number or null"):
        TextClassificationData("x.jsonl", target="class")
    with pytest.raises(InputError, match=r"threshold is 1.5: it must be a number between 0 and 1"):
        TextClassifier(encoders["bert"], threshold=1.5)

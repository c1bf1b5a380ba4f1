"""`gradual init`: the task and the columns are found, and the configuration runs as it is."""

import json
import shlex
from pathlib import Path

import pytest
import yaml
from language_files import write_model as write_language_model
from pair_files import write_model as write_pair_model
from tagging_examples import sentences, write_conll
from tiny_models import write_model

from gradual.__main__ import main

WORDS = ["good", "bad", "food", "room", "the", "was"]
PARTS = {"in_domain": 6, "out_of_domain": 30, "val": 5, "test": 7}

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")  # Lightning's advice


def write(folder, rows_of, parts=PARTS):
    """Files of all parts, with the rows that `rows_of` makes for a part and a size."""
    files = {}
    for part, size in parts.items():
        path = folder / f"{part}.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows_of(part, size)))
        files[part] = path.name
    return files


def reviews(part, size, text="text", label="label"):
    for number in range(size):
        yield {
            "id": f"{part}{number}",
            text: f"{WORDS[number % 2]} {WORDS[2 + number % 4]}",
            label: ("yes", "no")[number % 2],
        }


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    return write_model(tmp_path_factory.mktemp("encoder"), "bert", WORDS)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The current folder, with a cache of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("gradual.data.files.default_cache", lambda: tmp_path / "cache")
    return tmp_path


def init(files, pretrained, *more, out="mine.yaml"):
    options = [
        text for part, path in files.items() for text in (f"--{part}", *([path] if isinstance(path, str) else path))
    ]
    main(["init", *options, "--pretrained", pretrained, "--out", out, *more])
    return yaml.safe_load(Path(out).read_text())


def mistake(capsys, *given, **settings):
    with pytest.raises(SystemExit) as ended:
        init(*given, **settings)
    assert ended.value.code == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("gradual:")]
    return line


@pytest.mark.slow
def test_from_files_to_predictions(folder, encoder, capsys):
    files = write(folder, reviews)
    found = init(files, encoder)
    said = capsys.readouterr()
    assert said.out == (
        "mine.yaml: TextClassifier, which predicts one of 2 labels, schedule [30, 15, 3, 0].\n"
        "Next: gradual plan --config mine.yaml\n"
    )
    assert found["model"] == {"class_path": "TextClassifier", "init_args": {"pretrained": encoder}}
    assert found["data"] == {**files, "batch_size": 8}
    assert found["schedule"] == [30, 15, 3, 0]
    assert (found["monitor"], found["run_dir"]) == ("val/macro_f1", "runs/mine")
    assert "mode" not in found
    text = (folder / "mine.yaml").read_text()
    assert "# columns: text 'text', label 'label', id 'id'" in text
    assert "# or val/loss, val/accuracy, val/micro_f1" in text
    for part, size in PARTS.items():
        assert any(
            line.split("#")[1].strip() == f"{size} examples" for line in text.splitlines() if f"{files[part]}" in line
        )
    main(["plan", "--config", "mine.yaml"])
    rows = [line.split() for line in capsys.readouterr().out.splitlines() if line.strip()[:1].isdigit()]
    assert [row[2] for row in rows] == ["30", "15", "3", "0"]
    main(["fit", "--config", "mine.yaml", "--trainer.max_epochs=1"])
    main(["predict", "runs/mine", "--predictions", "found.jsonl"])
    assert len((folder / "found.jsonl").read_text().splitlines()) == 7


@pytest.mark.slow
def test_the_configuration_of_a_comparison(folder, encoder):
    found = init(write(folder, reviews), encoder)
    assert list(found["strategies"]) == ["in-domain only", "mixed", "one-stage", "gradual"]
    main(["compare", "--config", "mine.yaml", "--trainer.max_epochs=1", "--seeds=[0]"])
    content = json.loads((folder / "runs/mine/compare.json").read_text())
    assert content["strategies"]["gradual"]["amounts"] == [30, 15, 3, 0]
    last = content["strategies"]["gradual"]["schedule"][-1]
    assert last["optimizer"] == {"lr_scale": 0.4}
    assert content["metrics"] == ["accuracy", "micro_f1", "macro_f1"]


def test_several_labels_are_watched_by_their_loss(folder, encoder):
    """Their F1 is 0 at first, and patience would end a stage before it has begun to learn."""

    def intents(part, size):
        return ({**row, "label": [row["label"]] * (number % 2)} for number, row in enumerate(reviews(part, size)))

    found = init(write(folder, intents), encoder)
    assert found["monitor"] == "val/loss"


def test_labels_that_the_pool_lacks_are_kept_out_of_its_loss(folder, encoder):
    def reviews_with_doubts(part, size):
        for number, row in enumerate(reviews(part, size)):
            yield row if part == "out_of_domain" or number % 3 else {**row, "label": "perhaps"}

    found = init(write(folder, reviews_with_doubts), encoder)
    assert found["data"]["out_of_domain_labels"] == "own"
    assert "# the pool has no perhaps; all, if its labels cover them" in (folder / "mine.yaml").read_text()


@pytest.mark.parametrize("pretrained", ["encoder", "decoder"])
def test_whole_numbers_with_a_point_are_asked_about(folder, tmp_path_factory, encoder, capsys, pretrained):
    """A language model could be trained on the texts alone, which is not what was meant."""
    if pretrained == "decoder":
        encoder = str(write_language_model(tmp_path_factory.mktemp("gpt2"), "gpt2"))

    def numbered_reviews(part, size):
        kind = float if part == "val" else int
        return ({**row, "label": kind(number % 2)} for number, row in enumerate(reviews(part, size)))

    files = write(folder, numbered_reviews)
    assert "val.jsonl: 'label' holds whole numbers, but written as 1.0 (as 1 in " in mistake(capsys, files, encoder)
    for target, score, words in (("label", "macro_f1", "one of 2 labels"), ("number", "pearson", "a number")):
        out = f"{target}.yaml"
        found = init(files, encoder, "--target", target, out=out)
        assert (found["data"]["target"], found["monitor"]) == (target, f"val/{score}")
        assert f"# predicts {words}\n" in (folder / out).read_text()
        assert f"{out}: TextClassifier, which predicts {words}, schedule" in capsys.readouterr().out
    assert "target is 'class': it must be label, labels, number or null" in mistake(
        capsys, files, encoder, "--target", "class"
    )
    assert "CausalLM has no setting target" in mistake(
        capsys, files, encoder, "--target", "label", "--task", "CausalLM"
    )


def test_unusual_names_of_columns_are_given(folder, encoder, capsys):
    files = write(folder, lambda part, size: reviews(part, size, "text", "sentiment"))
    said = mistake(capsys, files, encoder)
    assert "in_domain.jsonl has the columns id, text, sentiment, which suit no task" in said
    assert "TextClassifier needs label (label, labels);" in said
    assert "CausalLM cannot" in said  # it would take the texts, but the model is no causal one
    assert not (folder / "mine.yaml").exists()
    found = init(files, encoder, "--columns", "label=sentiment")
    assert found["data"] == {**files, "label_column": "sentiment", "batch_size": 8}
    capsys.readouterr()
    said = mistake(capsys, files, encoder, "--task", "TextClassifier", out="other.yaml")
    assert "no column named label or labels" in said
    assert said.endswith("are named with --columns, such as --columns label=sentiment.")
    assert "it must be NAME=COLUMN" in mistake(capsys, files, encoder, "--columns", "sentiment", out="other.yaml")


def test_several_files_of_the_pool_become_its_sources(folder, encoder, capsys):
    files = write(folder, reviews)
    again = [{"id": f"more{number}", "text": "good room", "label": "yes"} for number in range(4)]
    (folder / "more.jsonl").write_text("".join(json.dumps(row) + "\n" for row in again))
    found = init({**files, "out_of_domain": ["out_of_domain.jsonl", "more.jsonl"]}, encoder)
    sources = {"out_of_domain": "out_of_domain.jsonl", "more": "more.jsonl"}
    assert found["data"] == {**files, "out_of_domain": sources, "batch_size": 8}, "the sources together have all labels"
    assert found["schedule"] == [34, 17, 4, 0]
    text = (folder / "mine.yaml").read_text()
    for line, comment in (("  out_of_domain:", "34 examples;"), ("    out_of_domain: out_of_domain.jsonl", "30 exam"),
                          ("    more: more.jsonl", "4 exam"), ("  val: val.jsonl", "5 exam"),
                          ("  test: test.jsonl", "7 exam")):  # fmt: skip
        assert any(found.startswith(line) and f"# {comment}" in found for found in text.splitlines()), line
    capsys.readouterr()
    main(["plan", "--config", "mine.yaml"])
    assert "34 out-of-domain examples (4 more, 30 out_of_domain)" in capsys.readouterr().out


def test_several_files_of_another_part_are_one(folder, encoder):
    files = write(folder, reviews)
    again = [{"id": f"more{number}", "text": "good room", "label": "yes"} for number in range(4)]
    (folder / "more.jsonl").write_text("".join(json.dumps(row) + "\n" for row in again))
    found = init({**files, "in_domain": ["in_domain.jsonl", "more.jsonl"]}, encoder)
    assert found["data"]["in_domain"] == ["in_domain.jsonl", "more.jsonl"]


def test_words_with_tags(folder, encoder):
    parts = {
        part: write_conll(folder / f"{part}.conll", sentences(size, seed))
        for seed, (part, size) in enumerate(PARTS.items())
    }
    found = init(parts, encoder)
    assert found["model"]["class_path"] == "TokenClassifier"
    assert found["monitor"] == "val/f1"


def test_tags_that_no_source_has_are_kept_out_of_the_loss_of_the_pool(folder, encoder):
    """Each source lacks a tag that the other has, and both lack one of the target."""
    tags = {"in_domain": ["N", "V", "X"], "val": ["N"], "test": ["V"], "people": ["N"], "deeds": ["V"]}
    for part, names in tags.items():
        (folder / f"{part}.conll").write_text("".join(f"good {name}\nbad {name}\n\n" for name in names * 4))
    files = {part: f"{part}.conll" for part in ("in_domain", "val", "test")}
    found = init({**files, "out_of_domain": ["people.conll", "deeds.conll"]}, encoder)
    assert found["data"]["out_of_domain"] == {"people": "people.conll", "deeds": "deeds.conll"}
    assert found["data"]["out_of_domain_labels"] == "own"
    assert "# the pool has no X; all, if its labels cover them" in (folder / "mine.yaml").read_text()


def test_texts_alone_are_those_of_a_language_model(folder, tmp_path_factory):
    llama = str(write_language_model(tmp_path_factory.mktemp("llama"), "llama"))
    found = init(write(folder, lambda part, size: ({"text": f"one plus {number}"} for number in range(size))), llama)
    assert found["model"]["class_path"] == "CausalLM"
    assert found["monitor"] == "val/loss"


@pytest.mark.parametrize(
    ("kind", "exempt"),
    [("llama", ["*[Nn]orm*"]), ("gpt2", ["*bias*", "*.ln_*"])],
)
def test_weight_decay_has_exceptions_for_the_weights_that_a_model_has(folder, tmp_path_factory, capsys, kind, exempt):
    """Patterns without a match are refused."""
    model = str(write_language_model(tmp_path_factory.mktemp(kind), kind))
    found = init(write(folder, lambda part, size: ({"text": f"one plus {number}"} for number in range(size))), model)
    assert list(found["optimizer"]["weight_decay_by_name"]) == exempt
    main(["plan", "--config", "mine.yaml"])


def test_an_adapter_has_no_exceptions_from_weight_decay(folder, tmp_path_factory, monkeypatch):
    model = str(write_language_model(tmp_path_factory.mktemp("llama"), "llama"))
    monkeypatch.setattr("gradual.cli.proposal._LARGE", 1)
    found = init(write(folder, lambda part, size: ({"text": f"one plus {number}"} for number in range(size))), model)
    assert found["model"]["init_args"]["lora"]
    assert "weight_decay_by_name" not in found["optimizer"]
    main(["plan", "--config", "mine.yaml"])


def test_sources_with_targets(folder, tmp_path_factory, encoder, capsys):
    t5 = str(write_pair_model(tmp_path_factory.mktemp("t5"), "t5"))
    files = write(folder, lambda part, size: ({"source": f"ein {number}", "target": "one"} for number in range(size)))
    assert init(files, t5)["model"]["class_path"] == "Seq2Seq"
    said = mistake(capsys, files, encoder, out="second.yaml")  # an encoder has no decoder
    assert f"Seq2Seq cannot: '{encoder}' is a model of the type bert" in said


def test_a_task_can_be_named(folder, tmp_path_factory, capsys):
    llama = str(write_language_model(tmp_path_factory.mktemp("llama"), "llama"))
    files = write(folder, reviews)
    assert init(files, llama)["model"]["class_path"] == "TextClassifier"  # more of their columns
    assert init(files, llama, "--task", "CausalLM", out="second.yaml")["model"]["class_path"] == "CausalLM"
    said = mistake(capsys, files, llama, "--task", "TextClasifier", out="third.yaml")
    assert said.endswith("Did you mean 'TextClassifier'?")


def test_columns_of_several_tasks(folder, tmp_path_factory, capsys):
    llama = str(write_language_model(tmp_path_factory.mktemp("llama"), "llama"))
    rows = lambda part, size: ({**row, "prompt": "good", "completion": "food"} for row in reviews(part, size))  # noqa: E731
    init(write(folder, rows), llama)
    assert "mine.yaml: CausalLM (TextClassifier with --task), schedule" in capsys.readouterr().out


def test_an_existing_file_is_kept(folder, encoder, capsys):
    (folder / "mine.yaml").write_text("schedule: [1, 0]\n")
    assert "--out mine.yaml exists: choose another file" in mistake(capsys, write(folder, reviews), encoder)
    assert (folder / "mine.yaml").read_text() == "schedule: [1, 0]\n"


@pytest.mark.slow
def test_a_pool_of_one_example_or_none(folder, encoder, capsys):
    files = write(folder, reviews, {**PARTS, "out_of_domain": 1})
    assert init(files, encoder)["schedule"] == [1, 0]
    main(["plan", "--config", "mine.yaml"])
    capsys.readouterr()
    (folder / "out_of_domain.jsonl").write_text((folder / "val.jsonl").read_text())
    assert "--out_of_domain has no examples that are not among" in mistake(capsys, files, encoder, out="other.yaml")


def test_what_is_wrong_with_the_data_is_said_before_anything_is_written(folder, encoder, capsys):
    files = write(folder, reviews)
    with (folder / "val.jsonl").open("a") as file:
        file.write('{"text": "no label"}\n')
    assert "val.jsonl:6: 'label' has no value" in mistake(capsys, files, encoder)
    said = mistake(capsys, {**files, "val": "missing.jsonl"}, encoder)
    assert "val: missing.jsonl does not exist" in said
    assert "cannot be loaded as a model" in mistake(capsys, write(folder, reviews), str(folder / "nothing"))
    assert not (folder / "mine.yaml").exists()


def test_a_mistake_in_the_name_of_a_file_or_of_the_model_is_all_that_is_said(folder, encoder, capsys):
    files = write(folder, reviews)
    (folder / "empty.jsonl").write_text("")
    for part, name, said in (
        ("val", "missing.jsonl", "gradual: --val: missing.jsonl does not exist."),
        ("out_of_domain", "pol*.jsonl", "gradual: --out_of_domain: pol*.jsonl matches no file."),
        (
            "out_of_domain",
            ["missing-a.jsonl", "val.jsonl"],
            "gradual: --out_of_domain: missing-a.jsonl does not exist.",
        ),
        ("out_of_domain", "empty.jsonl", "gradual: empty.jsonl is empty"),
    ):
        assert mistake(capsys, {**files, part: name}, encoder).startswith(said)
    said = mistake(capsys, files, str(folder / "nothing"))
    assert said.startswith(f"gradual: '{folder / 'nothing'}' cannot be loaded as a model")
    assert "suit no task" not in said


def test_init_proposes_no_setting_that_it_does_not_have(folder, encoder, capsys):
    said = mistake(capsys, write(folder, lambda part, size: reviews(part, size, "review", "sentiment")), encoder)
    assert "suit no task" in said
    assert "--data." not in said
    assert "_column" not in said
    assert "--columns label=sentiment" in said


@pytest.mark.parametrize("out", ["ü x.yaml", "it's.yaml"])
def test_the_next_command_can_be_pasted(folder, encoder, capsys, out):
    init(write(folder, reviews), encoder, out=out)
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("Next: ")]
    assert shlex.split(line)[1:] == ["gradual", "plan", "--config", out]
    commands = [line for line in (folder / out).read_text().splitlines() if line.startswith("#   gradual")]
    assert [shlex.split(line)[4] for line in commands] == [out] * 3

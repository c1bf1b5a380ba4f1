"""`gradual export` for plain `transformers`: loaded where `gradual` cannot be imported, with the same predictions."""

import json
import subprocess
import sys

import pytest
import tagging_examples
import yaml
from language_files import write_model as write_language_model
from pair_files import PAIRS
from pair_files import write_model as write_pair_model
from tiny_models import write_model
from transformers import AutoModelForSequenceClassification, pipeline
from wrong_commands import mistake

import gradual
from gradual.__main__ import main
from gradual.runs.directory import StageDirectory
from gradual.tasks import TextClassificationData, TextClassifier

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")  # Lightning's advice
WORDS = ["good", "bad", "fine", "poor", "food", "room", "the", "was", "and", "not"]
SIZES = {"in_domain": 6, "val": 5, "test": 9}
FAST = ["--trainer.max_epochs=1", "--data.num_proc=1", "--optimizer.lr=1e-2"]

PLAIN = """
import json, sys

class NoGradual:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "gradual":
            raise ImportError("gradual cannot be imported here")

sys.meta_path.insert(0, NoGradual())
from transformers import AutoModelForTokenClassification, AutoTokenizer, pipeline

folder, rows = sys.argv[1], json.loads(sys.stdin.read())
texts, sentences = rows["texts"], rows["sentences"]
found = {name: pipeline("text-classification", f"{folder}/{name}", truncation=True) for name in ("label", "labels")}
found["label"] = found["label"](texts)
found["labels"] = found["labels"](texts, top_k=None)
found["merged"] = pipeline("text-classification", f"{folder}/merged")(texts)
found["numbers"] = pipeline("text-classification", f"{folder}/numbers")(texts)
found["two"] = pipeline("text-classification", f"{folder}/two")(rows["two"])
code = open(f"{folder}/adapter/README.md").read().split("```python\\n")[1].split("```")[0].rpartition("\\n")[0]
names = {}
exec(code.rpartition("print(")[0], names)
found["adapter"] = names["use"](texts)
tag = pipeline("token-classification", f"{folder}/spans", ignore_labels=[], aggregation_strategy="first")
tagged = tag(sentences["spans"], is_split_into_words=True, delimiter=" ")
found["spans"] = [[(part["entity_group"], part["word"]) for part in sentence] for sentence in tagged]
tokenizer = AutoTokenizer.from_pretrained(f"{folder}/tags")
model = AutoModelForTokenClassification.from_pretrained(f"{folder}/tags").eval()
found["tags"] = []
for words in sentences["tags"]:
    encoded = tokenizer(words, is_split_into_words=True, return_tensors="pt")
    best = model(**encoded).logits[0].argmax(-1).tolist()
    first = [encoded.word_ids().index(word) for word in range(len(words))]
    found["tags"].append([model.config.id2label[best[at]] for at in first])
write = pipeline("text-generation", f"{folder}/texts", return_full_text=False)
found["texts"] = [each[0]["generated_text"] for each in write(rows["prompts"], max_new_tokens=4, do_sample=False)]
code = open(f"{folder}/pairs/README.md").read().split("```python\\n")[1].split("```")[0].rpartition("made = ")[0]
names = {}
exec(code, names)
encoded = names["tokenizer"](["translate : " + text for text in rows["sources"]], return_tensors="pt", padding=True)
found["pairs"] = names["tokenizer"].batch_decode(names["model"].generate(**encoded), skip_special_tokens=True)
assert "gradual" not in sys.modules
print(json.dumps(found))
"""


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def texts(count, several=False):
    for number in range(count):
        label = ("neg", "neutral", "pos")[number % 3]
        text = " ".join([WORDS[number % 3], *(WORDS[3 + (number + place) % 7] for place in range(number % 6))])
        yield {"id": f"{count}-{number}", "text": text, "label": ["any", label][: number % 3] if several else label}


def numbers(count):
    return [{**row, "label": len(row["text"].split()) / 4} for row in texts(count)]


def twos(count):
    """Pairs of texts, which say the same or not."""
    rows = list(texts(count))
    for number, row in enumerate(rows):
        other = rows[(number + number % 2) % count]["text"]
        yield {**row, "text_pair": f"{other} indeed", "label": ("same", "other")[number % 2]}


def fit(folder, model, pretrained, run, *more, command="fit", schedule="[0]", **files):
    data = [f"--data.{part}={path}" for part, path in files.items()]
    start = [command, f"--model={model}", f"--model.pretrained={pretrained}", f"--run_dir={folder / run}"]
    main([*start, f"--schedule={schedule}", *data, f"--data.cache_dir={folder / 'cache'}", *FAST, *more])
    return folder / run


def predictions(stage, folder):
    out = folder / "predictions.jsonl"
    main(["predict", str(stage), f"--predictions={out}"])
    return [json.loads(line) for line in out.read_text().splitlines()]


def export(stage, out, *more):
    main(["export", str(stage), "--out", str(out), *more])
    return out


class Trained(dict):
    """The stages to export, by the name of the folder that each is exported to; each is trained when it is needed."""

    def __init__(self, folder):
        super().__init__()
        self.folder = folder

    def __missing__(self, name):
        self[name] = getattr(self, name)()
        return self[name]

    def bert(self):
        return write_model(self.folder / "bert", "bert", WORDS)

    def files(self, several=False):
        """Files of texts with a label, or with several."""
        sizes = SIZES | ({"val": 9} if several else {})
        return {
            part: write(self.folder / f"{part}-{several}.jsonl", texts(size, several)) for part, size in sizes.items()
        }

    def label(self):
        pool = {"out_of_domain": write(self.folder / "pool.jsonl", texts(12))}
        more = ["--strategies=[in-domain only, gradual]", "--seeds=[0, 1]"]
        given = {"command": "compare", "schedule": "[8, 4, 0]", **self.files(), **pool}
        return fit(self.folder, "TextClassifier", self["bert"], "compared", *more, **given) / "seed-1/8/4/0"

    def labels(self):
        files = self.files(several=True)
        files["predict"] = files.pop("test")
        return fit(self.folder, "TextClassifier", self["bert"], "labels", **files)

    def classifier(self, name, make):
        files = {part: write(self.folder / f"{part}-{name}.jsonl", make(size)) for part, size in SIZES.items()}
        return fit(self.folder, "TextClassifier", self["bert"], name, **files)

    def numbers(self):
        return self.classifier("numbers", numbers)

    def two(self):
        return self.classifier("two", twos)

    def lora(self):
        lora = "--model.lora={r: 2, dropout: 0.0}"
        return fit(self.folder, "TextClassifier", self["bert"], "lora", lora, **self.files())

    def merged(self):
        return self["lora"]

    def adapter(self):
        return self["lora"]

    def tagger(self, kind):
        files = {
            part: tagging_examples.write_conll(self.folder / f"{part}.conll", tagging_examples.sentences(size, seed))
            for part, size, seed in (("in_domain", 24, 0), ("val", 4, 1), ("test", 6, 2))
        }
        encoder = tagging_examples.write_encoder(self.folder / f"words-{kind}", kind)
        more = ["--trainer.max_epochs=6", "--data.batch_size=4"]
        return fit(self.folder, "TokenClassifier", encoder, f"tags-{kind}", *more, **files)

    def spans(self):
        return self.tagger("bert")

    def tags(self):
        return self.tagger("roberta")

    def pairs(self):
        t5 = str(write_pair_model(self.folder / "t5", "large t5"))
        rows = [{"source": source, "target": target} for source, target in PAIRS]
        files = {part: write(self.folder / f"{part}-pairs.jsonl", rows) for part in ("in_domain", "val", "test")}
        more = ["--data.prefix", "translate : ", "--model.generate={num_beams: 2}"]
        return fit(self.folder, "Seq2Seq", t5, "pairs", *more, **files)

    def texts(self):
        llama = write_language_model(self.folder / "llama", "llama")
        asked = [{"prompt": f"one plus {word} is", "completion": " two"} for word in ("one", "two", "you", "four")]
        files = {part: write(self.folder / f"{part}-lines.jsonl", asked) for part in ("in_domain", "val", "test")}
        return fit(self.folder, "CausalLM", llama, "texts", "--model.generate={max_new_tokens: 4}", **files)


class Exported(dict):
    """The folders with what was exported, by name; each is exported when it is needed."""

    def __init__(self, folder, trained):
        super().__init__()
        self.folder, self.trained = folder, trained

    def __missing__(self, name):
        more = ["--merge"] if name == "merged" else []
        self[name] = export(self.trained[name], self.folder / name, *more)
        return self[name]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    return Trained(tmp_path_factory.mktemp("runs"))


@pytest.fixture(scope="module")
def exported(trained, tmp_path_factory):
    return Exported(tmp_path_factory.mktemp("exported"), trained)


def check_labels(found, expected):
    assert [row["label"] for row in found] == [row["label"] for row in expected]
    assert [row["score"] for row in found] == pytest.approx([row["score"] for row in expected], abs=1e-4)
    assert len({row["score"] for row in found}) > 3


def test_a_pipeline_predicts_the_same(trained, exported, tmp_path):
    found = pipeline("text-classification", str(exported["label"]), truncation=True)([row["text"] for row in texts(9)])
    check_labels(found, predictions(trained["label"], tmp_path))


@pytest.mark.slow
def test_plain_transformers_predicts_the_same(trained, exported, tmp_path):
    names = ("label", "labels", "numbers", "two", "merged", "adapter", "spans", "tags", "pairs", "texts")
    expected = {name: predictions(trained[name], tmp_path) for name in names if exported[name]}
    rows = {
        "texts": [row["text"] for row in texts(9)],
        "sentences": {name: [row["tokens"] for row in expected[name]] for name in ("spans", "tags")},
        "two": [{name: row[name] for name in ("text", "text_pair")} for row in twos(9)],
        "sources": [source for source, _ in PAIRS],
        "prompts": [f"one plus {word} is" for word in ("one", "two", "you", "four")],
    }
    plain = subprocess.run(
        [sys.executable, "-I", "-c", PLAIN, str(exported.folder)],
        input=json.dumps(rows),
        capture_output=True,
        text=True,
    )
    assert plain.returncode == 0, plain.stderr
    found = json.loads(plain.stdout)
    for name in ("label", "two", "merged", "adapter"):
        check_labels(found[name], expected[name])
    scores = [[row["score"] for row in each["numbers"]] for each in (found, expected)]
    assert scores[0] == pytest.approx(scores[1], abs=1e-4)
    assert len(set(scores[1])) > 3
    for mine, theirs in zip(expected["labels"], found["labels"]):
        chosen = [each for each in theirs if each["score"] >= 0.5]
        assert mine["label"] == [each["label"] for each in chosen]
        assert mine["score"] == pytest.approx([each["score"] for each in chosen], abs=1e-4)
    assert found["tags"] == [row["tags"] for row in expected["tags"]]
    spread = [[tag for tag, words in sentence for _ in words.split()] for sentence in found["spans"]]
    assert spread == [[tag.rpartition("-")[2] for tag in row["tags"]] for row in expected["spans"]]
    for name in ("tags", "spans"):
        assert {tag for row in expected[name] for tag in row["tags"]} > {"O"}
    assert found["pairs"] == [row["text"] for row in expected["pairs"]]
    assert len(set(found["pairs"])) > 1
    assert found["texts"] == [row["text"] for row in expected["texts"]]
    assert 'tokenizer("translate : Write your text here."' in (exported["pairs"] / "README.md").read_text()


def test_the_weights_and_names_in_the_folder(exported):
    assert {path.name for path in exported["label"].iterdir()} == {
        *("README.md", "config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json")
    }
    config = json.loads((exported["label"] / "config.json").read_text())
    assert config["id2label"] == {"0": "neg", "1": "neutral", "2": "pos"}
    assert config["architectures"] == ["BertForSequenceClassification"]
    assert "packed" not in json.dumps(config)
    assert not (exported["adapter"] / "model.safetensors").exists()
    assert (exported["adapter"] / "adapter_model.safetensors").stat().st_mode == (
        exported["adapter"] / "README.md"
    ).stat().st_mode


def test_the_card_says_how_the_model_was_made(trained, exported):
    card = (exported["label"] / "README.md").read_text()
    header = yaml.safe_load(card.split("---")[1])
    assert header == {
        "library_name": "transformers", "pipeline_tag": "text-classification", "tags": ["gradual-fine-tuning"],
    }  # fmt: skip
    stage = trained["label"]
    rows = [
        line for line in card.split("## Training")[1].split("## Evaluation")[0].splitlines() if line.startswith("|")
    ]
    for row, folder in zip(rows[2:], (stage.parent.parent, stage.parent, stage)):
        cells = [cell.strip() for cell in row.strip("|").split("|")]
        result = StageDirectory(folder).result()
        assert cells[1:4] == [str(result.out_of_domain), "6", "1 (1)†"]
        assert cells[4] == f"{result.val['loss']:.4g}"
        assert cells[-3] == f"{100 * result.test['accuracy']:.2f}"
    assert len(rows) == 5
    assert "6 in-domain, 12 out-of-domain, 5 validation, 9 test" in card
    assert "Labels: `neg`, `neutral`, `pos`." in card
    assert "This model is gradual, seed 1." in card
    assert "95% interval" in card
    assert json.loads((stage.parents[3] / "compare.json").read_text())["command"] in card
    assert "transformers 5" in card
    # a run of fit has no strategies to compare with
    assert "## Evaluation" not in (exported["labels"] / "README.md").read_text()


def test_of_a_comparison_a_stage_is_chosen(trained, tmp_path, capsys):
    run = trained["label"].parents[3]
    said = mistake(capsys, ["export", run, "--out", tmp_path / "model"])
    val = {seed: StageDirectory(run / f"seed-{seed}/8/4/0").result().val["loss"] for seed in (0, 1)}
    best = min(val, key=val.get)
    assert said.startswith(f"gradual: {run} holds a comparison: give one of its stages, such as")
    assert f"{run}/seed-{best}/8/4/0 (gradual)" in said
    assert "(in-domain only), each with the seed that has the best val/loss." in said
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize("command", ["export", "predict", "test"])
def test_what_is_no_stage(command, tmp_path, capsys):
    out = ["--out", tmp_path / "model"] if command == "export" else []
    assert "nothing does not exist: it must be a run directory" in mistake(
        capsys, [command, tmp_path / "nothing", *out]
    )
    assert "is no stage: it must be a run directory" in mistake(capsys, [command, tmp_path, *out])


def test_a_run_that_is_not_finished(trained, tmp_path, capsys):
    run = trained["merged"]
    result = run / "seed-0/0/result.json"
    kept = result.read_text()
    result.unlink()
    try:
        assert "is not finished: run gradual fit again" in mistake(capsys, ["export", run, "--out", tmp_path / "m"])
        said = mistake(capsys, ["export", run / "seed-0/0", "--out", tmp_path / "m"])
        assert "seed-0/0 is not finished" in said
        export(run / "seed-0/0/best.ckpt", tmp_path / "m", "--merge")  # its best epoch so far
        assert "not finished" in (tmp_path / "m/README.md").read_text()
    finally:
        result.write_text(kept)


def test_a_folder_with_content_is_left_alone(trained, tmp_path, capsys):
    (tmp_path / "model").mkdir()
    kept = tmp_path / "model/notes.txt"
    kept.write_text("mine")
    assert "model exists: choose another folder" in mistake(capsys, ["export", trained["labels"], "--out", kept.parent])
    assert [path.name for path in tmp_path.rglob("*")] == ["model", "notes.txt"]


def test_only_an_adapter_is_merged(trained, tmp_path, capsys):
    out = ["--out", tmp_path / "model", "--merge"]
    assert "has no adapter: leave out --merge" in mistake(capsys, ["export", trained["labels"], *out])
    out[1] = tmp_path / "model.safetensors"
    assert "--out must be a folder" in mistake(capsys, ["export", trained["merged"], *out])


def test_from_inside_the_run_directory(trained, tmp_path, monkeypatch):
    monkeypatch.chdir(trained["labels"] / "seed-0/0")
    export("best.ckpt", tmp_path / "model")
    assert "## Training" in (tmp_path / "model/README.md").read_text()


def test_a_checkpoint_without_its_run_directory(trained, tmp_path):
    copy = tmp_path / "copy.ckpt"
    copy.write_bytes((trained["labels"] / "seed-0/0/best.ckpt").read_bytes())
    export(copy, tmp_path / "model")
    card = (tmp_path / "model/README.md").read_text()
    assert "Labels: `any`" in card
    assert "## Training" not in card


def test_a_run_made_from_python(tmp_path, capsys):
    bert = write_model(tmp_path / "bert", "bert", WORDS)
    files = {part: write(tmp_path / f"{part}.jsonl", texts(size)) for part, size in (("in_domain", 6), ("val", 5))}
    data = TextClassificationData(**files, tokenizer=bert, cache_dir=str(tmp_path / "cache"), num_proc=1, max_length=5)
    gradual.fit(TextClassifier(bert), data, [0], tmp_path / "run", max_epochs=1)
    export(tmp_path / "run", tmp_path / "model")
    loaded = AutoModelForSequenceClassification.from_pretrained(tmp_path / "model")
    assert loaded.config.label2id == {"neg": 0, "neutral": 1, "pos": 2}
    said = mistake(capsys, ["predict", tmp_path / "run"])
    assert "was made from Python" in said
    assert f"--ckpt_path {tmp_path / 'run/seed-0/0/best.ckpt'}" in said


@pytest.fixture(scope="module")
def moved(tmp_path_factory):
    """A run that names the folder of its model as it is seen from the folder where it was trained."""
    root = tmp_path_factory.mktemp("moved")
    write_model(root / "bert", "bert", WORDS)
    files = {part: write(root / f"{part}.jsonl", texts(size)) for part, size in SIZES.items()}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        patch.setattr(sys, "argv", ["gradual"])
        fit(root, "TextClassifier", "bert", "run", **files)
    return root


def commands(run, out):
    yield "--pretrained", ["export", run, "--out", out / "model"]
    yield "--model.pretrained", ["predict", run, "--predictions", out / "predictions.jsonl"]
    yield "--model.pretrained", ["test", run]
    yield "--model.pretrained", ["validate", run]


def test_another_tokenizer_of_the_name_that_a_run_recorded_is_refused(moved, tmp_path, monkeypatch, capsys):
    (there := tmp_path / "there").mkdir()
    write_model(there / "bert", "bert", WORDS[::-1])  # as many words
    monkeypatch.chdir(there)
    for option, command in commands(moved / "run", tmp_path):
        said = mistake(capsys, command)
        assert f"bert has another tokenizer than the one that {moved / 'run'} was trained with" in said
        assert f"{option} FOLDER" in said
    assert list(tmp_path.iterdir()) == [there]
    for option, command in commands(moved / "run", tmp_path):
        main([*map(str, command), f"{option}={moved / 'bert'}"])
    assert (tmp_path / "predictions.jsonl").exists()
    texts_and_labels = [json.loads(line) for line in (tmp_path / "predictions.jsonl").read_text().splitlines()]
    found = pipeline("text-classification", str(tmp_path / "model"), truncation=True)([row["text"] for row in texts(9)])
    check_labels(found, texts_and_labels)


def test_a_folder_that_is_missing_is_not_asked_of_the_hub(moved, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for option, command in commands(moved / "run", tmp_path):
        said = mistake(capsys, command)
        assert "The folder bert does not exist: run the command in the folder where" in said
        assert f"{option} FOLDER" in said
    said = mistake(capsys, ["export", moved / "run", "--out", tmp_path / "m", "--pretrained", tmp_path / "none"])
    assert "none: it must be a folder" in said
    said = mistake(capsys, ["export", moved / "run", "--out", "a.safetensors", "--pretrained", moved / "bert"])
    assert "--pretrained is for a whole folder" in said
    assert not list(tmp_path.iterdir())

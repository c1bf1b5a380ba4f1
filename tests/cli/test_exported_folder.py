"""`gradual export` for plain `transformers`: loaded where `gradual` cannot be imported, with the same predictions."""

import json
import subprocess
import sys

import pytest
import yaml
from exported_runs import check_labels, predictions, texts, twos
from pair_files import PAIRS
from transformers import pipeline

from gradual.runs.directory import StageDirectory

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

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")  # Lightning's advice


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

"""What the documents name exists: tests, files, links and public names; the README's Python runs as it stands."""

import importlib
import re
from pathlib import Path

import pytest
import torch
from lightning.pytorch import LightningModule
from torch import nn

ROOT = Path(__file__).parents[1]
CHANGES = ROOT / "CHANGELOG.md"
DOCUMENTS = [ROOT / "README.md", ROOT / "benchmarks/README.md", *sorted((ROOT / "docs").glob("*.md"))]
CODE_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
NOT_TESTS = {"test_step"}  # a method of modules


def each_of(*documents):
    return pytest.mark.parametrize("document", documents, ids=lambda path: str(path.relative_to(ROOT)))


@each_of(*DOCUMENTS, CHANGES)
def test_files_named_in_a_document_exist(document):
    named = re.findall(
        r"(?<![\w./-])((?:gradual|tests|benchmarks|configs|notebooks|docs)/[\w./-]*\.\w+)", document.read_text()
    )
    assert [path for path in named if not (ROOT / path).is_file()] == []


@each_of(*DOCUMENTS, CHANGES)
def test_tests_named_in_a_document_exist_in_the_files_it_names(document):
    text = document.read_text()
    files = {ROOT / path for path in re.findall(r"tests/[\w/]+\.py", text)}
    defined = {
        name
        for file in files
        if file.exists()
        for name in re.findall(r"^def (test_\w+)", file.read_text(), re.MULTILINE)
    }
    named = {match for match in re.findall(r"`(test_\w+(?:\.\.\.)?)`", text) if match not in NOT_TESTS}
    assert sorted(name for name in named if not is_one_of(name, defined)) == []


def is_one_of(name, defined):
    """Whether a test is defined; a name that ends with dots must be the start of exactly one."""
    if not name.endswith("..."):
        return name in defined
    return sum(full.startswith(name.removesuffix("...")) for full in defined) == 1


@each_of(*DOCUMENTS, CHANGES)
def test_relative_links_lead_to_files_and_headings(document):
    for target in re.findall(r"\]\(([^)\s]+)\)", document.read_text()):
        if "://" in target:
            continue
        path, _, heading = target.partition("#")
        file = (document.parent / path) if path else document
        assert file.exists(), target
        if heading:
            assert heading in headings(file), target


def headings(file):
    """The anchors of the headings in a Markdown file, as GitHub generates them."""
    titles = re.findall(r"^#+ (.+)$", CODE_BLOCK.sub("", file.read_text()), re.MULTILINE)
    return [re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles]


@each_of(*DOCUMENTS)  # the list of changes also has old names
def test_names_of_the_package_in_a_document_exist(document):
    names = set(re.findall(r"(?<![\w.'\"/-])gradual((?:\.[A-Za-z_]\w*)+)", document.read_text()))
    assert sorted(name for name in names if not resolves(name.split(".")[1:])) == []


def resolves(parts):
    found = importlib.import_module("gradual")
    for part in parts:
        if not hasattr(found, part):
            try:
                importlib.import_module(f"{found.__name__}.{part}")
            except (ImportError, AttributeError):
                return False
        found = getattr(found, part)
    return True


class OneStep(LightningModule):
    """Stands in for a user's model; every stage ends after its first batch."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(1, 1)

    def loss(self, batch):
        return (self.layer(batch.float()[:, None]) ** 2).mean()

    def training_step(self, batch, batch_idx):
        return self.loss(batch)

    def validation_step(self, batch, batch_idx):
        self.log("val/loss", self.loss(batch))

    def test_step(self, batch, batch_idx):
        self.log("test/loss", self.loss(batch))

    def on_train_batch_end(self, outputs, batch, batch_idx):
        self.trainer.should_stop = True


@each_of(ROOT / "README.md", ROOT / "docs/own-models.md")
def test_python_of_the_readme_and_of_its_guide_runs_as_it_stands(document, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    names = {
        "train": torch.arange(32.0), "pool": torch.arange(1000.0, 5000.0), "dev": -torch.arange(1.0, 9.0),
        "test": -torch.arange(11.0, 19.0), "model": OneStep(), "make_model": OneStep,
    }  # fmt: skip
    blocks = [code for language, code in CODE_BLOCK.findall(document.read_text()) if language == "python"]
    assert len(blocks) >= 2
    for block in blocks:
        exec(compile(block, document.name, "exec"), names)
    assert capsys.readouterr().out.count("{'loss': ") == 1
    assert len(names["result"].stages) == 4
    assert names["page"].is_file()
    if "schedule" in names:
        assert names["gradual"].Schedule(names["schedule"]).amounts(4000) == [4000, 2000, 500, 0]

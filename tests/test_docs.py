"""What the documents name exists: tests, files, links and public names."""

import importlib
import re
from pathlib import Path

import pytest
from document_blocks import DOCUMENTS as HANDBOOK

import gradual

ROOT = Path(__file__).parents[1]
CHANGES = ROOT / "CHANGELOG.md"
DOCUMENTS = [*HANDBOOK, ROOT / "benchmarks/README.md"]
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
    text = file.read_text()
    if included := re.match(r"```{include} (\S+)", text):
        return headings(file.parent / included[1])
    titles = re.findall(r"^#+ (.+)$", CODE_BLOCK.sub("", text), re.MULTILINE)
    return [re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles]


@each_of(*DOCUMENTS)  # the list of changes also has old names
def test_names_of_the_package_in_a_document_exist(document):
    names = set(re.findall(r"(?<![\w.'\"/-])gradual((?:\.[A-Za-z_]\w*)+)", document.read_text()))
    assert sorted(name for name in names if not resolves(name.split(".")[1:])) == []


def test_every_public_name_is_in_the_python_reference():
    text = (ROOT / "docs/reference/python.md").read_text()
    documented = set(re.findall(r"^\.\. auto\w+:: gradual\.(\w+)$", text, re.MULTILINE))
    assert sorted({*gradual.__all__} - documented) == ["__version__"]


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

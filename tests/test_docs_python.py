"""The Python of the README and of the handbook's guides to Python runs as it stands."""

import contextlib
import io

import pytest
from document_blocks import DOCUMENTS, README, ROOT, blocks
from document_models import names
from test_docs_pages import RUN

GUIDES = [README, *(ROOT / "docs/guides" / f"{name}.md" for name in ("own-models", "schedule"))]
"""Those whose Python needs no command to run before; the others are run as a whole."""


def run_python(block, known):
    """Run a block; what it defines is added to what is known. Returns what it prints."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile("\n" * block.line + block.text, str(block.document), "exec"), known)
    return printed.getvalue()


@pytest.mark.parametrize(
    "document",
    [pytest.param(path, marks=[pytest.mark.slow] if path.stem == "README" else []) for path in GUIDES],
    ids=lambda path: path.stem,
)
def test_python_runs_as_it_stands(document, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    known = names()
    printed = "".join(run_python(block, known) for block in blocks(document) if block.language == "python")
    if "result" in known:
        assert printed.count("{'loss': ") == 1
        assert len(known["result"].stages) == 4
        assert known["page"].is_file()
    if "schedule" in known:
        assert known["gradual"].Schedule(known["schedule"]).amounts(4000) == [4000, 2000, 500, 0]


def test_all_python_is_run():
    with_python = {document for document in DOCUMENTS for block in blocks(document) if block.language == "python"}
    assert with_python <= {*GUIDES, *RUN}

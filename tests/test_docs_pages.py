"""The quickstart, the guides and the README, run from their first block of code to the last one, on small files."""

import contextlib
import os
import re
import subprocess
import sys
from pathlib import Path

import document_models
import pytest
from document_blocks import DOCUMENTS, README, ROOT, blocks, commands, gradual_in, is_shell
from document_files import write_files

from gradual.__main__ import main

GUIDES = sorted((ROOT / "docs/guides").glob("*.md"))
RUN = [README, ROOT / "docs/quickstart.md", *GUIDES]
KINDS = {"tagging": "tags", "text-to-text": "pairs", "language-models": "answers"}  # all others: texts
INIT = """gradual init --in_domain train.jsonl --out_of_domain pool.jsonl --val dev.jsonl --test test.jsonl
  --pretrained roberta-base --out mine.yaml"""
BEFORE = {"using-the-model": [["gradual", "fit", "--config", "mine.yaml"]]}
"""Commands of other pages that a page takes for granted, besides a configuration."""

SMALL_BUDGET = "2000"
"""Of a search, in examples: some paths through small files."""

NOT_RUN = {
    ("make",): "the tests are run by it",
    ("gradual", "demo"): "it has tests of its own",
    ("gradual", "download"): "it has tests of its own",
    ("pip", "install"): "it is installed",
    ("tensorboard",): "it runs until it is stopped",
    ("srun",): "needs SLURM",
    ("torchrun", "--nnodes"): "needs two machines; tests/two_machines.sh has them",
    ("gradual", "fit", "--config", "mine.yaml", "--trainer.devices", "4"): "needs four devices",
    ("gradual", "report", "runs/restaurant"): "needs comparisons of three data sets",
    ("gradual", "fit", "--config", "configs/multiwoz/restaurant.yaml"): "needs the paper's data, and hours",
    ("gradual", "fit", "--config", "configs/events/genia.yaml"): "needs the corpus, and hours",
}
RESULTS = {ROOT / "docs/results.md"}  # hours; their options are checked by test_docs_commands.py


def why_not(words):
    """Why a command is not run; None for one that is."""
    return next((reason for start, reason in NOT_RUN.items() if tuple(words[: len(start)]) == start), None)


@pytest.fixture
def desk(tmp_path, monkeypatch):
    """An empty folder to work in, as a reader would have it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(sys, "argv", ["gradual"])
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setitem(sys.modules, "my_module", document_models)
    for command in ("FIT", "COMPARE", "SEARCH"):
        monkeypatch.setenv(f"GRADUAL_{command}__TRAINER__MAX_EPOCHS", "1")
    (tmp_path / ".zfunc").mkdir()
    return tmp_path


def run(words):
    """Run a command, in this process if it is one of ``gradual`` itself; a search gets a small budget."""
    if "--budget" in words:
        words = [*words, "--budget", SMALL_BUDGET, "--confirm_seeds", "[7]"]
    given = gradual_in(words)
    if words[0] == "gradual":
        target = words[words.index(">") + 1] if ">" in words else os.devnull
        with Path(target).expanduser().open("w") as file, contextlib.redirect_stdout(file):
            ended = None
            try:
                main(given)
            except SystemExit as exit_:
                ended = exit_.code
        assert not ended, words
        return
    if words[0] == "torchrun":
        words = [sys.executable, "-m", "torch.distributed.run", *words[1:]]
    here = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    subprocess.run([str(Path(word).expanduser()) for word in words], check=True, env=here, timeout=300)


@pytest.mark.slow
@pytest.mark.parametrize("document", RUN, ids=lambda path: path.stem)
def test_a_page_runs_from_its_first_block_to_its_last(document, desk):
    write_files(desk, KINDS.get(document.stem, "texts"))
    of_page = [words for block in blocks(document) if is_shell(block) for words in commands(block)]
    before = BEFORE.get(document.stem, [])
    if any("mine.yaml" in words for words in [*before, *of_page]) and not any("init" in words for words in of_page):
        run(INIT.split())
    for words in before:
        run(words)
    known = document_models.names()
    for block in blocks(document):
        if block.language == "python":
            text = re.sub(r"(?<=budget=)[\d_]+", SMALL_BUDGET, block.text)
            exec(compile("\n" * block.line + text, str(document), "exec"), known)
        for words in commands(block) if is_shell(block) else ():
            if not why_not(words):
                run(words)


def test_all_commands_are_run_or_there_is_a_reason():
    for document in {*DOCUMENTS} - {*RUN} - RESULTS:
        for block in blocks(document):
            assert not is_shell(block) or all(map(why_not, commands(block))), block.place
    used = [words for document in RUN for block in blocks(document) if is_shell(block) for words in commands(block)]
    unused = [start for start in NOT_RUN if not any(tuple(words[: len(start)]) == start for words in used)]
    assert unused == []

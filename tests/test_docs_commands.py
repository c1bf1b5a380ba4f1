"""Commands and configurations in the documents are accepted by the real parsers, and their options exist."""

import functools
import json
import re
import sys
from itertools import pairwise

import document_models
import pytest
import yaml
from document_blocks import DOCUMENTS, README, ROOT, blocks, commands, gradual_in, is_shell, without_blocks

from gradual.__main__ import _parser
from gradual.cli.chosen_classes import import_chosen
from gradual.cli.commands import LIGHTNING_COMMANDS, WITH_STAGE
from gradual.cli.lightning_cli_internals import actions_of
from gradual.cli.parsers import all_settings, command_parser
from gradual.cli.precedence import check_command, named_settings, ordered
from gradual.experiment.strategies import parse_strategies
from gradual.schedule import Schedule

LANGUAGES = {"sh", "python", "yaml", "json", "text", "{eval-rst}", "{toctree}", "{include} ../../benchmarks/README.md"}
MODEL = {"class_path": "TextClassifier", "init_args": {"pretrained": "PATH"}}
DATA = {"in_domain": "train.jsonl", "out_of_domain": "pool.jsonl", "val": "dev.jsonl"}
MADE_UP = {"--batch_size", "--optimizer.learning_rate"}
"""Options that a document shows as mistakes."""
OTHER_PROGRAMS = {"--nnodes", "--node_rank", "--signal"}
"""Options of torchrun and SLURM in the prose."""
OF_THE_EVIDENCE = {*re.findall(r'"(--\w+)"', (ROOT / "benchmarks/evidence.py").read_text(encoding="utf-8"))}
"""Options of the program that makes the results."""

parser_of = functools.cache(command_parser)

ALL = [block for document in DOCUMENTS for block in blocks(document)]
GIVEN = [
    pytest.param(given, id=f"{block.place}-{given[0]}")
    for block in ALL
    if is_shell(block)
    for words in commands(block)
    if (given := gradual_in(words))
]


@pytest.fixture(autouse=True)
def _command_line(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["gradual"])
    monkeypatch.setitem(sys.modules, "my_module", document_models)


@pytest.fixture(scope="module")
def mine(tmp_path_factory):
    """A configuration that stands for the reader's."""
    file = tmp_path_factory.mktemp("configuration") / "mine.yaml"
    file.write_text(yaml.safe_dump({"model": MODEL, "data": DATA}))
    return file


def in_repository(arguments, mine):
    """The same arguments, with a configuration that exists: one of the repository, or the reader's."""
    there = [ROOT / word if (ROOT / word).is_file() else mine for word in arguments]
    return [str(there[n]) if n and arguments[n - 1] == "--config" else word for n, word in enumerate(arguments)]


@pytest.mark.parametrize("given", GIVEN)
def test_commands_are_accepted_by_their_parsers(given, mine):
    command, *rest = in_repository(given, mine)
    if command == "--print_completion":
        assert rest in (["bash"], ["zsh"])
        return
    if command not in LIGHTNING_COMMANDS:
        _parser().parse_args([command, *rest])
        return
    if command in WITH_STAGE and not rest[0].startswith("-"):
        rest = ["--config", str(mine), *rest[1:]]  # the configuration is in the run directory
    arguments = ordered([command, *rest])
    check_command(command, named_settings(arguments))
    data_class = import_chosen(command, arguments)
    settings = [one for one in arguments[1:] if one != "--print_config"]  # which prints at once
    assert parser_of(command, data_class).parse_args(settings).model.class_path


@pytest.mark.parametrize("block", [pytest.param(b, id=b.place) for b in ALL if b.language == "yaml"])
def test_configurations_are_accepted(block, tmp_path):
    file = tmp_path / "mine.yaml"
    given = yaml.safe_load(block.text)
    rest = {name: value for name, value in {"model": MODEL, "data": DATA}.items() if name not in given}
    file.write_text(block.text + (yaml.safe_dump(rest) if rest else ""))
    given = [f"--config={file}"]
    data_class = import_chosen("compare", ["compare", *given])
    parsed = parser_of("compare", data_class).parse_args(given)
    schedule = Schedule(parsed.schedule)
    assert parse_strategies(parsed.strategies, schedule)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_block_has_a_language_that_is_tested(document):
    for block in blocks(document):
        assert block.language in LANGUAGES or (document == README and block.language == ""), block.place
        if block.language == "json":
            assert all(isinstance(json.loads(line), dict) for line in block.text.splitlines())
    lines = without_blocks(document).splitlines()
    indented = [line for before, line in pairwise(lines) if line.startswith("    ") and not before.strip()]
    assert indented == [], "write blocks of code between fences"


@pytest.fixture(scope="module")
def known_options():
    """All options of all commands, and those of their classes."""
    choices = next(action.choices for action in actions_of(_parser()) if isinstance(action.choices, dict))
    plain = [action for parser in [_parser(), *choices.values()] for action in actions_of(parser)]
    settings = [
        action
        for command in ("compare", "search", "fit", "predict", "stats", "sample")
        for action in all_settings(command)
    ]
    return {option for action in [*plain, *settings] for option in action.option_strings}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_options_named_in_the_prose_exist(document, known_options):
    code = re.findall(r"`([^`]+)`", without_blocks(document))
    named = {option for one in code for option in re.findall(r"(?<![\w-])--[a-z_]+(?:\.[a-z_]+)*(?!\.?[A-Z\w])", one)}
    assert sorted(named - known_options - OTHER_PROGRAMS - OF_THE_EVIDENCE - MADE_UP) == []

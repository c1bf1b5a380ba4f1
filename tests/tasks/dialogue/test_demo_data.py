"""The demo corpus and its encoder, read here by hand: the package's own reader is not what is tested."""

import json
import re
import subprocess
import sys
from collections import defaultdict
from itertools import pairwise
from pathlib import Path

import pytest

from gradual.errors import InputError
from gradual.tasks.dialogue import demo

SIZES = {"train": 12, "dev": 8, "test": 10, "out_of_domain": 40}
FILES = ("train.tsv", "train40.tsv", "dev.tsv", "test.tsv", "ontology.json")
# Slots whose values the user has no other word for: they must stand in the text as they are.
VERBATIM = ("hostel-name", "hostel-day", "cafe-name", "cinema-film", "cinema-day", "ferry-day", "ferry-destination")


def write(out, seed=0):
    demo.write_demo_data(out, seed, **SIZES)
    return out


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write(tmp_path_factory.mktemp("demo"))


@pytest.fixture(scope="module")
def ontology(folder):
    return json.loads((folder / "domains/hostel/ontology.json").read_text())


def read(path):
    """Header and rows, and the dialogues as lists of (turn index, user, system, state)."""
    text = path.read_bytes().decode()
    assert text.endswith("\n")
    assert '"' not in text
    header, *rows = (line.split("\t") for line in text.removesuffix("\n").split("\n"))
    slots = header[4:-1]
    dialogues = defaultdict(list)
    for row in rows:
        state = {slot: value for slot, value in zip(slots, row[4:]) if value != "none"}
        dialogues[row[0]].append((int(row[1]), row[2], row[3], state))
    return header, rows, dialogues


def dialogues_of(folder, name):
    return read(folder / "domains/hostel" / f"{name}.tsv")[2]


@pytest.mark.parametrize("name", ["train", "train40", "dev", "test"])
def test_rows_have_the_format_of_the_real_files(folder, ontology, name):
    header, rows, dialogues = read(folder / "domains/hostel" / f"{name}.tsv")
    assert header[:4] == ["# Dialogue ID", "Turn Index", "User Utterance", "System Response"]
    assert header[4:] == [*sorted(ontology), ""]
    assert {len(row) for row in rows} == {4 + len(ontology)}
    for row in rows:
        for slot, value in zip(sorted(ontology), row[4:]):
            assert value == "none" or value in ontology[slot]
    # Turns of a dialogue stand together, in order.
    assert [row[0] for row in rows] == [id_ for id_, turns in dialogues.items() for _ in turns]
    for turns in dialogues.values():
        assert 2 <= len(turns) <= 6
        assert [index for index, *_ in turns] == list(range(len(turns)))
        assert turns[0][2] == ""
        assert all(system for _, _, system, _ in turns[1:])
        assert all(3 <= len(user.split()) <= 25 and len(system.split()) <= 25 for _, user, system, _ in turns)


def test_the_ontology_has_the_promised_size(ontology):
    assert 15 <= len(ontology) <= 18
    assert sum(slot.startswith("hostel-") for slot in ontology) == 7
    assert 4 <= len({slot.split("-")[0] for slot in ontology}) <= 6
    for values in ontology.values():
        assert 3 <= len(values) <= 15
        assert len(set(values)) == len(values)
        assert "none" not in values
    assert set(ontology["hostel-area"]) != set(ontology["cafe-area"])
    assert set(ontology["hostel-area"]) & set(ontology["cafe-area"]) - {"do not care"}


@pytest.mark.parametrize("name", ["train40", "dev", "test"])
def test_the_belief_state_follows_the_words(folder, name):
    for turns in dialogues_of(folder, name).values():
        before = {}
        for _, user, system, state in turns:
            assert before.keys() <= state.keys(), "a slot once filled stays filled"
            changed = {slot: value for slot, value in state.items() if before.get(slot) != value}
            before = state
            said, offered = user.lower(), system.lower()
            if re.search(
                r"what else|something else\?|another one|that is all|everything i need|book it for|go ahead", said
            ):
                assert not changed, user
            for slot, value in changed.items():
                if value == "do not care":
                    assert re.search("any|not mind|not matter|wherever", said), user
                elif slot in VERBATIM and value not in said:
                    assert value in offered, (user, system)
                    assert re.search("yes|works for me|take it|brilliant|lovely", said), user


def test_changes_of_mind_and_proposals_occur(folder):
    replaced = accepted = indifferent = 0
    for turns in dialogues_of(folder, "train40").values():
        for (*_, before), (_, user, system, state) in pairwise(turns):
            changed = {slot: value for slot, value in state.items() if before.get(slot) != value}
            replaced += any(slot in before for slot in changed)
            indifferent += "do not care" in changed.values()
            accepted += any(s in VERBATIM and v in system.lower() and v not in user.lower() for s, v in changed.items())
    assert min(replaced, accepted, indifferent) >= 3


def test_the_mixed_file_is_the_training_file_and_the_pool_shuffled(folder):
    train, mixed = dialogues_of(folder, "train"), dialogues_of(folder, "train40")
    assert {id_: turns for id_, turns in mixed.items() if id_ in train} == train
    pool = [id_ for id_ in mixed if id_ not in train]
    assert len(train) == 12
    assert len(pool) == 40
    assert all(re.fullmatch(r"POOL\d{4}", id_) for id_ in pool)
    kinds = [id_ in train for id_ in mixed]
    assert kinds != sorted(kinds)
    assert kinds != sorted(kinds, reverse=True)


def test_splits_share_no_dialogue(folder):
    ids = [set(dialogues_of(folder, name)) for name in ("train40", "dev", "test")]
    assert sum(map(len, ids)) == len(set.union(*ids))
    assert all(re.fullmatch(r"HOSTEL\d{4}", id_) for id_ in ids[1] | ids[2])


def test_only_in_domain_dialogues_know_the_target(folder):
    mixed = dialogues_of(folder, "train40")
    filled = {id_: {slot.split("-")[0] for slot in turns[-1][3]} for id_, turns in mixed.items()}
    assert all(domains == {"hostel"} for id_, domains in filled.items() if id_.startswith("HOSTEL"))
    pool = [id_ for id_ in mixed if id_.startswith("POOL")]
    assert set().union(*(filled[id_] for id_ in pool)) == {"cafe", "cinema", "ferry", "tour"}
    assert any(len(filled[id_]) > 1 for id_ in pool)
    assert not any("hostel" in f"{user} {system}".lower() for id_ in pool for _, user, system, _ in mixed[id_])


def test_equal_seeds_give_equal_files_and_others_differ(folder, tmp_path):
    from safetensors.torch import load_file

    again, other = write(tmp_path / "again"), write(tmp_path / "other", seed=1)
    for name in FILES:
        assert (folder / "domains/hostel" / name).read_bytes() == (again / "domains/hostel" / name).read_bytes()
    for name in demo.ENCODER_FILES:
        assert (folder / "encoder" / name).read_bytes() == (again / "encoder" / name).read_bytes()
    for name in FILES[:-1]:
        assert (folder / "domains/hostel" / name).read_bytes() != (other / "domains/hostel" / name).read_bytes()
    weights = [load_file(path / "encoder/model.safetensors") for path in (folder, other)]
    name = "encoder.layer.0.output.dense.weight"
    assert not weights[0][name].equal(weights[1][name])


def test_the_vocabulary_does_not_depend_on_the_process(folder):
    """Hash seeds differ from process to process: nothing may hang on the order of a set."""
    code = (
        "import random, hashlib; from gradual.tasks.dialogue import demo;"
        "rows = demo._splits(random.Random(0), 12, 8, 10, 40)['train40'];"
        "print(demo._tsv(rows), list(demo._vocabulary([*demo._sentences(rows), *demo._labels()])))"
    )
    outputs = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={"PYTHONHASHSEED": seed},
            cwd=Path(__file__).parents[3],
            capture_output=True,
            check=True,
        ).stdout
        for seed in "12"
    }
    assert len(outputs) == 1


def test_writing_leaves_the_random_state_alone(tmp_path):
    import torch

    before = torch.get_rng_state()
    write(tmp_path)
    assert torch.equal(before, torch.get_rng_state())


def test_encoder_and_tokenizer_load(folder, ontology):
    import torch
    from transformers import AutoModel, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder / "encoder")
    model = AutoModel.from_pretrained(folder / "encoder").eval()
    assert model.config.hidden_size == 64
    assert model.config.vocab_size == len(tokenizer) <= 600
    pair = tokenizer("On Friday, please.", "Which day?")
    assert tokenizer.convert_ids_to_tokens(pair["input_ids"]) == (
        ["[CLS]", "on", "friday", ",", "please", ".", "[SEP]", "which", "day", "?", "[SEP]"]
    )
    assert pair["token_type_ids"] == [0] * 7 + [1] * 4
    assert tokenizer.pad_token_id == model.config.pad_token_id == 0

    for name in ("train40", "dev", "test"):
        for turns in dialogues_of(folder, name).values():
            for _, user, system, _ in turns:
                ids = tokenizer(user, system or None)["input_ids"]
                assert tokenizer.unk_token_id not in ids
                assert len(ids) <= 64
    for slot, values in ontology.items():
        batch = tokenizer([*values, "none", slot], padding=True, return_tensors="pt")
        assert tokenizer.unk_token_id not in batch["input_ids"]
        with torch.no_grad():
            states = model(**batch).last_hidden_state
        mask = batch["attention_mask"].unsqueeze(-1)
        vectors = (states * mask).sum(1) / mask.sum(1)
        assert torch.pdist(vectors).min() > 1, f"{slot}: the random encoder must tell its values apart"


def test_a_complete_demo_is_left_alone_and_an_incomplete_one_repaired(tmp_path, capsys):
    write(tmp_path)
    assert "50 dialogues" not in capsys.readouterr().out
    train, config = tmp_path / "domains/hostel/train.tsv", tmp_path / "encoder/config.json"
    content, stamp = train.read_bytes(), train.stat().st_mtime_ns
    write(tmp_path)
    assert "nothing to do" in capsys.readouterr().out
    assert train.stat().st_mtime_ns == stamp
    (tmp_path / "notes.txt").write_text("mine")
    config.unlink()
    train.write_text("cut sho")
    write(tmp_path)
    assert "nothing to do" not in capsys.readouterr().out
    assert train.read_bytes() == content
    assert config.exists()
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_another_seed_replaces_the_demo(tmp_path, capsys):
    write(tmp_path)
    content = (tmp_path / "domains/hostel/train.tsv").read_bytes()
    write(tmp_path, seed=1)
    assert "nothing to do" not in capsys.readouterr().out
    assert (tmp_path / "domains/hostel/train.tsv").read_bytes() != content


def test_files_of_others_are_not_overwritten(tmp_path):
    file = tmp_path / "domains/hostel/train.tsv"
    file.parent.mkdir(parents=True)
    file.write_text("mine")
    with pytest.raises(InputError, match=r"train\.tsv exists"):
        write(tmp_path)
    assert file.read_text() == "mine"
    assert not (tmp_path / "encoder").exists()
    (tmp_path / "demo.json").write_text("[]")
    with pytest.raises(InputError, match=r"demo\.json is not from"):
        write(tmp_path)


def test_a_file_in_the_folders_place_is_an_input_error(tmp_path):
    (tmp_path / "demo").write_text("")
    with pytest.raises(InputError, match="cannot write"):
        write(tmp_path / "demo")


def test_importing_the_module_does_not_import_torch():
    code = "import sys; import gradual.tasks.dialogue.demo; sys.exit(bool({'torch', 'transformers'} & {*sys.modules}))"
    subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[3], check=True)

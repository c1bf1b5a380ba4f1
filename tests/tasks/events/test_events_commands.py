"""Event extraction on the command line: every command, converted texts, a damaged file."""

from pathlib import Path

import pytest
from events_corpus import NAMES, POOL
from recorded_runs import path_results

from gradual.__main__ import main
from gradual.tasks.events import read_documents

CONFIG = Path(__file__).parents[3] / "configs" / "events" / "genia.yaml"

pytestmark = [
    pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning"),  # Lightning's advice
    pytest.mark.usefixtures("_command_line"),
]


def command(name, folder, run_dir, *more):
    files = [
        f"--data.{part}={folder / file}.json"
        for part, file in [("in_domain", "train"), ("out_of_domain", "pool"), ("val", "dev"), ("test", "test")]
    ]
    fast = ["--trainer.accelerator=cpu", "--trainer.max_epochs=1", "--schedule=[3, 0]", "--trainer.logger=false"]
    encoder = [f"--model.encoder={folder / 'encoder'}", "--model.encoder_layers=1"]
    main([name, f"--config={CONFIG}", *files, *encoder, *fast, f"--run_dir={run_dir}", *more])


def test_every_command_works_on_files_of_events(folder, tmp_path, capsys):
    run_dir = tmp_path / "run"
    command("stats", folder, run_dir)
    rows = {line.split("  ")[0].strip(): line.split()[-4:] for line in capsys.readouterr().out.splitlines()}
    # training, pool, dev, test
    assert rows["documents"] == ["3", "6", "3", "3"]
    assert rows["sentences"] == ["6", "6", "6", "6"]
    assert rows["events"] == ["5", "6", "5", "5"]
    assert rows["arguments"] == ["13", "2", "13", "13"]
    assert rows["event types"] == ["3", "3", "3", "3"]

    command("plan", folder, run_dir)
    output = capsys.readouterr().out
    stages = [line.split() for line in output.splitlines() if line.strip()[:1].isdigit()]
    assert [row[:4] for row in stages] == [["1", "3", "3", "1:1.00"], ["2", "3", "0", "1:0.00"]]
    assert "model.encoder.*: 0.0001" in " ".join(stages[0])
    assert not run_dir.exists()

    command("fit", folder, run_dir)
    content = path_results(run_dir)
    assert [stage["path"] for stage in content["stages"]] == ["seed-0/3", "seed-0/3/0"]
    for stage in content["stages"]:
        assert set(stage["val"]) >= NAMES
        assert set(stage["test"]) == NAMES
    sampled = (run_dir / "seed-0/3/sample.txt").read_text().split()
    assert len(sampled) == 3
    assert set(sampled) <= {d.id for d in POOL}

    capsys.readouterr()
    checkpoint = f"--ckpt_path={run_dir}/seed-0/3/0/best.ckpt"
    main(["test", f"--config={run_dir}/config.yaml", checkpoint])
    output = capsys.readouterr().out
    for name in NAMES:
        assert f"test/{name}" in output
    target = tmp_path / "predictions.jsonl"
    main(["predict", f"--config={run_dir}/config.yaml", checkpoint, f"--predictions={target}"])
    assert [d.id for d in read_documents(target)] == ["test0", "test1", "test2"]
    assert all(
        {"predicted_ner", "predicted_relations", "predicted_events"} <= set(d.record) for d in read_documents(target)
    )


BRAT = """T1\tPER 0 6\tRebels
T2\tAttack 7 11\tshot
T3\tPER 12 19\ttwo men
E1\tAttack:T2 Attacker:T1 Victim:T3
"""


@pytest.mark.slow
def test_a_folder_of_annotated_texts_is_converted_and_trained_on(folder, tmp_path):
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    for number in range(4):
        (corpus / f"text{number}.txt").write_text("Rebels shot two men near Basra.\nThey died in the city.\n")
        (corpus / f"text{number}.ann").write_text(BRAT)
    file = tmp_path / "converted" / "corpus.json"
    main(["convert", "standoff", str(corpus), f"--out={file}"])
    own = [f"--data.{part}={file}" for part in ("in_domain", "val", "test")]
    with pytest.raises(SystemExit):
        command("fit", folder, tmp_path / "run", *own)  # all of training is held out, and is left out of it
    other = tmp_path / "other"
    other.mkdir()
    for path in corpus.iterdir():
        (other / f"held-out-{path.name}").write_text(path.read_text())
    main(["convert", "standoff", str(other), f"--out={tmp_path}/other.json"])
    held_out = [f"--data.{part}={tmp_path}/other.json" for part in ("val", "test")]
    command("fit", folder, tmp_path / "run", f"--data.in_domain={file}", *held_out)
    stages = path_results(tmp_path / "run")["stages"]
    assert [(stage["in_domain"], stage["out_of_domain"]) for stage in stages] == [(4, 3), (4, 0)]
    assert set(stages[-1]["test"]) >= {"trig_c_f1", "arg_c_f1", "ner_f1"}


def test_a_damaged_file_is_one_sentence_on_the_command_line(folder, tmp_path, capfd):
    (tmp_path / "bad.json").write_text('{"doc_key": "A", "sentences": [["a"]], "ner": [[[0, 1, "PER"]]]}\n')
    with pytest.raises(SystemExit):
        command("fit", folder, tmp_path / "run", f"--data.val={tmp_path}/bad.json")
    error = capfd.readouterr().err
    assert f"gradual: {tmp_path}/bad.json:1: ner[0][0]: found the token index 1" in error
    assert "Traceback" not in error

"""Named sources on the command line: files, a plan, a run that goes on, its report, and other data refused."""

import hashlib
import json

import pytest
import yaml
from recorded_runs import path_results
from slow_cases import fast_one_in
from tiny_models import write_model

from gradual.__main__ import main

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")
WORDS = ["good", "bad", "food", "room", "the"]


def write(folder, name, count, suffix="jsonl"):
    rows = [
        {"id": str(at), "text": " ".join([WORDS[at % 2], *WORDS[2 : 2 + at % 4]]), "label": "pn"[at % 2]}
        for at in range(count)
    ]
    path = folder / f"{name}.{suffix}"
    if suffix == "csv":
        path.write_text("id,text,label\n" + "".join(f"{','.join(row.values())}\n" for row in rows))
    else:
        path.write_text("".join(json.dumps({**row, "id": f"{name}{row['id']}"}) + "\n" for row in rows))
    return str(path)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("files")
    write_model(folder / "bert", "bert", WORDS)
    for name, count in {"train": 12, "dev": 6, "test": 6, "books": 30}.items():
        write(folder, name, count)
    write(folder, "dvd", 20, "csv")
    return folder


def config(folder, tmp_path, **data):
    content = {
        "model": {"class_path": "TextClassifier", "init_args": {"pretrained": str(folder / "bert")}},
        "data": {
            "in_domain": str(folder / "train.jsonl"),
            "out_of_domain": {"books": str(folder / "books.jsonl"), "dvd": str(folder / "dvd.csv")},
            "val": str(folder / "dev.jsonl"),
            "test": str(folder / "test.jsonl"),
            "cache_dir": str(folder / "cache"),
            "num_proc": 1,
            **data,
        },
        "trainer": {"accelerator": "cpu", "max_epochs": 2, "logger": False, "enable_progress_bar": False},
        "optimizer": {"lr": 1e-3},
        "run_dir": str(tmp_path / "run"),
        "schedule": [{"books": 12, "dvd": 8}, 6, 0],
    }
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(content))
    return f"--config={path}"


def test_a_plan_and_statistics_show_the_sources(folder, tmp_path, capsys):
    given = config(folder, tmp_path)
    main(["plan", given])
    printed = capsys.readouterr().out
    rows = [line.split()[:6] for line in printed.splitlines() if line.strip()[:1].isdigit()]
    assert rows[0] == ["1", "12", "20", "12", "8", "1:1.67"]
    assert int(rows[1][3]) + int(rows[1][4]) == 6
    assert rows[2][:5] == ["3", "12", "0", "0", "0"]
    assert "Pool: 50 out-of-domain examples (30 books, 20 dvd)." in printed
    main(["stats", given])
    printed = capsys.readouterr().out
    assert [line.split()[-2] for line in printed.splitlines() if "pool, " in line] == ["30", "20"]


def test_amounts_in_tokens_are_printed_as_reached(folder, tmp_path, capsys):
    main(["plan", config(folder, tmp_path, amount_in="tokens"), "--schedule=[100, {books: 50}, 0]"])
    rows = [line.split() for line in capsys.readouterr().out.splitlines() if line.strip()[:1].isdigit()]
    assert 90 < int(rows[0][3]) <= 100
    assert 40 < int(rows[1][3]) <= 50
    assert rows[1][5] == "0"


def test_a_run_records_its_sources_and_refuses_others(folder, tmp_path, capsys):
    main(["fit", config(folder, tmp_path)])
    stages = path_results(tmp_path / "run")["stages"]
    assert stages[0]["sources"] == {"books": 12, "dvd": 8}
    assert stages[2]["sources"] == {"books": 0, "dvd": 0}
    first = tmp_path / "run/seed-0/20"
    ids = (first / "sample.txt").read_text().split()
    assert sum(id_.startswith("books/books") for id_ in ids) == 12
    assert sum(id_.startswith("dvd/") for id_ in ids) == 8
    history = [json.loads(line) for line in (first / "history.jsonl").read_text().splitlines()]
    assert all({f"train/loss/{name}" for name in ("in-domain", "books", "dvd")} <= {*epoch} for epoch in history)
    assert "train/loss/books" not in (first / "6/0/history.jsonl").read_text()
    lines = capsys.readouterr().out.splitlines()
    assert next(line.split() for line in lines if line.strip().startswith("dvd"))[1:2] == ["8"]
    main(["fit", config(folder, tmp_path)])  # nothing is left to train
    write(folder, "more", 20, "csv")
    refused = {
        "data.out_of_domain.dvd": {
            "out_of_domain": {"books": str(folder / "books.jsonl"), "dvd": str(folder / "more.csv")}
        },
        "data.amount_in: not set, now 'tokens'": {"amount_in": "tokens"},
    }
    for said, other in refused.items():
        with pytest.raises(SystemExit):
            main(["fit", config(folder, tmp_path, **other)])
        assert said in capsys.readouterr().err
    write(folder, "dvd", 19, "csv")
    try:
        with pytest.raises(SystemExit):
            main(["fit", config(folder, tmp_path)])
        assert "out_of_domain.dvd: 20 examples, now 19" in capsys.readouterr().err
    finally:
        write(folder, "dvd", 20, "csv")


@pytest.mark.slow
def test_stages_with_other_sources_are_other_stages(folder, tmp_path, capsys):
    given = config(folder, tmp_path)
    strategies = "{by source: [{books: 8}, 0], other: [{dvd: 8}, 0], in-domain only: [0]}"
    main(["compare", given, f"--strategies={strategies}", "--seeds=[0]"])
    found = [json.loads(path.read_text()) for path in sorted((tmp_path / "run/seed-0").glob("8*/stage.json"))]
    assert sorted(settings["sources"]["books"] for settings in found) == [0, 8]
    printed = capsys.readouterr().out
    assert "8 out-of-domain (8 books)" in printed
    assert "8 out-of-domain (8 dvd)" in printed
    assert "8 out-of-domain (8 dvd)" in (tmp_path / "run/report/report.html").read_text()


@pytest.mark.parametrize(
    ("pool", "says"),
    fast_one_in(
        4,
        [
            ({"books": "x.jsonl", "dvd": {"weight": 2}}, "out_of_domain.dvd is"),
            (
                {"books": {"files": "x.jsonl", "weight": 0}},
                "out_of_domain.books.weight is 0: it must be a number above 0",
            ),
            ({"a/b": "x.jsonl"}, "A source is called 'a/b'"),
            ({"books": "nothing.jsonl"}, "out_of_domain.books: nothing.jsonl does not exist"),
        ],
    ),
)
def test_sources_that_cannot_be_read(folder, tmp_path, capsys, pool, says):
    with pytest.raises(SystemExit):
        main(["plan", config(folder, tmp_path, out_of_domain=pool)])
    assert says in capsys.readouterr().err


@pytest.mark.slow
def test_weights_on_the_command_line(folder, tmp_path, capsys):
    books, dvd = folder / "books.jsonl", folder / "dvd.csv"
    pool = {"books": {"files": [str(books)], "weight": 3}, "dvd": {"files": str(dvd), "weight": 1}}
    main(["plan", config(folder, tmp_path, out_of_domain=pool), "--schedule=[16, 8, 0]"])
    rows = [line.split()[3:5] for line in capsys.readouterr().out.splitlines() if line.strip()[:1].isdigit()]
    assert rows == [["12", "4"], ["6", "2"], ["0", "0"]]


def test_statistics_of_relevance(folder, tmp_path, capsys):
    given = config(folder, tmp_path, order="ngrams")
    main(["stats", given, "--relevance"])
    printed = capsys.readouterr().out
    rows = [line.split() for line in printed.splitlines() if line.strip().startswith(("books ", "dvd "))]
    assert [row[:2] for row in rows] == [["books", "30"], ["dvd", "20"]]
    assert all(-2 <= float(row[2]) <= 2 and 0 < float(row[3]) < 2 for row in rows)
    most, least = printed.split("The most relevant")[1].split("The least relevant")
    for part in (most, least):
        lines = [line.split() for line in part.splitlines() if "books/" in line or "dvd/" in line]
        assert len(lines) == 10
    scores = [float(line.split()[0]) for line in printed.splitlines() if "books/" in line or "dvd/" in line]
    assert scores == sorted(scores, reverse=True)
    assert "by ngrams" in most
    assert "bad food" in printed


@pytest.mark.parametrize("order", fast_one_in(2, ["uniform", "classifier"]))
def test_each_stage_is_written_for_other_trainers(folder, tmp_path, capsys, order):
    given = config(folder, tmp_path, order=order)
    out = tmp_path / "stages"
    main(["sample", given, f"--out={out}", "--schedule=[{books: 12, dvd: 8}, {amount: 6, max_epochs: 3}, 0]"])
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["seed"] == 0
    assert [stage["examples"] for stage in manifest["stages"]] == [32, 18, 12]
    assert manifest["stages"][1]["overrides"] == {"max_epochs": 3}
    assert manifest["stages"][0]["sources"] == {"books": 12, "dvd": 8}
    before = None
    for stage in manifest["stages"]:
        for name in ("", "ids_"):
            content = (out / stage[f"{name}file"]).read_bytes()
            assert hashlib.sha256(content).hexdigest() == stage[f"{name}sha256"]
        rows = [json.loads(line) for line in (out / stage["file"]).read_text().splitlines()]
        ids = [json.loads(line) for line in (out / stage["ids_file"]).read_text().splitlines()]
        assert [row["id"] for row in rows] == [entry["id"] for entry in ids]
        assert all({*row} == {"id", "text", "label"} for row in rows)
        entries = {(entry["id"], entry["source"]) for entry in ids}
        assert len(entries) == stage["examples"] == len(rows)
        assert sum(source == "in-domain" for _, source in entries) == 12
        assert before is None or entries < before, "nested"
        before = entries
    main(["fit", given, "--schedule=[{books: 12, dvd: 8}, 6, 0]"])
    sample = (tmp_path / "run/seed-0/20/sample.txt").read_text().split()
    first = [json.loads(line) for line in (out / "stage-1.ids.jsonl").read_text().splitlines()]
    written = {f"{entry['source']}/{entry['id']}" for entry in first if entry["source"] != "in-domain"}
    assert written == {*sample}, "as gradual fit draws it"
    with pytest.raises(SystemExit):
        main(["sample", given, f"--out={out}"])
    assert "exists: choose another folder" in capsys.readouterr().err


def test_a_folder_to_write_to_is_needed(folder, tmp_path, capsys):
    with pytest.raises(SystemExit):
        main(["sample", config(folder, tmp_path)])
    assert "--out is not set" in capsys.readouterr().err


@pytest.mark.slow
def test_an_order_is_part_of_an_experiment(folder, tmp_path, capsys):
    main(["fit", config(folder, tmp_path, order={"by": "ngrams", "noise": 0.5}), "--schedule=[6, 0]"])
    with pytest.raises(SystemExit):
        main(["fit", config(folder, tmp_path, order="ngrams"), "--schedule=[6, 0]"])
    assert "data.order.noise: 0.5, now 0.0" in capsys.readouterr().err


@pytest.mark.slow
def test_sources_and_orders_as_options(folder, tmp_path, capsys):
    given, run = config(folder, tmp_path, order="ngrams"), tmp_path / "run"
    pool = f"{{books: {folder / 'books.jsonl'}}}"
    options = [f"--data.out_of_domain={pool}", "--data.order={by: classifier, noise: 2}", "--schedule=[{books: 3}, 0]"]
    main(["fit", given, *options])
    content = yaml.safe_load((run / "config.yaml").read_text())["data"]["init_args"]
    assert content["order"] == {"by": "classifier", "column": None, "encoder": None, "noise": 2.0}
    assert content["out_of_domain"] == {"books": str(folder / "books.jsonl")}
    capsys.readouterr()
    main(["plan", f"--config={run}/config.yaml", "--data.order=uniform"])
    assert "Pool: 30 out-of-domain examples (30 books)" in capsys.readouterr().out
    (run / "seed-0/3/0/result.json").unlink()
    sample = (run / "seed-0/3/sample.txt").read_text()
    for path in (folder / "cache/relevance").glob("*"):
        path.unlink()
    main(["fit", f"--config={run}/config.yaml"])  # it goes on, with an order that is computed again
    assert (run / "seed-0/3/sample.txt").read_text() == sample

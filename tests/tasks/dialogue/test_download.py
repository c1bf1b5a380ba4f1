"""`gradual download multiwoz`: the table of files, what is fetched and said, whole or resumed."""

import argparse
import io
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from download_server import CONTENT, TRAIN, Server, fetch, git_blob_id, part_with, train, tree

from gradual.tasks.dialogue import download


@pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
@pytest.mark.parametrize("content", [b"", b"one\r\ntwo\0", CONTENT])
def test_blob_id_is_git_s(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "file"
    path.write_bytes(content)
    command = ["git", "hash-object", "--no-filters", str(path)]
    expected = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    assert download._blob_id(path) == expected == git_blob_id(content)


def test_table_has_every_file_once() -> None:
    counts = {domain: len(files) for domain, files in download.CHECKSUMS.items()}
    assert counts == {"attraction": 7, "hotel": 7, "restaurant": 7, "taxi": 7, "train": 7, "all": 4}
    blobs = [blob for files in download.CHECKSUMS.values() for blob in files.values()]
    assert all(re.fullmatch("[0-9a-f]{40}", blob) for blob in blobs)
    assert len(set(blobs)) == 39 - 5, "all but the ontology, which the six share, are different files"
    splits = {"train.tsv", "train500.tsv", "train2000.tsv", "train4000.tsv", "dev.tsv", "test.tsv"}
    assert set(download.CHECKSUMS["taxi"]) == splits | {"ontology.json"}
    assert set(download.CHECKSUMS["all"]) == {"train.tsv", "dev.tsv", "test.tsv", "ontology.json"}


def test_public_addresses() -> None:
    first, *_, last = download._files(["restaurant", "all", "restaurant"], None)
    assert first.url == download.DOMAIN_BASE + "/SUMBT/data/multiwoz/domains/restaurant/ontology.json"
    assert first.target == "domains/restaurant/ontology.json"
    assert last.url == download.ALL_BASE + "/data/multiwoz/test.tsv"
    assert last.target == "test.tsv"
    assert len(download._files(["restaurant", "all", "restaurant"], None)) == 11


def test_options() -> None:
    parser = argparse.ArgumentParser()
    download.add_arguments(parser)
    assert vars(parser.parse_args(["multiwoz", "--out", "data"])) == {
        "corpus": "multiwoz",
        "out": "data",
        "domains": ["restaurant", "hotel"],
        "mirror": None,
    }
    with pytest.raises(SystemExit):
        parser.parse_args(["multiwoz", "--out", "data", "--domains", "police"])


def test_import_is_light() -> None:
    code = "import sys, gradual.tasks.dialogue.download; print(*sys.modules)"
    modules = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "gradual.tasks.dialogue.download" in modules
    assert not {"torch", "transformers", "lightning", "numpy", "rich"} & set(modules)


def test_downloads_once(server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "new folder"
    fetch(out, server.url + "/", "hotel", "all", "hotel")
    assert tree(out) == {"domains/hotel/train.tsv", "train.tsv", "ontology.json"}
    assert train(out).read_bytes() == CONTENT
    assert (out / "train.tsv").read_bytes() == b"all\n"
    assert capsys.readouterr().out.splitlines() == [
        f"domains/hotel/train.tsv: {len(CONTENT)} bytes",
        "train.tsv: 4 bytes",
        "ontology.json: 2 bytes",
        f"The files are in {out}. Next, for the hotel domain:",
        f"  gradual fit --config configs/multiwoz/hotel.yaml --data.root '{out}'",
    ]
    assert [wanted for _, wanted in server.requests] == [None, None, None]
    fetch(out, server.url, "hotel", "all")
    assert len(server.requests) == 3
    assert capsys.readouterr().out.splitlines()[0] == "domains/hotel/train.tsv: already there"


@pytest.mark.parametrize(
    ("domains", "command"),
    [
        (["restaurant", "hotel"], "fit --config configs/multiwoz/restaurant.yaml --data.root d"),
        (["hotel", "all"], "fit --config configs/multiwoz/hotel.yaml --data.root d"),
        (["taxi", "hotel"], "fit --config configs/multiwoz/hotel.yaml --data.root d"),
        (
            ["taxi", "train"],
            "fit --config configs/multiwoz/restaurant.yaml --data.root d --data.domain taxi "
            "--run_dir runs/multiwoz-taxi",
        ),
        (["all"], "download multiwoz --out d --domains restaurant"),
    ],
    ids=str,
)
def test_the_next_step_works_with_the_fetched_files(domains: list[str], command: str) -> None:
    assert download._next_step(domains, "d").splitlines()[1] == f"  gradual {command}"
    config = re.search(r"configs/\S+", command)
    assert config is None or (Path(__file__).parents[3] / config[0]).exists()


def test_terminal_shows_progress(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setattr(sys, "stdout", Terminal())
    fetch(tmp_path, server.url)
    text = sys.stdout.getvalue()
    assert "\x1b[" in text
    assert f"domains/hotel/train.tsv: {len(CONTENT)} bytes" in text


def test_resumes_a_part(server: Server, tmp_path: Path) -> None:
    part = part_with(tmp_path, CONTENT[:1000])
    fetch(tmp_path, server.url)
    assert server.requests == [(TRAIN, "bytes=1000-")]
    assert train(tmp_path).read_bytes() == CONTENT
    assert not part.exists()


def test_whole_part_needs_no_server(server: Server, tmp_path: Path) -> None:
    part_with(tmp_path, CONTENT)
    fetch(tmp_path, server.url)
    assert server.requests == []
    assert tree(tmp_path) == {"domains/hotel/train.tsv"}


def test_starts_over_where_ranges_are_ignored(server: Server, tmp_path: Path) -> None:
    server.ranges = False
    part_with(tmp_path, b"x" * 1000)
    fetch(tmp_path, server.url)
    assert server.requests == [(TRAIN, "bytes=1000-")]
    assert train(tmp_path).read_bytes() == CONTENT


def test_starts_over_after_a_part_that_is_too_long(server: Server, tmp_path: Path) -> None:
    part_with(tmp_path, CONTENT + b"more")
    fetch(tmp_path, server.url)
    assert server.requests == [(TRAIN, f"bytes={len(CONTENT) + 4}-"), (TRAIN, None)]
    assert train(tmp_path).read_bytes() == CONTENT


def test_dropped_connection_is_resumed(server: Server, tmp_path: Path) -> None:
    server.faults = ["drop"]
    fetch(tmp_path, server.url)
    assert server.requests == [(TRAIN, None), (TRAIN, f"bytes={len(CONTENT) // 2}-")]
    assert train(tmp_path).read_bytes() == CONTENT


def test_replaces_a_different_file(server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train(tmp_path).parent.mkdir(parents=True)
    train(tmp_path).write_bytes(CONTENT[:-1])
    fetch(tmp_path, server.url)
    assert train(tmp_path).read_bytes() == CONTENT
    assert "replaced a different file" in capsys.readouterr().out


def test_passing_server_error_is_retried(server: Server, tmp_path: Path) -> None:
    server.faults = ["503", "drop"]
    fetch(tmp_path, server.url)
    assert train(tmp_path).read_bytes() == CONTENT


def test_names_stay_below_the_folder() -> None:
    """They are those of the table, whatever a server says; no file is an archive."""
    for file in download._files(list(download.CHECKSUMS), None):
        assert re.fullmatch(r"(domains/[a-z]+/)?[a-z0-9]+\.(tsv|json)", file.target)

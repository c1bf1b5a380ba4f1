"""`gradual download multiwoz` against a server on this machine."""

import argparse
import errno
import hashlib
import io
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from gradual.errors import InputError
from gradual.tasks.dialogue import download

CONTENT = b"".join(b"# turn %d\tthe hotel is cheap\n" % number for number in range(9000))  # several chunks
TRAIN = "/SUMBT/data/multiwoz/domains/hotel/train.tsv"


def git_blob_id(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


class Server(ThreadingHTTPServer):
    """Serves `files`; `faults` are used up one a request, and a request without one is answered properly."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {}
        self.faults: list[str] = []
        self.ranges = True
        self.requests: list[tuple[str, str | None]] = []
        self.released = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        wanted = self.headers.get("Range")
        self.server.requests.append((self.path, wanted))
        fault = self.server.faults.pop(0) if self.server.faults else ""
        content = self.server.files.get(self.path)
        if fault == "hang":
            self.server.released.wait(5)
        elif fault.isdigit() or content is None:
            self.send_error(int(fault or 404))
        else:
            self.answer(content, wanted, fault)

    def answer(self, content: bytes, wanted: str | None, fault: str) -> None:
        start = int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted and self.server.ranges else 0
        if start and start >= len(content):
            self.send_error(416)
            return
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        if fault != "unsized":
            self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        rest = content[start:]
        self.wfile.write(rest[: len(rest) // 2] if fault in ("drop", "stall") else rest)
        if fault == "stall":
            self.server.released.wait(5)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A server with one hotel file and the whole training set, which the checksum table is made to expect."""
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(download, "RETRY_DELAYS", (0.0, 0.0))
    whole = {"train.tsv": b"all\n", "ontology.json": b"{}"}
    table = {"hotel": {"train.tsv": CONTENT}, "all": whole}
    blobs = {domain: {name: git_blob_id(data) for name, data in files.items()} for domain, files in table.items()}
    monkeypatch.setattr(download, "CHECKSUMS", blobs)
    with Server() as server:
        server.files = {TRAIN: CONTENT} | {f"/data/multiwoz/{name}": data for name, data in whole.items()}
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.released.set()
        server.shutdown()
        thread.join()


def fetch(out: Path, mirror: str, *domains: str) -> None:
    parser = argparse.ArgumentParser()
    download.add_arguments(parser)
    options = ["multiwoz", "--out", str(out), "--mirror", mirror, "--domains", *(domains or ("hotel",))]
    download.run(parser.parse_args(options))


def failure(out: Path, mirror: str) -> str:
    with pytest.raises(InputError) as caught:
        fetch(out, mirror)
    message = str(caught.value)
    assert message.endswith(".")
    assert "\n" not in message
    return message


def part_with(out: Path, content: bytes) -> Path:
    part = out / "domains/hotel/train.tsv.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(content)
    return part


def train(out: Path) -> Path:
    return out / "domains/hotel/train.tsv"


def tree(out: Path) -> set[str]:
    return {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()}


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


def test_dropped_every_time(server: Server, tmp_path: Path) -> None:
    server.faults = ["drop"] * 3
    message = failure(tmp_path, server.url)
    assert server.url + TRAIN in message
    assert "closed after" in message
    assert "run the same command again to resume" in message
    assert len(server.requests) == 3
    assert tree(tmp_path) == {"domains/hotel/train.tsv.part"}
    fetch(tmp_path, server.url)
    assert train(tmp_path).read_bytes() == CONTENT


def test_counts_from_the_start_where_ranges_are_ignored(server: Server, tmp_path: Path) -> None:
    server.ranges, server.faults = False, ["drop"] * 3
    part_with(tmp_path, b"x" * 1000)
    assert f"closed after {len(CONTENT) // 2} of {len(CONTENT)} bytes" in failure(tmp_path, server.url)


def test_wrong_content(server: Server, tmp_path: Path) -> None:
    server.files[TRAIN] = b"<html>please log in</html>"
    train(tmp_path).parent.mkdir(parents=True)
    train(tmp_path).write_bytes(b"mine")
    message = failure(tmp_path, server.url)
    for named in ("train.tsv", server.url + TRAIN, git_blob_id(CONTENT), git_blob_id(server.files[TRAIN])):
        assert named in message
    assert tree(tmp_path) == {"domains/hotel/train.tsv"}
    assert train(tmp_path).read_bytes() == b"mine", "what was there goes only when the right file has come"


def test_replaces_a_different_file(server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train(tmp_path).parent.mkdir(parents=True)
    train(tmp_path).write_bytes(CONTENT[:-1])
    fetch(tmp_path, server.url)
    assert train(tmp_path).read_bytes() == CONTENT
    assert "replaced a different file" in capsys.readouterr().out


@pytest.mark.parametrize(("fault", "requests"), [("404", 1), ("403", 1), ("503", 3), ("429", 3)])
def test_http_error(server: Server, tmp_path: Path, fault: str, requests: int) -> None:
    server.faults = [fault] * 3
    message = failure(tmp_path, server.url)
    assert server.url + TRAIN in message
    assert f"answered {fault}" in message
    assert f"put it at {train(tmp_path)}" in message
    assert len(server.requests) == requests
    assert tree(tmp_path) == set()


def test_passing_server_error_is_retried(server: Server, tmp_path: Path) -> None:
    server.faults = ["503", "drop"]
    fetch(tmp_path, server.url)
    assert train(tmp_path).read_bytes() == CONTENT


@pytest.mark.parametrize(("fault", "said"), [("", f"gives {len(CONTENT)} bytes"), ("unsized", "gives on")])
def test_too_large(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str, said: str) -> None:
    monkeypatch.setattr(download, "LARGEST", len(CONTENT) - 1)
    server.faults = [fault]
    assert said in failure(tmp_path, server.url)
    assert len(server.requests) == 1
    assert tree(tmp_path) == set()


def test_names_stay_below_the_folder() -> None:
    """They are those of the table, whatever a server says; no file is an archive."""
    for file in download._files(list(download.CHECKSUMS), None):
        assert re.fullmatch(r"(domains/[a-z]+/)?[a-z0-9]+\.(tsv|json)", file.target)


def test_timeout(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "TIMEOUT", 0.05)
    server.faults = ["hang"] * 3
    message = failure(tmp_path, server.url)
    assert server.url + TRAIN in message
    assert "no answer for 0.05 s" in message


def test_timeout_in_the_middle(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "TIMEOUT", 0.05)
    server.faults = ["stall"] * 3
    message = failure(tmp_path, server.url)
    assert server.url + TRAIN in message
    assert "no answer for 0.05 s" in message
    assert len(server.requests) == 3


def test_connection_refused(server: Server, tmp_path: Path) -> None:
    with socket.socket() as held:  # bound but not listening, so that nobody else takes the port
        held.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{held.getsockname()[1]}"
        message = failure(tmp_path, address)
    assert address + TRAIN in message
    assert "refused" in message
    assert "--mirror" in message


def test_offline(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_name(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", no_name)
    message = failure(tmp_path, "https://mirror.invalid/multiwoz")
    assert f"https://mirror.invalid/multiwoz{TRAIN}" in message
    assert "host name could not be found" in message


def test_host_name_that_no_resolver_takes(server: Server, tmp_path: Path) -> None:
    assert "not an address that can be opened" in failure(tmp_path, f"http://{'a' * 64}.invalid")


@pytest.mark.parametrize(
    "mirror",
    ["file:///etc", "ftp://host/path", "host/path", "", "http://", "http://host:99999", "http://[bad", "http://a b/"],
)
def test_mirror_must_be_a_web_address(tmp_path: Path, mirror: str) -> None:
    message = failure(tmp_path / "out", mirror)
    assert "--mirror" in message
    assert repr(mirror) in message
    assert not (tmp_path / "out").exists()


def test_mirror_with_a_password_is_not_repeated(tmp_path: Path) -> None:
    message = failure(tmp_path, "https://me:secret@host/path")
    assert "user name or password" in message
    assert "secret" not in message


@pytest.mark.parametrize("blocked", ["", "domains", "domains/hotel"])
def test_out_is_not_a_folder(server: Server, tmp_path: Path, blocked: str) -> None:
    out = tmp_path / "out"
    (out / blocked).parent.mkdir(parents=True, exist_ok=True)
    (out / blocked).write_bytes(b"mine")
    message = failure(out, server.url)
    assert str(out) in message
    assert "--out" in message
    assert (out / blocked).read_bytes() == b"mine"
    assert server.requests == []


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="permissions do not bind this user")
def test_out_is_not_writable(server: Server, tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    assert "Permission denied" in failure(tmp_path, server.url)


def test_full_disk_is_not_a_network_error(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Full(io.BytesIO):
        def write(self, _: object) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

    opened = Path.open
    monkeypatch.setattr(Path, "open", lambda path, mode="r": Full() if mode in ("ab", "wb") else opened(path, mode))
    message = failure(tmp_path, server.url)
    assert f"{train(tmp_path)} cannot be written (No space left on device)" in message
    assert len(server.requests) == 1


def test_file_is_on_the_disk_before_it_has_its_name(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(_: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fsync", fails)
    assert "Input/output error" in failure(tmp_path, server.url)
    assert tree(tmp_path) == {"domains/hotel/train.tsv.part"}


@pytest.mark.parametrize("linked", ["domains", "domains/hotel", "domains/hotel/train.tsv.part"])
def test_never_writes_outside(server: Server, tmp_path: Path, linked: str) -> None:
    outside, out = tmp_path / "outside", tmp_path / "out"
    outside.mkdir()
    link = out / linked
    link.parent.mkdir(parents=True)
    link.symlink_to(outside / "new" if linked.endswith(".part") else outside)
    assert "leads out of" in failure(out, server.url)
    assert list(outside.iterdir()) == []
    assert server.requests == []

"""`gradual download multiwoz` where the server, the address or the folder fails: one sentence, and nothing is lost."""

import errno
import io
import os
import socket
from pathlib import Path

import pytest
from download_server import CONTENT, TRAIN, Server, failure, fetch, git_blob_id, part_with, train, tree

from gradual.tasks.dialogue import download


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


@pytest.mark.parametrize(("fault", "requests"), [("404", 1), ("403", 1), ("503", 3), ("429", 3)])
def test_http_error(server: Server, tmp_path: Path, fault: str, requests: int) -> None:
    server.faults = [fault] * 3
    message = failure(tmp_path, server.url)
    assert server.url + TRAIN in message
    assert f"answered {fault}" in message
    assert f"put it at {train(tmp_path)}" in message
    assert len(server.requests) == requests
    assert tree(tmp_path) == set()


@pytest.mark.parametrize(("fault", "said"), [("", f"gives {len(CONTENT)} bytes"), ("unsized", "gives on")])
def test_too_large(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str, said: str) -> None:
    monkeypatch.setattr(download, "LARGEST", len(CONTENT) - 1)
    server.faults = [fault]
    assert said in failure(tmp_path, server.url)
    assert len(server.requests) == 1
    assert tree(tmp_path) == set()


@pytest.mark.parametrize("fault", ["hang", "stall"])  # at the start, and in the middle
def test_timeout(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str) -> None:
    monkeypatch.setattr(download, "TIMEOUT", 0.05)
    server.faults = [fault] * 3
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

"""A web server on this machine with files to download and faults to choose, and downloads from it."""

import argparse
import hashlib
import threading
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

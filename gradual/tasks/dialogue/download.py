"""``gradual download multiwoz``: the public MultiWOZ 2.0 files, each checked against its git blob id.

The usual library for such files, ``pooch``, starts a broken download from the beginning; this one resumes it.
"""

import argparse
import hashlib
import http.client
import os
import shlex
import socket
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from gradual.errors import InputError
from gradual.files import put_in_place

DOMAIN_BASE = "https://raw.githubusercontent.com/fe1ixxu/Gradual-Finetune/1b6dad326bb33665445c5fa17395f85adc2f9f3d"
ALL_BASE = "https://raw.githubusercontent.com/SKTBrain/SUMBT/55b3f1b9aca3f5dc10580bb2de01bd27b7f84010"
TIMEOUT = 30.0  # seconds without a byte
RETRY_DELAYS = (1.0, 3.0, 9.0)  # seconds before each further try of a connection that broke
CHUNK = 1 << 16
LARGEST = 1 << 28  # bytes: many times the largest of the files

_CONFIGURED = ("restaurant", "hotel")  # domains with a configuration of their own
_ONTOLOGY = "24b4fc6c4a80b212d83ca6c581be3b5f02ea40a8"
# Git blob ids: a domain, then each file's name less .tsv and its id. Both addresses name a commit, so none changes.
_TABLE = """
attraction train 292178ed09c4c0d4c720c7377759daa92be04898 train500 21e07cfb50073092bdae35ffd3361d04c3cb296e
attraction train2000 86338dc15d399b8f0f21f1c233b26bff6718906c train4000 f0d03d86776e071fb9db0242e00e2c92050cbf76
attraction dev 3a9fa80bca3cd7081e3ec01a70e2a7a9f8df4811 test 540bc671952484fc934224974ccc4946623d855a
hotel train 41bfae98821673d4cb6e6e2c7eb8602a841b10a3 train500 3e039f4ae66fcc4499c38a9208964ab19e57cd07
hotel train2000 eeaa6c2675fbab608e3ea672d4876d5a63b9d42a train4000 3c6e6d7afa8db30afe8b703ce6c9b1d74fc7708c
hotel dev 1ee08eea0bf81b19a2cc5b158de1c4de6469ce9c test 4d5a2603c808261229133397d7c7c7a71899e2b8
restaurant train da932961708e163f819b5ca27d7b1fa6d3fd1e4f train500 cf1f97b74c74ed6e31859ff5318d5187b3dab2ca
restaurant train2000 3fa668550e36cbd7929de92296521e710feb30ec train4000 59d3d93a9cc8e8a654c6295f956a9710785a74b6
restaurant dev 8c15a1c1d8de0f64333ec556eb6b676ebe055735 test f2cd8c7e6bf66b52ba885f4ad30896bea36a2eab
taxi train 934625502c8e66e7a290f974f23314bba4e63e1d train500 7e25043943315089869f0452eb8224051031b164
taxi train2000 70b82242d38fe3fb0608066a99681b2b180141a9 train4000 8559731eac3d501c51a31f24eaf6f779a2dbc158
taxi dev 634be168a0742630423c0f34d3601dc0b57cec1a test 062680bd48ce2092c67d13633f6da82e57fc271f
train train 78c24975dcfc38e8116e87c83717bc78b01f007d train500 725d50ada1c1805bcab8dbfbc0137c6bc1772d05
train train2000 90486fbf6fe40f8221746dc92966421707477cbc train4000 6548dfacd73ec87d4b9e6ba01080fa47d540e9ee
train dev 170692c558b5cd84aeafb147f7183bd7c7149390 test b7685cde74d26c424b1075064af144f27eaaff34
all train 66c2161e86f4e29353175997af99cc5e31d16380 dev 3173dfc84fb2f853e53c09d66421605dfb238ee1
all test 814902443fa56ea872830860265623b0271d966c
"""


def _checksums() -> dict[str, dict[str, str]]:
    checksums: dict[str, dict[str, str]] = {}
    for domain, *fields in map(str.split, _TABLE.strip().splitlines()):
        blobs = {f"{name}.tsv": blob for name, blob in zip(fields[::2], fields[1::2])}
        checksums.setdefault(domain, {"ontology.json": _ONTOLOGY}).update(blobs)
    return checksums


CHECKSUMS = _checksums()  # by domain and file name


@dataclass(frozen=True)
class _File:
    url: str
    target: str  # below --out
    blob: str


class _NetworkError(Exception):
    def __init__(self, reason: str, *, retry: bool) -> None:
        super().__init__(reason)
        self.retry = retry


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``gradual download``.

    Args:
        parser: The parser of this subcommand.
    """
    parser.add_argument("corpus", choices=["multiwoz"], help="the corpus to download")
    parser.add_argument("--out", metavar="DIR", required=True, help="the folder to put it in")
    parser.add_argument(
        "--domains",
        metavar="NAME",
        nargs="+",
        choices=list(CHECKSUMS),
        default=["restaurant", "hotel"],
        help=f"any of {', '.join(CHECKSUMS)}, where `all` is the whole training set (default: restaurant hotel)",
    )
    parser.add_argument("--mirror", metavar="URL", help="fetch the same paths below this address instead of GitHub's")


def run(arguments: argparse.Namespace) -> None:
    """Download missing files, and suggest the next command.

    Args:
        arguments: The parsed options that ``add_arguments`` declares.

    Raises:
        InputError: The folder or the mirror is unusable, a server is unreachable, or a file has the wrong content.
    """
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    files = _files(arguments.domains, arguments.mirror)
    root = Path(arguments.out)
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    progress = Progress(*columns, console=Console())
    # Never started without a terminal: even a disabled Progress prints an empty line when it stops.
    with progress if sys.stdout.isatty() else nullcontext():
        for file in files:
            task = progress.add_task(file.target, total=None)
            outcome = _fetch(file, root, partial(progress.update, task))
            progress.remove_task(task)
            progress.console.print(f"{file.target}: {outcome}", markup=False, highlight=False, soft_wrap=True)
    print(f"The files are in {root}. {_next_step(arguments.domains, shlex.quote(arguments.out))}")


def _next_step(domains: Sequence[str], root: str) -> str:
    """Suggest a command that works with the domains that were downloaded."""
    own = [domain for domain in domains if domain != "all"]
    if not own:
        return f"Next, a domain to adapt to:\n  gradual download multiwoz --out {root} --domains restaurant"
    domain = next((name for name in own if name in _CONFIGURED), own[0])
    config = f"configs/multiwoz/{domain if domain in _CONFIGURED else _CONFIGURED[0]}.yaml"
    more = "" if domain in _CONFIGURED else f" --data.domain {domain} --run_dir runs/multiwoz-{domain}"
    return f"Next, for the {domain} domain:\n  gradual fit --config {config} --data.root {root}{more}"


def _blob_id(path: Path) -> str:
    with path.open("rb") as source:
        digest = hashlib.sha1(b"blob %d\0" % os.fstat(source.fileno()).st_size, usedforsecurity=False)
        while chunk := source.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _files(domains: Sequence[str], mirror: str | None) -> list[_File]:
    base = None if mirror is None else _mirror_base(mirror)
    files = []
    for domain in dict.fromkeys(domains):
        folder = "" if domain == "all" else f"domains/{domain}/"
        start = f"{base or ALL_BASE}/" if domain == "all" else f"{base or DOMAIN_BASE}/SUMBT/"
        start += f"data/multiwoz/{folder}"
        files += [_File(start + name, folder + name, blob) for name, blob in CHECKSUMS[domain].items()]
    return files


def _mirror_base(mirror: str) -> str:
    try:
        parts = urllib.parse.urlsplit(mirror)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if usable and "@" in parts.netloc:
        raise InputError("--mirror must be an address without a user name or password.")
    if not usable or not mirror.isascii() or not mirror.isprintable() or any(mark in mirror for mark in " ?#"):
        raise InputError(f"--mirror must be an address such as https://HOST/PATH (http or https), not {mirror!r}.")
    return mirror.rstrip("/")


def _fetch(file: _File, root: Path, track: Callable[..., None]) -> str:
    target = root / file.target
    part = target.with_name(target.name + ".part")
    try:
        return _bring(file, target, part, root, track)
    except _NetworkError as error:
        advice = f"run the same command again to resume, give --mirror URL, or get it elsewhere and put it at {target}"
        raise InputError(f"{file.url} could not be fetched: {error}; {advice}.") from error
    except OSError as error:
        raise InputError(f"{target} cannot be written ({error.strerror}); mend that or give another --out.") from error


def _bring(file: _File, target: Path, part: Path, root: Path, track: Callable[..., None]) -> str:
    there = target.exists()
    if there and _blob_id(target) == file.blob:
        return "already there"
    if not Path(os.path.realpath(part)).is_relative_to(os.path.realpath(root)):
        raise InputError(f"{part} is a link that leads out of {root}; remove the link or give another --out.")
    part.parent.mkdir(parents=True, exist_ok=True)
    # A run that ended between the last byte and the rename has left a part that is whole.
    if not part.exists() or _blob_id(part) != file.blob:
        _receive_with_retries(file.url, part, track)
        found = _blob_id(part)
        if found != file.blob:
            part.unlink()
            wrong = f"{target.name} from {file.url} is not the right file (expected {file.blob}, found {found})"
            raise InputError(f"{wrong}; run again, give another --mirror, or get it elsewhere and put it at {target}.")
    put_in_place(part, target)
    return f"{target.stat().st_size} bytes" + (" (replaced a different file)" if there else "")


def _receive_with_retries(url: str, part: Path, track: Callable[..., None]) -> None:
    for delay in (*RETRY_DELAYS, None):
        try:
            return _receive(url, part, track)
        except _NetworkError as error:
            if delay is None or not error.retry:
                raise
            time.sleep(delay)


def _receive(url: str, part: Path, track: Callable[..., None]) -> None:
    done = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={done}-"} if done else {})
    with _network_errors():
        try:
            response = urllib.request.urlopen(request, timeout=TIMEOUT)
        except urllib.error.HTTPError as error:
            if error.code != 416 or not done:
                raise
            error.close()  # the part is longer than the file: start over
            response = urllib.request.urlopen(url, timeout=TIMEOUT)
    resumed = response.status == 206
    done = done if resumed else 0
    length = response.headers.get("Content-Length", "")
    total = done + int(length) if length.isdecimal() else None
    if total is not None and total > LARGEST:
        response.close()
        raise _NetworkError(f"the server gives {total} bytes, and no file here has more than {LARGEST}", retry=False)
    with response, part.open("ab" if resumed else "wb") as sink:
        track(completed=done, total=total)
        read = _network_errors()(response.read)  # the errors of reading only: those of writing are the disk's
        while chunk := read(CHUNK):
            done += len(chunk)
            if done > LARGEST:
                part.unlink()
                raise _NetworkError(f"no file here has more than {LARGEST} bytes, and the server gives on", retry=False)
            sink.write(chunk)
            track(completed=done, total=total)
    # http.client ends the body without an error when the connection closes early.
    if total is not None and done < total:
        raise _NetworkError(f"the connection was closed after {done} of {total} bytes", retry=True)


@contextmanager
def _network_errors() -> Iterator[None]:
    try:
        yield
    except urllib.error.HTTPError as error:
        error.close()
        name = http.client.responses.get(error.code, "an unknown status")
        retry = error.code == 429 or error.code >= 500
        raise _NetworkError(f"the server answered {error.code} ({name})", retry=retry) from error
    except urllib.error.URLError as error:
        raise _NetworkError(_reason(error.reason), retry=False) from error
    except (UnicodeError, http.client.InvalidURL) as error:
        raise _NetworkError("this is not an address that can be opened", retry=False) from error
    except (OSError, http.client.HTTPException) as error:
        raise _NetworkError(_reason(error), retry=True) from error


def _reason(error: object) -> str:
    match error:
        case socket.gaierror():
            return "the host name could not be found (is this machine offline?)"
        case ConnectionRefusedError():
            return "the connection was refused"
        case TimeoutError():
            return f"there was no answer for {TIMEOUT:g} s"
        case _:
            return f"the connection failed ({getattr(error, 'strerror', None) or error})"

"""Files are written whole or not at all, and one process at a time holds a lock."""

import os
import signal
import threading
import time
from pathlib import Path

import pytest

from gradual.errors import InputError
from gradual.files import read_json, whole_file, whole_folder, write_atomically
from gradual.lock import Held, lock


class Crash(Exception):
    """The machine stops."""


def crash(*_, **__):
    raise Crash


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    for path in (tmp_path, tmp_path / "missing.json"):
        with pytest.raises(InputError) as caught:
            read_json(path)
        assert str(path) in str(caught.value)


def test_a_file_is_written_whole(tmp_path):
    path = tmp_path / "file"
    for text in ("first", "the second, longer", "", "äöü 語\nline\n"):
        write_atomically(path, text)
        assert path.read_bytes() == text.encode()
        assert list(tmp_path.iterdir()) == [path], "nothing else is left"


WAYS_TO_CRASH = [(os, "fsync"), (os, "replace"), (os, "rename"), (Path, "replace"), (Path, "rename")]


def test_a_crash_leaves_the_old_content_and_no_half_of_the_new(tmp_path, monkeypatch):
    path = tmp_path / "file"
    write_atomically(path, "old")
    crashes = 0
    for owner, name in WAYS_TO_CRASH:
        with monkeypatch.context() as patch:
            patch.setattr(owner, name, crash)
            try:
                write_atomically(path, f"new {crashes}")
            except Crash:
                crashes += 1
                assert path.read_text() == "old"
            else:
                write_atomically(path, "old")
    assert crashes >= 2, "the content goes to the disk first and is moved to its place then"
    write_atomically(path, "new")
    assert path.read_text() == "new"


def test_the_content_is_on_the_disk_before_it_is_moved_to_its_place(tmp_path, monkeypatch):
    path, happened = tmp_path / "file", []
    real = os.fsync

    def fsync(descriptor):
        happened.append(path.exists())
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    write_atomically(path, "text")
    assert happened[0] is False
    assert path.exists()


def test_two_processes_may_write_a_file_at_the_same_time(tmp_path, monkeypatch):
    path, real = tmp_path / "file", os.fsync

    def meanwhile(descriptor):
        monkeypatch.setattr(os, "fsync", real)
        write_atomically(path, "of the other")
        real(descriptor)

    monkeypatch.setattr(os, "fsync", meanwhile)
    write_atomically(path, "of the one")
    assert path.read_text() == "of the one"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("mask", [0o022, 0o077, 0o002])
def test_a_file_has_the_permissions_of_a_new_file_even_if_a_library_makes_it_anew(tmp_path, mask):
    path, before = tmp_path / "file", os.umask(mask)
    try:
        with whole_file(path) as temporary:
            assert temporary.parent == path.parent
            temporary.unlink()
            temporary.touch(0o600)
    finally:
        os.umask(before)
    assert path.stat().st_mode & 0o777 == 0o666 & ~mask


def test_a_failed_write_leaves_the_old_file_alone(tmp_path):
    path = tmp_path / "file"
    write_atomically(path, "old")
    with pytest.raises(Crash), whole_file(path) as temporary:
        crash(temporary.write_text("half of"))
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_the_old_file_moves_to_its_backup_only_when_the_new_one_is_on_the_disk(tmp_path, monkeypatch):
    path, backup = tmp_path / "file", tmp_path / "backup"
    for number in range(3):
        with whole_file(path, backup) as temporary:
            temporary.write_text(str(number))
    assert (path.read_text(), backup.read_text()) == ("2", "1")
    monkeypatch.setattr(os, "fsync", crash)
    with pytest.raises(Crash), whole_file(path, backup) as temporary:
        temporary.write_text("3")
    assert (path.read_text(), backup.read_text()) == ("2", "1")


# Locks


def test_a_folder_is_written_whole_with_the_permissions_of_new_files(tmp_path, monkeypatch):
    synced = []
    monkeypatch.setattr(os, "fsync", lambda at: synced.append(Path(f"/proc/self/fd/{at}").readlink()))
    target, before = tmp_path / "new/model", os.umask(0o027)
    try:
        with whole_folder(target) as work:
            (work / "part").mkdir()
            (work / "part/weights").write_bytes(b"123")
            (work / "part/weights").chmod(0o600)
            assert not target.exists()
    finally:
        os.umask(before)
    assert (target / "part/weights").read_bytes() == b"123"
    assert (target / "part/weights").stat().st_mode & 0o777 == 0o640
    assert [path.name for path in synced] == ["weights", "new"]
    assert list(target.parent.iterdir()) == [target]


def test_a_folder_with_content_is_refused_and_a_failed_one_leaves_nothing(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(Crash), whole_folder(tmp_path / "empty") as work:
        crash((work / "half").touch())
    assert list(tmp_path.rglob("*")) == [tmp_path / "empty"]
    with whole_folder(tmp_path / "empty") as work:
        (work / "all").touch()
    for taken in (tmp_path / "empty", tmp_path / "empty/all"):
        with pytest.raises(InputError, match=rf"^{taken} exists: choose another folder"), whole_folder(taken):
            raise AssertionError
    assert [path.name for path in tmp_path.rglob("*")] == ["empty", "all"]


def test_a_lock_is_waited_for_and_ends_with_its_process(tmp_path):
    path, waited = tmp_path / "a.lock", []
    ready, told = os.pipe()
    child = os.fork()
    if child == 0:
        with lock(path):
            os.write(told, b"x")
            signal.pause()
    os.read(ready, 1)
    with pytest.raises(Held, match=rf"^process {child} on .* since 20"), lock(path):
        pass

    def kill():
        waited.append(True)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)

    with lock(path, kill):
        assert waited == [True]
    with lock(path):  # free again
        pass


def test_threads_of_one_process_wait_for_each_other(tmp_path):
    path, inside, most = tmp_path / "a.lock", [], []

    def work():
        with lock(path, lambda: None):
            inside.append(True)
            time.sleep(0.01)
            most.append(len(inside))
            inside.pop()

    threads = [threading.Thread(target=work) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1] * 5
    with lock(path), pytest.raises(Held, match="another thread"), lock(path):
        pass


def test_a_file_system_without_locks_is_warned_about(tmp_path, monkeypatch, caplog):
    def cannot(*_):
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr("fcntl.lockf", cannot)
    with lock(tmp_path / "a.lock"):
        pass
    assert "cannot be locked (Function not implemented)" in caplog.text

"""The cache of files: made once, shared, made again when it is damaged, and named when it cannot be written."""

import errno
import multiprocessing
import os
import time
from pathlib import Path

import pytest
from row_files import refused
from tokenized_files import ROWS, WORDS, save_tokenizer, write

import gradual.data.cache
import gradual.data.cache_folder
from gradual import FileDataModule


def test_files_of_known_content_are_not_tokenized_again(make, tmp_path, made, tokenizer_folder):
    file, other = write(tmp_path / "a.jsonl", ROWS), write(tmp_path / "copy.jsonl", ROWS)
    for _ in range(2):
        make(file, None, other, file, tokens=True).setup()
        assert made == ["a.jsonl"], "the same content under another name is the same"
    make(file, tokens=True, max_length=3).setup()
    make(file).setup()
    make(file, columns=["text"]).setup()
    save_tokenizer(tmp_path / "other", ["[PAD]", "[UNK]", *reversed(WORDS)])
    make(file, tokens=True, tokenizer=str(tmp_path / "other")).setup()
    assert made == ["a.jsonl"] * 5
    write(Path(file), [*ROWS[:-1], {**ROWS[-1], "label": 2}])  # as long as before
    changed = make(file, tokens=True)
    assert changed.domains.in_domain[19]["label"] == 2
    assert made == ["a.jsonl"] * 6


def test_stages_fits_and_tests_read_the_files_once(make, tmp_path, monkeypatch):
    reads, original = [], gradual.data.files.read_tables
    monkeypatch.setattr(gradual.data.files, "read_tables", lambda *a: (reads.append(a[0]), original(*a))[1])
    data = make(write(tmp_path / "a.jsonl", ROWS), write(tmp_path / "pool.jsonl", ROWS), tokens=True)
    data.schedule = [5, 0]
    for stage in ("fit", "test"):
        data.prepare_data()
        data.setup(stage)
    for k in (0, 1):
        data.set_stage(k)
        list(data.train_dataloader())
    assert len(reads) == 1


def test_an_old_file_is_not_read_again_to_learn_that_it_is_the_same(make, tmp_path, monkeypatch):
    file = write(tmp_path / "a.jsonl", ROWS)
    monkeypatch.setattr(time, "time_ns", lambda: Path(file).stat().st_mtime_ns + 10**10)
    make(file).setup()
    monkeypatch.setattr(gradual.data.cache_folder, "sha256", None)
    make(file).setup()


@pytest.mark.parametrize("damage", ["truncated", "missing", "no state"])
def test_a_damaged_table_is_made_again(make, tmp_path, made, caplog, damage):
    file = write(tmp_path / "a.jsonl", ROWS)
    make(file, tokens=True).setup()
    (arrow,) = (tmp_path / "cache").glob("*/data-*.arrow")
    if damage == "truncated":
        arrow.write_bytes(arrow.read_bytes()[: arrow.stat().st_size // 2])
    else:
        (arrow if damage == "missing" else arrow.with_name("state.json")).unlink()
    assert len(make(file, tokens=True).domains.in_domain) == 20
    assert made == ["a.jsonl"] * 2
    assert "is damaged and is created again" in caplog.text


def cache_that_is(kind, folder, monkeypatch):
    """A fault of the cache folder; permissions alone are none for a superuser, who runs many a test."""

    def full(*_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def read_only(*_, **__):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(folder))

    if kind == "a file":
        folder.write_text("not a folder")
    elif kind == "read-only":
        monkeypatch.setattr("gradual.data.cache_folder.lock", read_only)
        monkeypatch.setattr("gradual.data.cache.write_atomically", read_only)
    elif kind == "full for tokens":
        monkeypatch.setattr("datasets.Dataset.map", full)
    else:
        monkeypatch.setattr("datasets.Dataset.save_to_disk", full)


FAULTS = {
    "a file": "File exists",
    "read-only": "Permission denied",
    "full for tokens": "No space left on device",
    "full": "No space left on device",
}


@pytest.mark.parametrize("kind", FAULTS)
def test_a_cache_folder_that_takes_nothing_is_named(make, tmp_path, monkeypatch, kind):
    file = write(tmp_path / "a.jsonl", ROWS)
    os.utime(file, (1, 1))  # old enough for a note of its content
    cache_that_is(kind, tmp_path / "cache", monkeypatch)
    said = f"The cache folder {tmp_path / 'cache'} cannot be written to ({FAULTS[kind]}): make room, or choose another"
    assert said in refused(make(file, tokens=True))
    assert not list(tmp_path.glob("cache/*.tmp"))


def test_a_cache_folder_that_is_full_of_what_is_needed_need_not_be_written(make, tmp_path, monkeypatch):
    file = write(tmp_path / "a.jsonl", ROWS)
    assert len(make(file, tokens=True).domains.in_domain) == len(ROWS)
    os.utime(file, (1, 1))
    cache_that_is("read-only", tmp_path / "cache", monkeypatch)
    assert len(make(file, tokens=True).domains.in_domain) == len(ROWS)


def test_an_interrupted_tokenization_is_done_again(make, tmp_path, made, monkeypatch):
    file = write(tmp_path / "a.jsonl", ROWS)
    with monkeypatch.context() as patch:
        patch.setattr(gradual.data.cache, "tokenize", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            make(file, tokens=True).setup()
    assert len(make(file, tokens=True).domains.in_domain) == 20
    assert len(made) == 2
    assert not list((tmp_path / "cache").glob("*.tmp"))


def _open_at_once(arguments, log, barrier):
    original = gradual.data.cache._make

    def slowly(*given):
        with Path(log).open("a") as file:
            file.write("made\n")
        time.sleep(0.3)
        original(*given)

    gradual.data.cache._make = slowly
    data = FileDataModule(**arguments)
    barrier.wait()
    data.prepare_data()
    data.setup()
    assert len(data.domains.in_domain) == 20


def test_one_of_two_processes_tokenizes_and_the_other_waits(tmp_path, tokenizer_folder):
    file, log = write(tmp_path / "a.jsonl", ROWS), tmp_path / "log"
    arguments = {"in_domain": file, "cache_dir": str(tmp_path / "cache")}
    arguments |= {"text_column": "text", "tokenizer": tokenizer_folder}
    context = multiprocessing.get_context("fork")
    barrier = context.Barrier(2)
    both = [context.Process(target=_open_at_once, args=(arguments, log, barrier)) for _ in range(2)]
    for process in both:
        process.start()
    for process in both:
        process.join(120)
    assert [process.exitcode for process in both] == [0, 0]
    assert log.read_text() == "made\n"


def test_only_tables_and_notes_are_kept(module, put, tmp_path):
    file = put("a.csv", "text,label\na,1\n")
    module(in_domain=file).setup()
    refused(module(in_domain=file, val=put("b.jsonl", '{"text": 1, "label": 1}\n')))
    assert {path.suffix for path in (tmp_path / "cache").iterdir()} <= {"", ".found", ".lock"}
    for note in (tmp_path / "cache").glob("*.found"):
        note.write_bytes(note.read_bytes()[:20])
    assert len(module(in_domain=file).domains.in_domain) == 1

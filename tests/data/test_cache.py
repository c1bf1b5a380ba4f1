"""The cache of files: made once, shared, made again when it is damaged, and named when it cannot be written."""

from row_files import refused


def test_only_tables_and_notes_are_kept(module, put, tmp_path):
    file = put("a.csv", "text,label\na,1\n")
    module(in_domain=file).setup()
    refused(module(in_domain=file, val=put("b.jsonl", '{"text": 1, "label": 1}\n')))
    assert {path.suffix for path in (tmp_path / "cache").iterdir()} <= {"", ".found", ".lock"}
    for note in (tmp_path / "cache").glob("*.found"):
        note.write_bytes(note.read_bytes()[:20])
    assert len(module(in_domain=file).domains.in_domain) == 1

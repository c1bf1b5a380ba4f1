"""Labels in files: text and numbers, and what training and other parts need of them."""

from row_files import examples, refused
from tokenized_files import ROWS, write


def test_labels_are_text_whatever_the_file_or_the_piece_that_they_are_in(module, put):
    files = [put("1.csv", "text,label\na,B\nb,03\n"), put("2.csv", "text,label\nc,03\nd,04\n")]
    many = put("3.csv", "text,label\n" + "c,03\nd,04\n" * 1100 + "a,B\nb,03\n" * 1100)
    for those in (files, files[::-1], [many], [*files, many]):
        data = module(in_domain=those, label_column="label")
        data.setup()
        assert data.label_names == ["03", "04", "B"]
    numbers, text = put("4.csv", "text,label\na,1\nb,0\n"), put("5.csv", "text,label\nc,x\nd,1\n")
    data = module(in_domain=numbers, out_of_domain=text, val=numbers, label_column="label")
    data.setup()
    assert data.label_names == ["0", "1", "x"]
    assert [row["label"] for row in examples(data.domains.val)] == [1, 0]
    data = module(in_domain=numbers, label_column="label")
    assert [row["label"] for row in examples(data.domains.in_domain)] == [1, 0]
    assert data.label_names == []


def test_labels_that_are_text_become_numbers(make, tmp_path):
    def file(name, labels):
        return write(tmp_path / f"{name}.csv", [{"text": "a", "label": label} for label in labels])

    files = [file("in", "bc"), file("pool", "cab"), file("val", "ba"), None, file("predict", "bz")]
    data = make(*files, label_column="label")
    domains = data.domains
    assert data.label_names == ["a", "b", "c"]
    assert [row["label"] for row in domains.out_of_domain.__getitems__([0, 1, 2])] == [2, 0, 1]
    assert [domains.val[0]["label"], domains.val[1]["label"]] == [1, 0]
    assert [domains.predict[0]["label"], domains.predict[1]["label"]] == [1, -100]
    message = refused(make(files[0], None, files[4], label_column="label"))
    assert message == f"val ({files[4]}) has the label 'z', which is in no training file."


def test_data_to_predict_needs_no_label(make, tmp_path):
    file, unlabelled = write(tmp_path / "a.jsonl", ROWS), write(tmp_path / "new.jsonl", [{"text": "the cat"}])
    for columns in (None, []):
        data = make(file, predict=unlabelled, tokens=True, label_column="label", columns=columns)
        (batch,) = data.predict_dataloader()
        assert set(batch) == {"input_ids", "attention_mask"}

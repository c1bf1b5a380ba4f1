"""Labels in files: text and numbers, and what training and other parts need of them."""

from row_files import examples


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

"""CoNLL files come out as the sentences that were written, or are refused with the line."""

import re
import tempfile
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from gradual import FileDataModule, InputError
from gradual.data.conll import read_conll
from gradual.data.formats import Columns

WORD = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\t\r\n "), min_size=1, max_size=5)
WORD = (WORD | st.sampled_from(["#", "#tag", "=", "-X-", "\u00a0", "\u2028", "\ufeffa"])).filter(str.strip)
SPACED = st.builds(" ".join, st.lists(WORD, min_size=1, max_size=3))  # which tabs allow
TAG = st.sampled_from(["O", "B-PER", "I-PER", "NOUN"])
BETWEEN = ["", "  ", "\t", "-DOCSTART- -X- O O\n", "-DOCSTART-\tO\n"]
COMMENT = st.sampled_from(["#", "# text", "# sent_id = 3 of the first text", "# one two three four five six"])


def sentences(path: Path, names=None) -> list[dict]:
    """All examples of a file."""
    found = []
    for rows in read_conll(path, Columns(names)):
        assert {len(array) for array in rows.columns.values()} <= {len(rows.places)}
        found += [dict(zip(rows.columns, row)) for row in zip(*(array.to_pylist() for array in rows.columns.values()))]
    return found


@st.composite
def files(draw):
    """The text of a file, and its sentences as lists of words with their columns."""
    width = draw(st.integers(1, 4))
    tabs = width > 1 and draw(st.booleans())
    inner = st.tuples(*[SPACED if tabs else WORD] * max(1, width - 1))
    words = st.builds(lambda first, last: (*first, last)[:width] if width > 1 else first, inner, TAG)
    written = draw(st.lists(st.lists(words, min_size=1, max_size=4), min_size=1, max_size=4))
    rows = [("\t" if tabs else " ").join(word) for each in written for word in each]
    assume(any(row != "#" and not row.startswith("# ") for row in rows))  # or it could be comments alone
    assume(tabs or not any(re.match(r"#\s*\S+\s*=\s", row) for row in rows))  # comments that name a value
    end = draw(st.sampled_from(["\n", "\r\n"]))
    lines = []
    for sentence in written:
        lines += draw(st.lists(COMMENT.filter(lambda text: len(text.split()) != width), max_size=2))
        lines += [draw(st.sampled_from(["\t"] if tabs else [" ", "   "])).join(word) for word in sentence]
        lines += draw(st.lists(st.sampled_from(BETWEEN), min_size=1, max_size=3))
    text = end.join(line.replace("\n", end) for line in lines)
    return text + draw(st.sampled_from(["", end])), written


@given(files())
def test_sentences_come_out_as_they_went_in(case):
    text, written = case
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "a.txt"
        path.write_bytes(text.encode("utf-8-sig"))  # else a first word could be a byte order mark
        found = sentences(path)
        numbered = sentences(path, tuple(str(number + 1) for number in range(len(written[0][0]))))
    assert [list(map(list, zip(*sentence))) for sentence in written] == [list(row.values()) for row in found]
    assert [list(row.values()) for row in numbered] == [list(row.values()) for row in found]
    assert (
        list(found[0])
        == [None, ["tokens"], ["tokens", "tags"], ["tokens", "2", "tags"], ["tokens", "2", "3", "tags"]][
            len(written[0][0])
        ]
    )


def put(tmp_path, name, text):
    (tmp_path / name).write_text(text, encoding="utf-8")
    return tmp_path / name


def test_columns_have_names_and_numbers(tmp_path):
    file = put(tmp_path, "a.conll", "EU NNP B-NP B-ORG\nsays VBZ B-VP O\n\nYes UH O O\n")
    assert sentences(file)[0] == {
        "tokens": ["EU", "says"], "2": ["NNP", "VBZ"], "3": ["B-NP", "B-VP"], "tags": ["B-ORG", "O"]
    }  # fmt: skip
    assert sentences(file, ("tokens", "2")) == [
        {"tokens": ["EU", "says"], "2": ["NNP", "VBZ"]},
        {"tokens": ["Yes"], "2": ["UH"]},
    ]
    assert sentences(file, ("4", "1"))[1] == {"4": ["O"], "1": ["Yes"]}
    for wrong in ("5", "upos"):
        with pytest.raises(InputError, match=rf"a\.conll has no column '{wrong}'; its columns are tokens, 2, 3, tags"):
            sentences(file, (wrong,))


CONLLU = """# sent_id = 1
# text = Gimme it
1-2\tGimme\t_\t_\t_\t_\t_\t_\t_\t_
1\tGim\tgive\tVERB\tVB\t_\t0\troot\t_\t_
2\tme\tI\tPRON\tPRP\t_\t1\tiobj\t_\t_
2.1\tnow\tnow\tADV\tRB\t_\t_\t_\t_\t_
3\tit\tit\tPRON\tPRP\t_\t1\tobj\t_\t_

1\t#\t#\tSYM\tSYM\t_\t0\troot\t_\t_
"""


def test_conllu_has_columns_of_its_own(tmp_path):
    rows = sentences(put(tmp_path, "a.conllu", CONLLU), ("tokens", "upos"))
    assert rows == [
        {"tokens": ["Gim", "me", "it"], "upos": ["VERB", "PRON", "PRON"]},
        {"tokens": ["#"], "upos": ["SYM"]},
    ]
    assert list(sentences(tmp_path / "a.conllu")[0])[:3] == ["index", "tokens", "lemma"]
    stated = put(tmp_path, "b.conll", "# global.columns = FORM UPOS\na X\n# b = c\n")
    with pytest.raises(InputError, match=r"b\.conll:3: found 4 columns separated by spaces, expected 2 \(tokens, upos"):
        sentences(stated)
    assert sentences(put(tmp_path, "b.conll", "# global.columns = FORM UPOS\na X\n\n# b = c\nd Y\n")) == [
        {"tokens": ["a"], "upos": ["X"]},
        {"tokens": ["d"], "upos": ["Y"]},
    ]


def test_a_word_may_begin_with_the_sign_of_comments(tmp_path):
    rows = sentences(put(tmp_path, "a.txt", "#one O\n# O\n\n# three words here\n# X\n\n# key = value\n#four B\n"))
    assert rows == [
        {"tokens": ["#one", "#"], "tags": ["O", "O"]},
        {"tokens": ["#"], "tags": ["X"]},
        {"tokens": ["#four"], "tags": ["B"]},
    ]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (
            "a O\n\nb\n",
            ":3: found 1 columns separated by spaces, expected 2 (tokens, tags) as in line 1; a line must be",
        ),
        (
            "\na\tO\nb B-X\n",
            ":3: found 1 columns separated by tabs, expected 2 (tokens, tags) as in line 2; a line must",
        ),
        ("a O\nb  c O\n", ":2: found 3 columns separated by spaces, expected 2 (tokens, tags) as in line 1"),
        ("a\tO\n\tO\n", ":2: column 1 is empty; a word without a value has '_' in CoNLL files."),
        ("a\tO\nb\t\n", ":2: column 2 is empty;"),
        ("a O\n# a comment here\n", ":2: found 4 columns"),
        ("a O\n\n#b\n", ":3: found 1 columns"),
        ("\n\n# nothing\n", " holds no examples."),
        ("a O\n\udcff O\n", ":2: not UTF-8 (byte 0xff); convert the file."),
    ],
)
def test_a_malformed_line_is_refused_with_its_place(tmp_path, text, says):
    (tmp_path / "a.txt").write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(InputError) as error:
        FileDataModule(str(tmp_path / "a.txt"), cache_dir=str(tmp_path / "cache"), num_proc=1).setup()
    assert f"a.txt{says}" in str(error.value)
    assert str(error.value).endswith(".")


def test_numbers_of_conllu_words_are_numbers(tmp_path):
    with pytest.raises(InputError, match=r"a\.conllu:3: found the word number '1:2', expected one such as 7, 7-8"):
        sentences(put(tmp_path, "a.conllu", CONLLU.replace("1-2", "1:2")))


def test_a_large_file_is_read_in_pieces_and_a_place_is_that_of_the_first_word(tmp_path):
    file = put(tmp_path, "a.bio", "".join(f"# {k} of 2500\nw{k} O\nx I-A\n\n" for k in range(2500)))
    pieces = list(read_conll(file, Columns()))
    assert [len(rows.places) for rows in pieces] == [1000, 1000, 500]
    assert pieces[1].places[:2] == [4 * 1000 + 2, 4 * 1001 + 2]
    assert pieces[2].columns["tokens"].type == pa.list_(pa.string())
    data = FileDataModule(str(file), str(file), cache_dir=str(tmp_path / "cache"), num_proc=1)
    assert data.pool_size == 2500
    assert data.domains.in_domain[2499] == {"tokens": ["w2499", "x"], "tags": ["O", "I-A"]}
    (batch,) = FileDataModule(
        str(file), val=str(put(tmp_path, "v.txt", "a O\n")), cache_dir=str(tmp_path / "cache")
    ).val_dataloader()
    assert batch == {"tokens": [["a"]], "tags": [["O"]]}


def test_words_alone_can_be_predicted(tmp_path):
    train, words = put(tmp_path, "a.txt", "a O\n"), put(tmp_path, "p.txt", "b\nc\n\nd\n")
    data = FileDataModule(str(train), predict=str(words), cache_dir=str(tmp_path / "cache"), num_proc=1)
    assert [data.domains.predict[index] for index in range(2)] == [{"tokens": ["b", "c"]}, {"tokens": ["d"]}]


def test_a_file_that_is_renamed_to_conllu_is_read_anew(tmp_path):
    def words(name):
        put(tmp_path, name, CONLLU)
        data = FileDataModule(str(tmp_path / name), cache_dir=str(tmp_path / "cache"), columns=["tokens"])
        return [example["tokens"] for example in data.load().in_domain]

    assert words("a.conll")[0][:3] == ["1-2", "1", "2"]
    assert words("a.conllu") == [["Gim", "me", "it"], ["#"]]

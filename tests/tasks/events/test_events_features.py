"""Documents to word pieces: every token has its pieces, every piece the window that says most about it."""

import copy

import numpy as np
import pytest
import torch
from events_examples import write_bert_tokenizer, write_roberta_tokenizer, write_xlm_roberta_tokenizer
from events_files import document, sentence

from gradual.errors import InputError
from gradual.nn.encoder import load_tokenizer
from gradual.tasks.events.features import DocumentFeatures
from gradual.tasks.events.labels import LabelSpace

WORDS = ("rebels", "shot", "two", "men")
LABELS = LabelSpace(("GPE", "PER"), ("PHYS",), ("Attack", "Die"), ("Attacker", "Place", "Target"))


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bert")
    write_bert_tokenizer(folder, WORDS)
    return load_tokenizer(str(folder), words=True)


@pytest.fixture(scope="module")
def roberta_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("roberta")
    write_roberta_tokenizer(folder)
    return str(folder)


@pytest.fixture(scope="module")
def xlm_roberta(tmp_path_factory):
    folder = tmp_path_factory.mktemp("xlm-roberta")
    write_xlm_roberta_tokenizer(folder)
    return load_tokenizer(str(folder), words=True)


def encode(tokenizer, *documents, max_length=64, **arguments):
    return DocumentFeatures(documents, tokenizer, LABELS, max_length, **arguments)


def pieces_by_token(encoded, tokenizer):
    """For each token its pieces as they stand in the windows, as text."""
    found = [[] for _ in range(encoded.length)]
    for row, column, token in zip(encoded.row, encoded.column, encoded.token, strict=True):
        found[token].append(tokenizer.convert_ids_to_tokens(int(encoded.windows[row][column])))
    return found


def only(features):
    """The one sentence of one document."""
    (encoded,) = features[0].sentences
    return encoded


# -------------------------------------------------------------------------------------------------- word pieces


def test_a_token_has_the_pieces_that_the_tokenizer_gives_it(bert):
    encoded = only(encode(bert, document("D", "Rebels SHOT sam")))
    assert pieces_by_token(encoded, bert) == [["rebels"], ["shot"], ["s", "##a", "##m"]]
    (window,) = encoded.windows
    assert bert.convert_ids_to_tokens(window) == ["[CLS]", "rebels", "shot", "s", "##a", "##m", "[SEP]"]
    assert encoded.length == 3


def test_a_token_of_which_nothing_is_left_is_an_unknown_piece(bert):
    """A control character, a zero-width space: at the start, in the middle, twice, at the end; and nothing else."""
    for tokens, expected in [
        (["\x07", "two", "men"], [["[UNK]"], ["two"], ["men"]]),
        (["two", "\x07", "\u200b", "oh", "\x07"], [["two"], ["[UNK]"], ["[UNK]"], ["o", "##h"], ["[UNK]"]]),
        (["\u200b"], [["[UNK]"]]),
    ]:
        encoded = only(encode(bert, document("D", sentence(tokens))))
        assert pieces_by_token(encoded, bert) == expected
        assert bert.convert_ids_to_tokens(encoded.windows[0])[:: len(encoded.windows[0]) - 1] == ["[CLS]", "[SEP]"]


def test_a_token_of_which_nothing_is_left_needs_an_unknown_piece(bert):
    bert = copy.deepcopy(bert)
    bert.unk_token = None
    assert only(encode(bert, document("D", "two men"))).length == 2
    with pytest.raises(InputError, match=r"no word pieces for the token '\\x07', and no unknown token"):
        encode(bert, document("D", sentence(["two", "\x07"])))


def test_tokens_that_look_like_special_pieces_or_hold_spaces_stay_one_token(bert):
    encoded = only(encode(bert, document("D", sentence(["two", "[SEP]", "two men", "men"]))))
    found = pieces_by_token(encoded, bert)
    assert [found[0], found[2], found[3]] == [["two"], ["two", "men"], ["men"]]
    assert found[1]


def test_words_are_those_of_running_text_for_byte_level_tokenizers(roberta_folder):
    """A word's first piece begins with the space before it, as in what the encoder was pretrained on."""
    tokenizer = load_tokenizer(roberta_folder, words=True)
    words = ["Rebels", "shot", "men", ",", "\u200b"]
    encoded = only(encode(tokenizer, document("D", sentence(words))))
    running = load_tokenizer(roberta_folder)
    assert pieces_by_token(encoded, tokenizer) == [running.tokenize(" " + word) for word in words]
    assert pieces_by_token(encoded, tokenizer)[1] == ["Ġshot"]
    assert running.tokenize("shot") == ["shot"], "for texts the tokenizer stays as it was saved"
    assert tokenizer.convert_ids_to_tokens(encoded.windows[0])[:2] == ["<s>", "Ġ"]
    assert tokenizer.convert_ids_to_tokens(encoded.windows[0])[-1] == "</s>"


def test_words_of_unigram_tokenizers(xlm_roberta):
    words = ["Rebels", "shot", "men", ",", "مدينة"]
    encoded = only(encode(xlm_roberta, document("D", sentence(words))))
    expected = [xlm_roberta.tokenize(word) for word in words]
    assert pieces_by_token(encoded, xlm_roberta) == [*expected[:-1], ["▁", "<unk>"]]
    assert all(pieces[0].startswith("▁") for pieces in pieces_by_token(encoded, xlm_roberta))
    whole = xlm_roberta(" ".join(words))["input_ids"]
    assert encoded.windows[0].tolist() == whole, "the pieces of a sentence are those of its text"


@pytest.mark.parametrize("words", [False, True])
def test_tokenizers_without_a_space_of_their_own_are_loaded_as_they_are(tmp_path, words):
    write_bert_tokenizer(tmp_path, WORDS)
    assert load_tokenizer(str(tmp_path), words=words).tokenize("Rebels shot") == ["rebels", "shot"]


# ------------------------------------------------------------------------------------------------------- windows


def test_a_sentence_over_the_limit_is_read_in_windows_and_loses_nothing(bert, capfd):
    long = ["sam", *WORDS, "\x07"] * 12
    features = encode(bert, document("D", sentence(long), "two men"), document("E", "men"), max_length=20)
    encoded, short = features[0].sentences
    assert features.windowed == 1
    assert len(encoded.windows) > 1
    assert len(short.windows) == 1
    assert pieces_by_token(encoded, bert) == pieces_by_token(
        only(encode(bert, document("D", sentence(long)), max_length=500)), bert
    )
    for window in encoded.windows:
        assert len(window) == 20
        names = bert.convert_ids_to_tokens(window)
        assert [at for at, name in enumerate(names) if name in ("[CLS]", "[SEP]")] == [0, 19]
    assert (encoded.column > 0).all()
    assert (encoded.column < 19).all(), "no special piece is a token's"
    assert "longer" not in capfd.readouterr().err, "nothing is wrong with a long sentence"


# --------------------------------------------------------------------------------------- documents and annotations


def test_lengths_are_the_word_pieces_that_are_encoded(bert):
    texts = [["two men", "sam"], ["men " * 30], ["two"]]
    documents = [document(f"D{n}", *own) for n, own in enumerate(texts)]
    assert encode(bert, *documents).lengths.tolist() == [4 + 5, 32, 3]
    cut = encode(bert, *documents, max_length=20)
    # 30 pieces in windows of 18: from 0, 9 and 12
    assert cut.lengths.tolist() == [9, 3 * 20, 3]
    for index, length in enumerate(cut.lengths):
        assert length == sum(len(window) for s in cut[index].sentences for window in s.windows)
    assert cut.ids == ["D0", "D1", "D2"]
    assert len(cut) == 3


def test_annotations_are_indices_in_the_sentence_and_positions_in_the_label_space(bert):
    first = sentence("rebels shot two men", [(0, 0, "PER"), (2, 3, "GPE")], [(0, 0, 2, 3, "PHYS")])
    events = [(1, "Attack", [(0, 0, "Attacker"), (2, 3, "Target")]), (1, "Die", []), (3, "Die", [(2, 2, "Place")])]
    second = sentence("rebels shot two men", events=events)
    found = encode(bert, document("D", first, second, "two", weight=0.5), schema=1)[0]
    one, two, empty = found.sentences
    assert one.ner.tolist() == [[0, 0, 1], [2, 3, 0]]
    assert one.relations.tolist() == [[0, 0, 2, 3, 0]]
    assert two.triggers.tolist() == [[1, 0], [1, 1], [3, 1]]
    assert two.arguments.tolist() == [[1, 0, 0, 0, 0], [1, 0, 2, 3, 2], [3, 1, 2, 2, 1]]
    assert [part.shape for part in empty[-4:]] == [(0, 3), (0, 5), (0, 2), (0, 5)]
    assert (found.id, found.weight, found.schema) == ("D", 0.5, 1)


def test_layers_that_a_document_lacks_are_not_annotated(bert):
    features = encode(bert, document("A", "two"), document("B", "two", layers=("events",)), document("C", "two"))
    assert [features[at].layers for at in range(3)] == [(True,) * 3, (False, False, True), (True,) * 3]


def test_a_label_that_the_label_space_lacks_is_an_error(bert):
    with pytest.raises(KeyError, match="ORG"):
        encode(bert, document("D", sentence("two men", [(0, 0, "ORG")])))


def test_features_are_plain_integers(bert):
    encoded = only(encode(bert, document("D", sentence("two men", [(0, 1, "PER")]))))
    assert encoded.windows[0].dtype == np.int32
    for part in (encoded.row, encoded.column, encoded.token, encoded.ner):
        assert torch.from_numpy(part).dtype == torch.int64

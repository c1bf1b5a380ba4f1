"""The texts that sequence-to-sequence models generate, their scores, and what is said about their settings."""

import pytest
import sacrebleu
import torch
from memorized_runs import memorize
from pair_files import PAIRS, model_of, write_parts, write_rows
from quiet_trainer import quiet_trainer
from seq2seq_models import LARGE, configured, data, one_by_one
from slow_cases import fast_one_in
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from torchmetrics.functional.text import rouge_score
from transformers import PreTrainedTokenizerFast

from gradual.errors import InputError
from gradual.logging import saying_anew
from gradual.tasks import Seq2Seq
from gradual.tasks.seq2seq.scores import MEANS, SCORES

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")  # Lightning's advice


@pytest.mark.parametrize("family", fast_one_in(2, LARGE))
@pytest.mark.parametrize("generate", [{}, {"num_beams": 3, "max_new_tokens": 4}])
def test_generated_texts_are_those_of_transformers_one_by_one(folder, family, generate):
    model, datamodule = configured(folder, family, generate=generate)
    assert model.spec.longest_target == 8 + (family == "large bart")
    model.log = Seq2Seq.log.__get__(model)
    (records,) = quiet_trainer().predict(model, datamodule)
    sources = [source for source, _ in PAIRS]
    defaults = {"max_new_tokens": model.spec.longest_target}
    assert [record["text"] for record in records] == one_by_one(folder, family, sources, **(defaults | generate))
    assert [record["id"] for record in records] == [f"test{at}" for at in range(len(PAIRS))]


@pytest.mark.parametrize("family", fast_one_in(2, LARGE))
def test_scores_are_those_of_the_libraries(folder, family):
    model, datamodule = configured(folder, family, {"batch_size": 4}, scores=SCORES, val_scores=["bleu"])
    model.log = Seq2Seq.log.__get__(model)
    with torch.no_grad():
        batches = enumerate(datamodule.test_dataloader())
        records = [record for i, batch in batches for record in model.eval().test_step(batch, i)]
    model.scores_of("test").reset()
    (scores,) = quiet_trainer().test(model, datamodule, verbose=False)
    texts = one_by_one(folder, family, [source for source, _ in PAIRS], max_new_tokens=model.spec.longest_target)
    answers = [target for _, target in PAIRS]
    rouge = rouge_score(texts, answers, rouge_keys=("rouge1", "rouge2", "rougeL"))
    expected = {name: float(rouge[f"{name}_fmeasure"]) for name in ("rouge1", "rouge2", "rougeL")}
    sentences = [sacrebleu.sentence_chrf(text, [answer]).score for text, answer in zip(texts, answers)]
    expected |= {
        "exact_match": sum(text == answer for text, answer in zip(texts, answers)) / len(PAIRS),
        "sentence_chrf": sum(sentences) / len(sentences) / 100,
        "chrf": sacrebleu.corpus_chrf(texts, [answers]).score / 100,
        "bleu": sacrebleu.corpus_bleu(texts, [answers]).score / 100,
    }
    assert len({*texts}) > 1
    assert {name: scores[f"test/{name}"] for name in SCORES} == pytest.approx(expected)
    for name in ("loss", *MEANS):
        pairs = [record[name] for record in records]
        assert scores[f"test/{name}"] == pytest.approx(sum(a for a, _ in pairs) / sum(b for _, b in pairs))
    (validated,) = quiet_trainer().validate(model, datamodule, verbose=False)
    assert validated == pytest.approx({"val/loss": scores["test/loss"], "val/bleu": scores["test/bleu"]})


@pytest.mark.parametrize(
    ("targets", "cleaned"),
    [
        pytest.param(["one , two .", "do n't one ."], True, id="cleaned by default"),
        pytest.param(["one <sep> two", "<sep> two"], False, id="special tokens"),
    ],
)
def test_texts_are_compared_as_they_are(folder, tmp_path, targets, cleaned):
    """Pairs that the model has memorized, with what decoding may change."""
    words = ["▁one", "▁two", "▁,", "▁.", "▁do", "▁n't", "▁ein", "▁drei", "▁"]
    known = {word: at for at, word in enumerate(["<pad>", "</s>", "<unk>", "<sep>", *words])}
    made = Tokenizer(models.WordLevel(known, unk_token="<unk>"))
    made.pre_tokenizer, made.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
    made.post_processor = processors.TemplateProcessing("$A </s>", special_tokens=[("</s>", 1)])
    names = {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>", "extra_special_tokens": ["<sep>"]}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=made, clean_up_tokenization_spaces=cleaned, **names)
    model_of("t5").save_pretrained(tmp_path / "t5")
    tokenizer.save_pretrained(tmp_path / "t5")
    rows = [{"source": source, "target": target} for source, target in zip(("ein", "drei"), targets)]
    files = dict.fromkeys(("in_domain", "val", "test"), str(write_rows(tmp_path / "pairs.jsonl", rows)))
    datamodule = data(folder, tokenizer=str(tmp_path / "t5"), **files)
    torch.manual_seed(0)
    model = Seq2Seq(str(tmp_path / "t5"), scores=["exact_match", "bleu"])
    stage, loaded = memorize(model, datamodule, tmp_path / "run", epochs=60)
    assert stage.test["exact_match"] == stage.test["bleu"] == 1.0
    (records,) = quiet_trainer().predict(loaded, datamodule)
    assert [record["text"] for record in records] == targets


@pytest.mark.parametrize(
    ("own", "said", "problem"),
    [
        ({"min_length": 8, "num_beams": 2}, "{num_beams: 2, min_length: 8}", None),
        ({"min_length": 56, "min_new_tokens": 2}, "{min_length: 56, min_new_tokens: 2}", None),  # the second holds
        ({"min_length": 56}, "{min_length: 56}", r"at least 56 tokens \(min_length\), but texts may have at most 8 "),
    ],
)
def test_what_a_pretrained_model_sets_for_generation_is_said(folder, tmp_path, caplog, own, said, problem):
    """A summarizer's texts have some length at least."""
    model = model_of("t5")
    model.generation_config.update(**own)
    model.save_pretrained(tmp_path / "t5")
    settings = {"tokenizer": str(folder / "t5"), "in_domain": str(folder / "train.jsonl")}
    write_parts(tmp_path)
    with caplog.at_level("INFO", "gradual"), saying_anew():
        if problem is None:
            configured(tmp_path, settings=settings)
        else:
            with pytest.raises(InputError, match=problem):
                configured(tmp_path, settings=settings)
        configured(tmp_path, settings=settings, generate={"num_beams": 3, "min_length": 0, "min_new_tokens": 0})
        configured(tmp_path, settings=settings, scores=[])
    assert caplog.text.count("Texts are generated with") == 1
    assert f"what the pretrained model sets: {said};" in caplog.text


def test_nothing_is_generated_where_no_score_is_wanted(folder, monkeypatch):
    model, datamodule = configured(folder, scores=[])
    model.log = Seq2Seq.log.__get__(model)
    monkeypatch.setattr(model.model, "generate", None)
    for run in (quiet_trainer().test, quiet_trainer().validate):
        (scores,) = run(model, datamodule, verbose=False)
        assert [name.partition("/")[2] for name in scores] == ["loss"]


def test_sources_without_targets_are_predicted(folder, tmp_path):
    file = write_rows(tmp_path / "new.jsonl", [{"source": "drei"}, {"source": ""}, {"source": "zwei plus zwei"}])
    model, datamodule = configured(folder, "large t5", settings={"predict": str(file)}, generate={"max_new_tokens": 3})
    (records,) = quiet_trainer().predict(model, datamodule)
    assert [record["id"] for record in records] == ["0", "1", "2"]
    expected = one_by_one(folder, "large t5", ["drei", "", "zwei plus zwei"], max_new_tokens=3)
    assert [record["text"] for record in records] == expected


def test_long_texts_lose_their_end_and_are_compared_as_a_whole(folder, caplog):
    with caplog.at_level("INFO", "gradual"):
        model, datamodule = configured(folder, "bart", {"max_length": 5, "max_target_length": 6})
    assert "3 of 6 examples of in_domain have a source of more than 5 tokens, which loses its end." in caplog.text
    assert "2 of 6 examples of test have a target of more than 6 tokens, which loses its end." in caplog.text
    assert model.spec.longest_target == 6
    (batch,) = datamodule.test_dataloader()
    assert batch.source.shape == (6, 5)
    assert batch.labels.shape == (6, 6)
    assert (batch.labels == 1).sum(1).tolist() == [1] * 6  # the end of a text stays
    assert batch.answers == [target for _, target in PAIRS]

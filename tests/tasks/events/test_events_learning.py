"""What an event extractor learns: a tiny corpus by heart, with its scores, checkpoints and predictions; other types."""

import json

import pytest
import torch
from events_corpus import NAMES, SCORES, WIDE, corpus, data, extractor, fit, predicted
from events_files import document, sentence, write_documents
from lightning.pytorch import Callback
from quiet_trainer import quiet_trainer
from slow_cases import fast_one_in
from trained_precision import trained_in

from gradual.errors import InputError
from gradual.tasks.events import EventExtractor, read_documents

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")  # Lightning's advice


@pytest.fixture(scope="module")
def fitted(folder, tmp_path_factory):
    """A model that knows the tiny corpus by heart, with its run."""
    run_dir = tmp_path_factory.mktemp("runs") / "tiny"
    model, result = fit(folder, run_dir, pruning=WIDE, optimizer={"lr": 5e-3})
    return model, run_dir, result


def test_a_tiny_corpus_is_memorized(fitted):
    _, _, result = fitted
    final = result.stages[-1]
    for scores in (final.val, final.test):
        assert set(scores) == NAMES
        assert {name: value for name, value in scores.items() if name != "loss"} == dict.fromkeys(NAMES - {"loss"}, 1.0)
        assert scores["loss"] < 0.1


@pytest.mark.slow
def test_pruners_learn_what_to_keep(folder, tmp_path):
    """Of the 28 spans of a sentence 5 may be arguments, and 4 may be related."""
    settings = {"optimizer": {"lr": 2e-3}, "max_epochs": 250, "monitor": "val/arg_c_f1", "mode": "max"}
    settings["check_val_every_n_epoch"] = 10
    _, result = fit(folder, tmp_path / "run", [0], dropout=0.3, **settings)
    assert {name: value for name, value in result.final["test"].items() if name.endswith("f1")} == (
        {f"{score}_f1": 1.0 for score in SCORES}
    )


def test_a_checkpoint_gives_the_same_scores(fitted, folder):
    _, run_dir, result = fitted
    for stage in result.stages:
        loaded = EventExtractor.load_from_checkpoint(run_dir / stage.path / "best.ckpt", weights_only=True)
        assert loaded.labels.triggers == ("Arrest", "Attack", "Die")
        (scores,) = quiet_trainer().test(loaded, data(folder, pruning=WIDE), verbose=False)
        assert scores == pytest.approx({f"test/{name}": value for name, value in stage.test.items()})


def test_scores_of_documents_add_up_to_those_of_the_corpus(fitted):
    _, run_dir, result = fitted
    for stage in result.stages:
        lines = (run_dir / stage.path / "test_examples.jsonl").read_text().splitlines()
        records = [json.loads(line) for line in lines]
        assert sorted(record["id"] for record in records) == ["test0", "test1", "test2"]
        for score in SCORES:
            right, all_ = (sum(record[f"{score}_f1"][at] for record in records) for at in (0, 1))
            assert stage.test[f"{score}_f1"] == pytest.approx(right / all_)


def test_labels_of_other_files_than_the_checkpoints_are_an_input_error(fitted, folder, tmp_path):
    _, run_dir, result = fitted
    other = [document("O", sentence("police shot men", events=[(1, "Transport", [(0, 0, "Agent")])]))]
    write_documents(tmp_path / "other.json", other)
    checkpoint = run_dir / result.stages[-1].path / "best.ckpt"
    expected = (
        r"^The model was trained with other labels than those in the data files: only the data has triggers "
        r"Transport; only the data has roles Agent\.$"
    )
    for load in (
        lambda: quiet_trainer().test(
            extractor(folder), data(folder, val=str(tmp_path / "other.json")), str(checkpoint)
        ),
        lambda: quiet_trainer().test(
            EventExtractor.load_from_checkpoint(checkpoint, weights_only=True),
            data(folder, val=str(tmp_path / "other.json")),
        ),
    ):
        with pytest.raises(InputError, match=expected):
            load()
    write_documents(tmp_path / "plain.json", [document("plain", "two men")])
    plain = str(tmp_path / "plain.json")
    fewer = data(folder, in_domain=str(folder / "pool.json"), out_of_domain=None, val=plain, test=plain)
    with pytest.raises(InputError, match=r"only the model has ner GPE; only the model has relations PHYS; "):
        quiet_trainer().test(extractor(folder), fewer, str(checkpoint))
    with pytest.raises(InputError, match=r"max_span_width 8, but the data module has 5\.$"):
        quiet_trainer().test(extractor(folder), data(folder, max_span_width=5), str(checkpoint))


def test_predictions_are_the_documents_in_their_format_with_what_was_found(fitted, folder, tmp_path):
    model, *_ = fitted
    records = predicted(model, data(folder, eval_batch_size=2, pruning=WIDE))
    gold = [d.record for d in corpus("test")]
    assert [{name: value for name, value in record.items() if "predicted" not in name} for record in records] == gold

    def bare(rows):
        """Without logit and probability, in any order."""
        for *_, logit, probability in rows:
            assert logit > 0, "the null class has 0"
            assert 0.5 < probability <= 1
        return sorted(tuple(row[:-2]) for row in rows)

    for record, own in zip(records, gold):
        for layer in ("ner", "relations"):
            assert list(map(bare, record[f"predicted_{layer}"])) == [sorted(map(tuple, rows)) for rows in own[layer]]
        for found, events in zip(record["predicted_events"], own["events"], strict=True):
            expected = sorted(((event[0][0], event[0][-1]), sorted(map(tuple, event[1:]))) for event in events)
            assert sorted((*bare(event[:1]), bare(event[1:])) for event in found) == expected

    path = tmp_path / "predictions.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    again = read_documents(path)
    assert [d.record for d in again] == records, "a file of predictions is a file of documents"
    rerun = predicted(model, data(folder, predict_file=str(path), pruning=WIDE))
    assert [r["predicted_events"] for r in rerun] == [r["predicted_events"] for r in records]


@pytest.mark.parametrize("precision", fast_one_in(2, ["bf16-true", "64-true"]))
def test_a_model_in_another_type_learns_and_its_loss_is_summed_exactly(folder, precision):
    torch.manual_seed(0)
    model, datamodule = extractor(folder), data(folder)
    datamodule.setup()
    made, before, logged = trained_in(precision, model, datamodule)
    dtype = {"bf16-true": torch.bfloat16, "64-true": torch.float64}[precision]
    assert {parameter.dtype for parameter in model.parameters()} == {dtype}
    assert logged < before
    with torch.no_grad():
        batches = [made.precision_plugin.convert_input(batch) for batch in datamodule.val_dataloader()]
        totals = [model.eval()._step(batch, "val")[0].double() for batch in batches]
    documents = sum(len(batch.ids) for batch in batches)
    assert logged == pytest.approx(torch.stack(totals).sum().item() / documents, rel=1e-6)


def test_the_encoder_is_in_training_mode_while_it_trains(folder, tmp_path):
    """Pretrained models come in evaluation mode, without dropout."""
    seen = []

    class Watch(Callback):
        def on_train_batch_start(self, trainer, module, *_):
            modules = module.model.encoder.modules()
            seen.append((trainer.current_epoch, all(part.training for part in modules)))

    fit(folder, tmp_path / "run", optimizer={"lr": 1e-3}, max_epochs=2, check_val_every_n_epoch=1, callbacks=[Watch()])
    assert {epoch for epoch, _ in seen} == {0, 1}
    assert all(training for _, training in seen)

"""What taggers learn and keep in checkpoints, and the same after a kill and on two processes."""

import json

import pytest
import torch
from interrupted_runs import At, in_a_process, outcome
from quiet_trainer import quiet_trainer
from slow_cases import fast_one_in
from tagger_models import KINDS, configured, data, tagger
from tagging_examples import QUIET, sentences, write_conll, write_encoder
from two_processes import in_two_processes

import gradual
from gradual.errors import InputError
from gradual.tasks import TokenClassifier

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")  # Lightning's advice


@pytest.mark.parametrize("kind", fast_one_in(3, KINDS))
def test_a_few_sentences_are_learnt_to_perfection(folder, kind):
    model, module = configured(folder, kind, max_length=10)
    model.train().per_type_scores = True
    model.add_scores(lambda: model.make_scores(model.spec))
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    batch = module.collate_fn([*module.domains.in_domain])
    scores = {}
    for _ in range(100):
        loss = model._step(batch, "train")
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scores = model.train_scores.compute()
        model.train_scores.reset()
        if scores["f1"] == 1:
            break
    assert [scores[name].item() for name in ("f1", "precision", "recall", "f1/LOC", "f1/PER")] == [1.0] * 5


@pytest.mark.slow
def test_parts_of_speech_are_learnt_too(folder, tmp_path):
    rows = [
        {"id": f"s{k}", "tokens": words, "upos": [tag[-3:] for tag in tags]}
        for k, (words, tags) in enumerate(sentences(12, 1))
    ]
    (tmp_path / "pos.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    file = str(tmp_path / "pos.jsonl")
    other = tmp_path / "other.jsonl"
    other.write_text((tmp_path / "pos.jsonl").read_text().replace('"id": "s', '"id": "t'))
    module = data(folder, parts=(), in_domain=file, val=str(other), test=str(other), batch_size=2)
    result = gradual.fit(
        tagger(folder), module, [0], tmp_path / "run", monitor="val/accuracy", patience=100,
        optimizer={"lr": 5e-3}, max_epochs=9, accelerator="cpu", enable_progress_bar=False, logger=False,
    )  # fmt: skip
    assert result.stages[-1].test["accuracy"] == 1.0
    assert "f1" not in result.stages[-1].test
    lines = [json.loads(line) for path in (tmp_path / "run").rglob("*.jsonl") for line in path.read_text().splitlines()]
    records = [line for line in lines if "accuracy" in line and "id" in line]
    assert sorted(record["id"] for record in records) == sorted(f"t{k}" for k in range(12))
    assert all(right == words for right, words in (record["accuracy"] for record in records))


def test_checkpoints_need_neither_data_nor_the_pretrained_folder(folder, tmp_path):
    write_encoder(tmp_path / "encoder", **QUIET)
    module = data(folder, tokenizer=str(tmp_path / "encoder"))
    trainer = quiet_trainer(max_steps=2, use_distributed_sampler=False, limit_val_batches=0)
    model = TokenClassifier(str(tmp_path / "encoder"))
    model.configure_optimizers = lambda: torch.optim.SGD(model.parameters(), lr=0.1)
    trainer.fit(model, module)
    trainer.save_checkpoint(tmp_path / "a.ckpt")
    (tmp_path / "encoder/config.json").unlink()
    (tmp_path / "encoder/model.safetensors").unlink()
    loaded = TokenClassifier.load_from_checkpoint(tmp_path / "a.ckpt").eval()
    batch = module.collate_fn([module.domains.test[index] for index in range(12)])
    with torch.no_grad():
        assert torch.equal(loaded(batch), model.eval()(batch))
    assert loaded.predict_step(batch, 0) == model.predict_step(batch, 0)
    others = data(folder, tokenizer=str(folder / "bert"), in_domain=write_conll(tmp_path / "o.txt", [(["a"], ["B-X"])]))
    with pytest.raises(InputError, match=r"does not suit the data: only the data has the tags B-X\."):
        others.configure(loaded)


def fit(root, folder, *callbacks):
    settings = {
        "optimizer": {"lr": 1e-3}, "max_epochs": 2, "accelerator": "cpu", "enable_progress_bar": False, "logger": False,
        "callbacks": list(callbacks), "seed": 3,
    }  # fmt: skip
    module = data(folder, "noisy", batch_size=8, out_of_domain_labels="own")
    gradual.fit(tagger(folder, "noisy"), module, [16, 0], root / "run", checkpoint_every=0.0, **settings)


@pytest.mark.slow
def test_a_killed_run_goes_on_to_the_same_bits(folder, tmp_path):
    write_encoder(folder / "noisy")  # with dropout
    assert in_a_process(lambda: fit(tmp_path / "one", folder)) == 0
    for count in (3, 7):  # in the first stage, and in the second one before its first checkpoint
        assert in_a_process(lambda: fit(tmp_path / "killed", folder, At("on_train_batch_end", count))) == -9  # noqa: B023
    assert in_a_process(lambda: fit(tmp_path / "killed", folder)) == 0
    assert outcome(tmp_path / "killed") == outcome(tmp_path / "one")


def shared_step(folder, out):
    """The gradient of this process's share of a batch, averaged over processes, and the scores of all."""
    group = torch.distributed.is_initialized()
    rank, processes = (torch.distributed.get_rank(), torch.distributed.get_world_size()) if group else (0, 1)
    model, module = configured(folder, out_of_domain_labels="own")
    model.train()
    examples = [*module.domains.in_domain, *(module.domains.out_of_domain[index] for index in range(9))]
    own = examples if processes == 1 else [examples[:7], examples[7:]][rank]
    model._step(module.collate_fn(own), "train").backward()
    gradient = torch.cat([parameter.grad.flatten() for parameter in model.parameters()])
    if group:
        torch.distributed.all_reduce(gradient)
    scores = {name: value.item() for name, value in model.train_scores.compute().items()}
    if rank == 0:
        torch.save((gradient / processes, scores), out / f"{processes}.pt")


def test_two_processes_are_one(folder, tmp_path):
    def work():
        torch.distributed.init_process_group("gloo")
        shared_step(folder, tmp_path)

    shared_step(folder, tmp_path)
    in_two_processes(work, tmp_path)
    (one, one_scores), (two, two_scores) = (torch.load(tmp_path / f"{processes}.pt") for processes in (1, 2))
    assert torch.allclose(two, one, atol=1e-6)
    assert two_scores == pytest.approx(one_scores)

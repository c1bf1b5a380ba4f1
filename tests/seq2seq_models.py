"""What the tests of the task Seq2Seq share: models with their data, losses and texts of single pairs, runs."""

import torch
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

import gradual
from gradual.tasks import Seq2Seq, Seq2SeqData

FAMILIES = ("t5", "bart")
LARGE = ("large t5", "large bart")


def data(folder, family="t5", **changes):
    files = {"in_domain": "train", "val": "dev", "test": "test"}
    paths = {name: str(folder / f"{part}.jsonl") for name, part in files.items()}
    own = {"tokenizer": str(folder / family), "cache_dir": str(folder / "cache"), "batch_size": 8, "num_proc": 1}
    return Seq2SeqData(**{**paths, **own, **changes})


def configured(folder, family="t5", settings=None, **changes):
    """A model with its data, outside of a Trainer."""
    datamodule = data(folder, family, **(settings or {}))
    datamodule.setup()
    model = Seq2Seq(str(folder / family), **changes)
    datamodule.configure(model)
    model.configure_model()
    model.log = lambda *_, **__: None
    return model, datamodule


def fit(folder, root, family="t5", schedule=(6, 0), model=None, batch_size=6, **changes):
    torch.manual_seed(0)
    model = model or Seq2Seq(str(folder / family), scores=["exact_match", "rougeL", "chrf"])
    pool = str(folder / "pool.jsonl")
    batches = {"batch_size": batch_size, "eval_batch_size": 4, "max_padding": 0.5}
    datamodule = data(folder, family, out_of_domain=pool, **batches)
    settings = {"monitor": "val/loss", "patience": 9, "max_epochs": 60, "check_val_every_n_epoch": 30}
    quiet = {"logger": False, "enable_progress_bar": False, "accelerator": "cpu", "optimizer": {"lr": 1e-2}}
    return model, gradual.fit(model, datamodule, schedule, root / "run", **{**settings, **quiet, **changes})


def naive(model, tokenizer, source, target):
    """The sum of negative log likelihoods of a target's tokens and their number, one token at a time."""
    ids = torch.tensor([tokenizer(source)["input_ids"]])
    wanted = tokenizer(target)["input_ids"]
    before, terms = [model.config.decoder_start_token_id], []
    for token in wanted:
        logits = model(input_ids=ids, decoder_input_ids=torch.tensor([before])).logits[0, -1]
        terms.append(-logits.double().log_softmax(-1)[token])
        before.append(token)
    return torch.stack(terms).sum(), len(terms)


def one_by_one(folder, family, sources, **generate):
    """What plain transformers generates for each source alone."""
    model = AutoModelForSeq2SeqLM.from_pretrained(folder / family).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder / family)
    texts = []
    for source in sources:
        ids = torch.tensor([tokenizer(source)["input_ids"]])
        made = model.generate(input_ids=ids, **generate)
        texts.append(tokenizer.decode(made[0], skip_special_tokens=True))
    return texts

"""What the tests of the task CausalLM share: rows of each form, models with their data, losses token by token, runs."""

from itertools import pairwise

import torch
from language_files import TEXTS
from transformers import pipeline

import gradual
from gradual.tasks import CausalLM, CausalLMData

SUMS = [("one", "one", "two"), ("one", "two", "three"), ("two", "two", "four"), ("two", "one", "three")]
PAIRS = [{"prompt": f"{a} plus {b} is", "completion": f" {c}"} for a, b, c in SUMS]
ROWS = {
    "text": [{"text": text} for text in TEXTS],
    "completion": [*PAIRS, {"prompt": "the answer is two plus", "completion": " two is four"}],
    "messages": [
        {"messages": [{"role": "user", "content": p["prompt"]}, {"role": "assistant", "content": p["completion"]}] * n}
        for p, n in zip(PAIRS, (1, 2, 1, 1))
    ],
}


def numbered(rows, name):
    return [{"id": f"{name}{number}", **row} for number, row in enumerate(rows)]


def data(folder, form="completion", family="llama", **changes):
    files = {"in_domain": "train", "val": "dev", "test": "test"}
    paths = {name: str(folder / f"{form}.{part}.jsonl") for name, part in files.items()}
    own = {"tokenizer": str(folder / family), "cache_dir": str(folder / "cache"), "batch_size": 8, "num_proc": 1}
    return CausalLMData(**{**paths, **own, **changes})


def configured(folder, form="completion", family="llama", settings=None, **changes):
    """A model with its data, outside of a Trainer."""
    datamodule = data(folder, form, family, **(settings or {}))
    datamodule.setup()
    model = CausalLM(**{"pretrained": str(folder / family), **changes})
    datamodule.configure(model)
    model.configure_model()
    model.log = lambda *_, **__: None
    return model, datamodule


def fit(folder, root, family="llama", schedule=(2, 0), lora=None, batch_size=8, **changes):
    torch.manual_seed(0)
    model = CausalLM(str(folder / family), generate={"max_new_tokens": 8}, lora=lora)
    pool = str(folder / "completion.pool.jsonl")
    datamodule = data(folder, family=family, out_of_domain=pool, batch_size=batch_size, eval_batch_size=2)
    settings = {"monitor": "val/loss", "patience": 9, "max_epochs": 24, "check_val_every_n_epoch": 12}
    quiet = {"logger": False, "enable_progress_bar": False, "accelerator": "cpu", "optimizer": {"lr": 1e-2}}
    return gradual.fit(model, datamodule, schedule, root / "run", **{**settings, **quiet, **changes})


@torch.no_grad()
def records_of(model, datamodule):
    return [
        record for i, batch in enumerate(datamodule.test_dataloader()) for record in model.eval().test_step(batch, i)
    ]


def completions(folder):
    """What plain transformers generates for the prompts, with the model of a folder."""
    generate = pipeline("text-generation", str(folder), device="cpu")
    made = [generate(row["prompt"], max_new_tokens=8, do_sample=False, return_full_text=False) for row in PAIRS]
    return [one["generated_text"] for (one,) in made]


def naive(model, tokenizer, row, loss_on="answer"):
    """The sum of negative log likelihoods of a row and their number, one token at a time, without a batch."""
    end = [tokenizer.eos_token_id]
    if "text" in row:
        ids = tokenizer(row["text"])["input_ids"] + end
        start = [0] * len(ids)
    elif "prompt" in row:
        prompt = tokenizer(row["prompt"])["input_ids"]
        ids = prompt + tokenizer(row["completion"], add_special_tokens=False)["input_ids"] + end
        start = [0 if loss_on == "all" else 1] * len(prompt) + [0] * (len(ids) - len(prompt))
    else:
        ids, start = [], []
        for message in row["messages"]:
            head = tokenizer(f"<|start|>{message['role']}\n", add_special_tokens=False)["input_ids"]
            said = tokenizer(f"{message['content']}<|stop|>", add_special_tokens=False)["input_ids"]
            after = tokenizer("\n", add_special_tokens=False)["input_ids"]
            ids += head + said + after
            silent = 1 if message["role"] == "user" else 0
            start += [1] * len(head) + [silent] * len(said) + [1] * len(after)
    logits = model(torch.tensor([ids])).logits[0].double().log_softmax(-1)
    terms = [-logits[i, b] for i, ((_, b), skipped) in enumerate(zip(pairwise(ids), start[1:])) if not skipped]
    return torch.stack(terms).sum(), len(terms)

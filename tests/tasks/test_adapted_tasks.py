"""Tasks with LoRA, end to end: what is trained and saved, stage after stage, interrupted and loaded again."""

import json
import shutil

import pytest
import torch
from lightning.pytorch import Callback
from peft import PeftModel
from slow_cases import fast_one_in
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    AutoModelForSequenceClassification,
    BertConfig,
    BertModel,
    PreTrainedTokenizerFast,
    RobertaConfig,
    RobertaModel,
)

import gradual
from gradual import InputError
from gradual.__main__ import main
from gradual.runs.checkpoint import read_checkpoint
from gradual.tasks import TextClassificationData, TextClassifier
from gradual.tasks.adapters import LoRA

WORDS = ["good", "fine", "bad", "poor", "the", "food", "was", "room", "and", "very"]
SIZES = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
SIZES |= {"initializer_range": 0.2, "pad_token_id": 0, "max_position_embeddings": 40}
ENCODERS = {"bert": (BertModel, BertConfig), "roberta": (RobertaModel, RobertaConfig)}
LORA = {"r": 4, "alpha": 8}
SCHEDULE, STEPS = [12, 0], (10, 4)  # training steps of the stages


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Encoders with a tokenizer, and files of texts with labels."""
    root = tmp_path_factory.mktemp("texts")
    vocabulary = {word: at for at, word in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", *WORDS])}
    made = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    names = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    for seed, (name, family) in enumerate([("bert", "bert"), ("roberta", "roberta"), ("other", "bert")]):
        torch.manual_seed(seed)
        cls, config = ENCODERS[family]
        cls(config(vocab_size=len(vocabulary), **SIZES)).save_pretrained(root / name)
        PreTrainedTokenizerFast(tokenizer_object=made, **names).save_pretrained(root / name)
    generator = torch.Generator().manual_seed(0)
    for part, size in (("in_domain", 8), ("out_of_domain", 16), ("val", 8), ("test", 8)):
        rows = []
        for number in range(size):
            words = [WORDS[at] for at in torch.randint(4, 10, (6,), generator=generator)]
            words.insert(number % 5, WORDS[number % 4])
            rows.append({"id": f"{part}{number}", "text": " ".join(words), "label": ("up", "down")[number % 4 // 2]})
        (root / f"{part}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return root


def data_of(root, encoder="bert"):
    parts = {part: str(root / f"{part}.jsonl") for part in ("in_domain", "out_of_domain", "val", "test")}
    return TextClassificationData(**parts, tokenizer=str(root / encoder), batch_size=4)


def classifier(root, encoder="bert", lora=LORA):
    torch.manual_seed(0)
    return TextClassifier(str(root / encoder), lora=lora)


def fit(root, folder, encoder="bert", lora=LORA, later=None, model=None, **settings):
    model = classifier(root, encoder, lora) if model is None else model
    quiet = {"accelerator": "cpu", "enable_progress_bar": False, "logger": False, "max_epochs": 2}
    settings = {"optimizer": {"lr": 0.02}, "checkpoint_every": 0, **quiet, **settings}
    schedule = gradual.Schedule(SCHEDULE, later)
    return model, gradual.fit(model, data_of(root, encoder), schedule, folder / "run", **settings)


def stage(folder, name="12/0"):
    return folder / "run/seed-0" / name / "best.ckpt"


def loaded(root, path, **changes):
    return TextClassifier.load_from_checkpoint(path, **changes)


@torch.no_grad()
def logits(model, root):
    """Logits of the test data."""
    data = data_of(root)
    data.setup("test")
    model.eval()
    return torch.cat([model(batch) for batch in data.test_dataloader()])


@torch.no_grad()
def plain_logits(model, root):
    """The same, by a model of transformers that reads padded batches."""
    data = data_of(root)
    rows = [json.loads(line)["text"] for line in (root / "test.jsonl").read_text().splitlines()]
    batch = data.fast_tokenizer(rows, padding=True, return_tensors="pt")
    return model.eval()(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits


@pytest.fixture(scope="module")
def runs(root, tmp_path_factory):
    """Gives the folder of a run that is not interrupted, the model that it leaves, and its result."""
    known = {}

    def of(**settings):
        if (key := str(settings)) not in known:
            folder = tmp_path_factory.mktemp("run")
            known[key] = (folder, *fit(root, folder, **settings))
        return known[key]

    return of


MERGE = {"later": {"adapter": "merge"}}
DORA = {"lora": {**LORA, "use_dora": True}}
KINDS = {"merge": MERGE, "continue": {}, "dora": {**DORA, **MERGE}, "roberta": {"encoder": "roberta"}}


def of_kinds(*names):
    """A parameter for settings; the first of them run with the fast tests."""
    cases = {**KINDS, "all": {"lora": None}}
    return pytest.mark.parametrize("settings", fast_one_in(len(names), [cases[name] for name in names]), ids=names)


def same_weights(left, right):
    left, right = (dict(model.named_parameters()) for model in (left, right))
    left, right = ({n: p for n, p in each.items() if ".original_module." not in n} for each in (left, right))
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


def test_the_adapter_and_the_head_are_trained_and_saved_and_nothing_else(root, runs):
    folder, model, _ = runs()
    pretrained = dict(AutoModelForSequenceClassification.from_pretrained(root / "bert").named_parameters())
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert {name.rpartition(".default")[0] for name in trained if ".lora_" not in name} == {
        "model.classifier.modules_to_save"
    }
    for name, parameter in model.model.named_parameters():
        own = name.replace(".base_layer", "")
        if own in pretrained and not own.startswith("classifier"):
            assert not parameter.requires_grad
            assert torch.equal(parameter, pretrained.pop(own)), name
    assert set(pretrained) == {"classifier.weight", "classifier.bias"}, "every pretrained weight was compared"
    whole = sum(parameter.numel() for parameter in model.parameters())
    for path in (folder / "run").rglob("*.ckpt"):
        content = read_checkpoint(path)
        assert set(content["state_dict"]) - {n for n in content["state_dict"] if "_scores." in n} == trained
        assert sum(value.numel() for value in content["state_dict"].values()) < whole / 2


@pytest.mark.parametrize("encoder", fast_one_in(2, ENCODERS))
def test_a_classifier_with_an_adapter_learns_its_examples(root, encoder):
    model, data = classifier(root, encoder), data_of(root, encoder)
    data.configure(model)
    model.configure_model()
    batches = list(data.train_dataloader())
    optimizer = torch.optim.AdamW([each for each in model.parameters() if each.requires_grad], lr=0.01)
    for batch in batches * 40:
        model.losses(model(batch), batch).mean().backward()
        optimizer.step()
        optimizer.zero_grad()
    model.eval()
    assert all(torch.equal(model.predicted(model(batch)), batch.gold) for batch in batches)


@pytest.mark.slow
@of_kinds("merge", "continue", "dora", "roberta", "all")
@pytest.mark.parametrize("at", fast_one_in(2, [STEPS[0], sum(STEPS) - 2]))
def test_an_interrupted_run_resumes_to_the_same_bits(root, runs, tmp_path, settings, at):
    _, whole, result = runs(**settings)
    with pytest.raises(PowerCut):
        fit(root, tmp_path, callbacks=[CutAt(at)], **settings)
    resumed, again = fit(root, tmp_path, **settings)
    assert same_weights(resumed, whole)
    scores = [[(each.val, each.test, each.epochs) for each in one.stages] for one in (result, again)]
    assert scores[0] == scores[1]


class PowerCut(Exception):
    pass


class CutAt(Callback):
    """Fails at a training step, counted over all stages."""

    def __init__(self, at):
        self.left = at

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if self.left == 0:
            raise PowerCut
        self.left -= 1

    def __deepcopy__(self, memo):  # each stage has a copy of the callbacks
        return self


@of_kinds(*KINDS)
def test_a_checkpoint_loaded_anew_is_the_same_model(root, runs, settings):
    folder, model, _ = runs(**settings)
    again = loaded(root, stage(folder))
    assert same_weights(again, model)
    assert torch.equal(logits(again, root), logits(model, root))
    assert len(again.adapter.earlier) == len(stage_adapters(settings))


def stage_adapters(settings):
    return ["of stage 1"] if "later" in settings else []


@of_kinds("merge", "continue", "dora")
def test_a_stage_starts_with_the_outputs_that_the_one_before_ended_with(root, tmp_path, settings):
    starts = []

    class Watch(Callback):
        def on_train_start(self, trainer, pl_module):
            sides = [parameter for name, parameter in pl_module.named_parameters() if "lora_B" in name]
            starts.append((logits(pl_module, root), any(bool(side.any()) for side in sides)))
            pl_module.train()

    fit(root, tmp_path, callbacks=[Watch()], **settings)
    torch.testing.assert_close(starts[1][0], logits(loaded(root, stage(tmp_path, "12")), root), atol=1e-5, rtol=1e-5)
    assert starts[1][1] == ("later" not in settings), "a new adapter changes nothing yet"


@of_kinds("merge", "continue", "roberta")
def test_exports_give_the_same_outputs_in_plain_transformers(root, runs, tmp_path, settings):
    folder, _, _ = runs(**settings)
    model = loaded(root, stage(folder))
    model.save_pretrained(tmp_path / "merged")
    merged = AutoModelForSequenceClassification.from_pretrained(tmp_path / "merged")
    assert merged.config.id2label == {0: "down", 1: "up"}
    assert not any("lora" in name for name, _ in merged.named_parameters())
    torch.testing.assert_close(plain_logits(merged, root), logits(model, root), atol=1e-5, rtol=1e-5)
    model.adapter.save(tmp_path / "adapter")
    base = AutoModelForSequenceClassification.from_pretrained(root / settings.get("encoder", "bert"), num_labels=2)
    beside = PeftModel.from_pretrained(base, tmp_path / "adapter")
    torch.testing.assert_close(plain_logits(beside, root), logits(model, root), atol=1e-5, rtol=1e-5)


def test_without_lora_checkpoints_hold_all_weights(root, runs):
    folder, model, _ = runs(lora=None)
    state = read_checkpoint(stage(folder))["state_dict"]
    assert {f"model.{name}" for name, _ in model.model.named_parameters()} <= set(state)
    assert same_weights(loaded(root, stage(folder)), model)


def test_an_adapter_beside_other_weights_is_refused(root, runs, tmp_path):
    folder, _, _ = runs()
    with pytest.raises(InputError, match=r"was trained beside other weights than those in '.*other'"):
        loaded(root, stage(folder), pretrained=str(root / "other"))
    with pytest.raises(InputError, match="was trained with lora, unlike this model"):
        loaded(root, stage(folder), lora=None)


def test_a_run_directory_notices_other_pretrained_weights(root, tmp_path):
    shutil.copytree(root / "bert", tmp_path / "bert")
    model = TextClassifier(str(tmp_path / "bert"), lora=LORA)
    fit(root, tmp_path, model=model, max_epochs=1)
    shutil.copy(root / "other/model.safetensors", tmp_path / "bert/model.safetensors")
    with pytest.raises(InputError, match=r"holds another experiment \(model: pretrained_weights"):
        fit(root, tmp_path, model=TextClassifier(str(tmp_path / "bert"), lora=LORA), max_epochs=1)


def test_missing_trained_weights_are_named(root, runs, tmp_path):
    folder, _, _ = runs()
    content = torch.load(stage(folder), weights_only=True)
    del content["state_dict"]["model.classifier.modules_to_save.default.bias"]
    torch.save(content, tmp_path / "less.ckpt")
    with pytest.raises(RuntimeError, match=r'Missing key\(s\) in state_dict: "model\.classifier[\w.]*bias"\.'):
        loaded(root, tmp_path / "less.ckpt")


def test_an_average_of_an_adapter_is_one_of_what_is_trained(root, tmp_path):
    model, _ = fit(root, tmp_path, weight_averaging=0.9)
    trained = sum(parameter.requires_grad for parameter in model.parameters())
    callbacks = read_checkpoint(stage(tmp_path).with_name("last.ckpt"))["callbacks"]
    (average,) = (state["average"] for name, state in callbacks.items() if "EMAWeights" in name)
    assert len(average) == trained


NORMS = {"trainable_by_name": {"*LayerNorm*": True}}


@pytest.mark.parametrize("stages", [{"optimizer": {"lr": 0.02, **NORMS}}, {"optimizer": NORMS}, {"later": NORMS}])
def test_pretrained_weights_under_an_adapter_cannot_be_unfrozen(root, tmp_path, stages):
    """No checkpoint would hold them: neither the next stage nor a loaded model would have what they learnt."""
    settings = {"later": {"optimizer": stages["later"]}, "optimizer": {}} if "later" in stages else stages
    with pytest.raises(InputError, match=r"would be trained \(model\.bert\.embeddings\.LayerNorm\.weight, .*lora"):
        fit(root, tmp_path, **settings)
    assert not list((tmp_path / "run").rglob("*.ckpt"))


def test_what_an_adapter_trains_may_be_frozen_and_without_one_all_may_be_chosen(root, tmp_path):
    frozen = {"trainable_by_name": {"*classifier*": False}}
    fit(root, tmp_path / "a", optimizer={"lr": 0.02, **frozen}, max_epochs=1)
    norms = {"lr": 0.02, "trainable_by_name": {**NORMS["trainable_by_name"], "*": False}}
    model, _ = fit(root, tmp_path / "b", lora=None, optimizer=norms, max_epochs=1)
    pretrained = BertModel.from_pretrained(root / "bert").state_dict()
    moved = {name for name, value in model.model.bert.state_dict().items() if not torch.equal(value, pretrained[name])}
    assert moved == {name for name in pretrained if "LayerNorm" in name}


@pytest.mark.parametrize("epoch", [0, 1])
def test_pretrained_weights_that_a_callback_begins_to_train_are_noticed(root, tmp_path, epoch):
    class Unfreeze(Callback):
        def on_train_epoch_start(self, trainer, pl_module):
            if trainer.current_epoch == epoch:
                norm = pl_module.model.bert.embeddings.LayerNorm.requires_grad_(True)
                trainer.optimizers[0].add_param_group({"params": list(norm.parameters())})

    with pytest.raises(InputError, match=r"would be trained \(model\.bert\.embeddings\.LayerNorm\.weight"):
        fit(root, tmp_path, callbacks=[Unfreeze()])


@pytest.mark.slow
def test_the_command_line_takes_settings_of_the_adapter(root, tmp_path):
    parts = [f"--data.{part}={root / part}.jsonl" for part in ("in_domain", "out_of_domain", "val", "test")]
    quick = ["--trainer.max_epochs=1", "--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false"]
    stages = ["--schedule=[12, 0]", "--later_stages.adapter=merge", f"--run_dir={tmp_path / 'run'}"]
    model = ["--model=TextClassifier", f"--model.pretrained={root / 'bert'}", "--model.lora.r=4"]
    main(["fit", *model, *parts, *stages, *quick])
    model = loaded(root, stage(tmp_path))
    assert model.hparams["lora"] == LoRA(r=4).to_plain()
    assert len(model.adapter.earlier) == 1

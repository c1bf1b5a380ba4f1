"""Nothing that is read runs code, unless the user says so: checkpoints, encoders, configurations."""

import json
import os
import shutil
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from linear_model import LinearModel, make_data, trainer_arguments
from slow_cases import fast_one_in
from wrong_commands import mistake

from gradual import InputError, fit
from gradual.__main__ import main
from gradual.nn.encoder import load_encoder, load_tokenizer
from gradual.stage.callbacks.weights import load_weights
from gradual.tasks.dialogue import DialogueStateTracker

DEMO = Path(__file__).parents[2] / "gradual/cli/demo.yaml"


@pytest.fixture
def ran(tmp_path):
    """A file that is there once code of a stranger ran."""
    return tmp_path / "ran"


class Malicious:
    """An object whose pickle runs a command as it is loaded."""

    def __init__(self, ran):
        self.ran = ran

    def __reduce__(self):
        return os.system, (f"touch {self.ran}",)


def poison(path, ran):
    """Make a checkpoint one that runs a command as it is loaded."""
    content = torch.load(path, weights_only=True)
    torch.save({**content, "poison": Malicious(ran)}, path)


# -------------------------------------------------------------------------------------------------------- checkpoints


def test_the_poisoned_checkpoint_would_run_code(tmp_path, ran):
    """Else the tests below would show nothing."""
    torch.save({"state_dict": {}}, tmp_path / "a.ckpt")
    poison(tmp_path / "a.ckpt", ran)
    torch.load(tmp_path / "a.ckpt", weights_only=False)
    assert ran.exists()


def line_fit(root, epochs, schedule=(20, 0)):
    settings = trainer_arguments() | {"max_epochs": epochs}
    return fit(
        LinearModel(root / "trained.txt"), make_data({}), schedule, root / "run", optimizer={"lr": 0.05}, **settings
    )


@pytest.mark.parametrize("forced", [False, True], ids=["", "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"])
@pytest.mark.parametrize("poisoned", ["seed-0/20/last.ckpt", "seed-0/20/best.ckpt", "seed-0/20/0/best.ckpt"])
def test_fit_runs_no_code_of_checkpoints(tmp_path, ran, monkeypatch, poisoned, forced):
    """It resumes from the first, carries from the second, and ends with the weights of the third."""
    line_fit(tmp_path, 1)
    done = tmp_path / "run" / "seed-0/20"
    if poisoned.endswith("last.ckpt"):
        (done / "result.json").unlink()
    elif poisoned == "seed-0/20/best.ckpt":
        shutil.rmtree(done / "0")
    poison(tmp_path / "run" / poisoned, ran)
    if forced:
        monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    with suppress(Exception):  # it is refused, or noticed and made again
        line_fit(tmp_path, 1)
    assert not ran.exists()


def test_weights_are_taken_without_running_code(tmp_path, ran):
    torch.save(
        {"pytorch-lightning_version": "2.6.6", "state_dict": LinearModel(tmp_path).state_dict()}, tmp_path / "a.ckpt"
    )
    poison(tmp_path / "a.ckpt", ran)
    with pytest.raises(Exception, match=r"weights_only|could run code"):
        load_weights(LinearModel(tmp_path), tmp_path / "a.ckpt")
    assert not ran.exists()


def demo_arguments(command, root, *more):
    data = [f"--data.root={root}", "--data.pool=train30.tsv", f"--model.encoder={root}/encoder"]
    return [command, f"--config={DEMO}", *data, "--trainer.accelerator=cpu", *more]


@pytest.fixture(scope="module")
def tracker(small_demo, tmp_path_factory):
    """A checkpoint of the demo's model."""
    run_dir = tmp_path_factory.mktemp("runs")
    main(demo_arguments("fit", small_demo, f"--run_dir={run_dir}", "--schedule=[0]", "--trainer.max_epochs=1"))
    return run_dir / "seed-0/0/best.ckpt"


@pytest.mark.parametrize("command", fast_one_in(2, ["test", "validate", "predict", "export"]))
def test_a_poisoned_checkpoint_is_refused(small_demo, tracker, tmp_path, ran, capfd, monkeypatch, command):
    path = Path(shutil.copy(tracker, tmp_path / "a.ckpt"))
    poison(path, ran)
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    given = ["export", str(path), f"--out={tmp_path}/a.safetensors"]
    if command != "export":
        given = demo_arguments(command, small_demo, f"--ckpt_path={path}")
    assert f"{path} contains more than tensors and plain data" in mistake(capfd, given)
    assert not ran.exists()


@pytest.mark.slow
def test_a_checkpoint_of_another_model_is_refused_in_one_sentence(small_demo, tracker, tmp_path, capfd):
    other = ["--model.hidden=50"]
    assert "has the weights of another model (size mismatch" in mistake(
        capfd, demo_arguments("test", small_demo, f"--ckpt_path={tracker}", *other)
    )
    (tmp_path / "a.ckpt").write_bytes(tracker.read_bytes()[:-500])
    for name, said in (("a.ckpt", "not end as a checkpoint does"), ("b.ckpt", "No such file"), ("", "Is a directory")):
        given = demo_arguments("test", small_demo, f"--ckpt_path={tmp_path / name}")
        assert said in mistake(capfd, given)


def test_no_option_loads_a_checkpoint_otherwise(small_demo, tracker, capfd):
    given = demo_arguments("test", small_demo, f"--ckpt_path={tracker}", "--weights_only=false")
    assert "weights_only" in mistake(capfd, given)


def test_a_checkpoint_names_no_classes_and_no_encoders(small_demo, tracker, tmp_path, ran, monkeypatch):
    """Hyperparameters in the file are not what a model is made with: the configuration says that."""
    (tmp_path / "stranger.py").write_text(f"open({str(ran)!r}, 'w')")
    monkeypatch.syspath_prepend(tmp_path)
    content = torch.load(tracker, weights_only=True)
    content["hyper_parameters"] |= {"_class_path": "stranger.Model", "encoder": "nowhere"}
    torch.save(content, tmp_path / "a.ckpt")
    main(demo_arguments("validate", small_demo, f"--ckpt_path={tmp_path / 'a.ckpt'}"))
    assert not ran.exists()


# ----------------------------------------------------------------------------------------------------------- encoders


@pytest.fixture
def stranger(small_demo, tmp_path, ran, monkeypatch):
    """An encoder that comes with code of its own, which leaves a mark when it is imported."""
    import transformers.dynamic_module_utils as modules

    monkeypatch.setattr(modules, "HF_MODULES_CACHE", str(tmp_path / "modules"))
    folder = tmp_path / "encoder"
    shutil.copytree(small_demo / "encoder", folder)
    config = json.loads((folder / "config.json").read_text())
    auto_map = {"AutoConfig": "code.StrangeConfig", "AutoModel": "code.StrangeModel"}
    (folder / "config.json").write_text(json.dumps(config | {"model_type": "strange", "auto_map": auto_map}))
    (folder / "code.py").write_text(
        f"open({str(ran)!r}, 'w').close()\n"
        "from transformers import BertConfig, BertModel\n"
        "class StrangeConfig(BertConfig):\n    model_type = 'strange'\n"
        "class StrangeModel(BertModel):\n    config_class = StrangeConfig\n"
    )
    return folder


@pytest.fixture
def _no_questions(monkeypatch):
    def asked(*_):
        raise AssertionError("a question on the terminal")

    monkeypatch.setattr("builtins.input", asked)


@pytest.mark.usefixtures("_no_questions")
def test_an_encoder_s_code_runs_only_where_it_is_trusted(stranger, ran):
    with pytest.raises(InputError) as caught:
        load_encoder(str(stranger))
    assert str(caught.value) == (
        f"'{stranger}' comes with Python code of its own, which is not run: read it and, if you trust it, set "
        "the model's trust_remote_code to true."
    )
    assert load_tokenizer(str(stranger)).is_fast  # its files are enough
    assert not ran.exists()
    assert type(load_encoder(str(stranger), trust_remote_code=True)).__name__ == "StrangeModel"
    assert ran.exists()


@pytest.mark.usefixtures("_no_questions")
def test_the_command_line_trusts_when_told(small_demo, stranger, tmp_path, ran, capfd):
    """One option, the model's, holds for the tokenizer too."""
    given = [*demo_arguments("plan", small_demo, f"--model.encoder={stranger}", "--schedule=[0]")]
    assert "comes with Python code of its own" in mistake(capfd, given)
    assert not ran.exists()
    main([*given, "--model.trust_remote_code=true"])
    assert ran.exists()


@pytest.mark.usefixtures("_no_questions")
def test_a_checkpoint_cannot_turn_on_the_encoder_s_code(tracker, stranger, tmp_path, ran):
    content = torch.load(tracker, weights_only=True)
    assert "trust_remote_code" not in content["hyper_parameters"]
    content["hyper_parameters"] |= {"encoder": str(stranger), "trust_remote_code": True}
    torch.save(content, tmp_path / "a.ckpt")
    with pytest.raises(InputError, match="comes with Python code of its own"):
        DialogueStateTracker.load_from_checkpoint(tmp_path / "a.ckpt")
    assert not ran.exists()


# ----------------------------------------------------------------------------------------------------- configurations


@pytest.mark.parametrize(
    "text",
    [
        "schedule: !!python/object/apply:os.system ['touch {ran}']",
        "run_dir: !!python/object/apply:os.system ['touch {ran}']",
        "strategies: !!python/object/new:os.system ['touch {ran}']",
        "schedule: {{class_path: os.system, init_args: {{command: touch {ran}}}}}",
        "strategies: {{a: {{class_path: os.system, init_args: {{command: touch {ran}}}}}}}",
        "optimizer: {{class_path: os.system, args: {{command: touch {ran}}}}}",
        "trainer: {{logger: {{class_path: os.system, init_args: {{command: touch {ran}}}}}}}",
        "trainer: {{callbacks: [{{class_path: subprocess.Popen, init_args: {{args: [touch, {ran}]}}}}]}}",
        "model: {{class_path: os.system, init_args: {{command: touch {ran}}}}}",
        "data: {{class_path: subprocess.Popen, init_args: {{args: [touch, {ran}]}}}}",
    ],
)
def test_a_configuration_runs_no_code(small_demo, tmp_path, ran, capfd, text):
    (tmp_path / "bad.yaml").write_text(text.format(ran=ran))
    given = demo_arguments("compare", small_demo, f"--config={tmp_path}/bad.yaml", f"--run_dir={tmp_path}/run")
    mistake(capfd, [*given, "--trainer.max_epochs=1"])
    assert not ran.exists()

"""Classes of one's own: found in the current folder, and what is wrong with a path."""

import sys

import pytest
import yaml
from slow_cases import fast_one_in
from wrong_commands import mistake

from gradual.__main__ import main
from gradual.cli.class_paths import OWN_CLASSES, find_modules_in
from gradual.data.module import MixedDomainDataModule
from gradual.tasks.base import TaskModule

MINE = """
import torch, gradual
from lightning.pytorch import LightningModule
class Mine(LightningModule):
    def __init__(self, width: int = 2):
        super().__init__()
        self.layer = torch.nn.Linear(width, 1)
class Needs(Mine):
    def __init__(self, width: int):
        super().__init__(width)
class Encodes(Mine):
    def __init__(self, encoder: int = 2, trust_remote_code: bool = True):
        super().__init__(encoder)
class Wraps(Mine):
    def __init__(self, encoder: torch.nn.Module):
        super().__init__()
        self.encoder = encoder
class Numbers(gradual.MixedDomainDataModule):
    def __init__(self, size: int = 6, tokenizer: str = "", trust_remote_code: bool = False):
        super().__init__(batch_size=2)
        print(f"tokenizer {tokenizer!r}, trusted {trust_remote_code}")
        self.size = size
    def load(self):
        return gradual.Domains(torch.randn(self.size, 2), torch.randn(9, 2), torch.randn(4, 2))
class Neither:
    pass
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The current folder, with a module of one's own."""
    (tmp_path / "own_classes.py").write_text(MINE)
    (tmp_path / "broken_module.py").write_text("x = 1\nraise RuntimeError('no such luck')\n")
    (tmp_path / "importing_module.py").write_text("import not_installed_at_all\n")
    (tmp_path / "misspelt_module.py").write_text("def f(:\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "argv", ["gradual"])
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if name.endswith(("_module", "_classes")):
            del sys.modules[name]


OWN = ("--model=own_classes.Mine", "--data=own_classes.Numbers")


def test_modules_of_the_current_folder_are_found(folder, capsys):
    main(["plan", *OWN, "--optimizer.lr=0.1"])
    assert "Pool: 9 out-of-domain examples." in capsys.readouterr().out


def test_workers_find_modules_of_the_current_folder_too(folder, capsys, monkeypatch, tmp_path):
    from gradual.cli.app import make_experiment

    with pytest.raises(SystemExit):
        main(["compare", *OWN, "--data.size=5", "--print_config"])
    config = capsys.readouterr().out
    monkeypatch.chdir("/")
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path != str(folder)])
    del sys.modules["own_classes"]  # as in a new process
    experiment = make_experiment(config, str(tmp_path / "run"), str(folder))
    assert len(experiment.data({}).domains.in_domain) == 5
    assert type(experiment.model()).__name__ == "Mine"


def test_a_folder_comes_first_and_once(folder):
    find_modules_in(folder)
    find_modules_in(folder)
    assert sys.path[0] == str(folder)
    assert sys.path.count(str(folder)) == 1


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("own_classes.Mines", "the module own_classes has no 'Mines'. Did you mean 'own_classes.Mine'?"),
        (
            "own_clases.Mine",
            "no module 'own_clases' (neither in the current folder nor installed). Did you mean 'own_classes.Mine'?",
        ),
        ("own_classes.Neither", "'own_classes.Neither', which is not a LightningModule."),
        ("own_classes.Numbers", "which is not a LightningModule."),
        ("broken_module.Net", "importing broken_module failed (RuntimeError: no such luck, "),
        ("importing_module.Net", "importing importing_module failed (ModuleNotFoundError: No module named 'not_inst"),
        ("misspelt_module.Net", "importing misspelt_module failed (SyntaxError: invalid syntax, "),
        ("DialogStateTracker", "Did you mean 'gradual.tasks.dialogue.DialogueStateTracker'?"),
        ("gradual.tasks.dialog.DialogueStateTracker", "Did you mean 'gradual.tasks.dialogue.DialogueStateTracker'?"),
        ("gradual.tasks.events.EventExtracter", "Did you mean 'gradual.tasks.events.EventExtractor'?"),
        ("5", "model is '5': it must be the path of a LightningModule class, such as gradual.tasks.dialogue.D"),
        ("", "model is '': it must be the path of"),
        ("null", "There is no model: give a configuration, as in --config FILE, or --model my_module.MyModel."),
        ("own_classes.Needs", "own_classes.Needs needs width: give --model.width, or init_args: {width: ...}."),
        ("{class_path: own_classes.Mine, width: 3}", "model has settings beside class_path; they belong in init_args:"),
        (
            "{class_path: own_classes.Mine, init_args: {with: 3}}",
            "own_classes.Mine has no setting 'with'. Did you mean 'model.width'?",
        ),
        ("{init_args: {width: 3}}", "model has the setting 'width' but no class: give --model CLASS"),
    ],
)
def test_a_model_that_cannot_be_had(folder, capfd, path, said):
    assert said in mistake(capfd, ["plan", f"--model={path}", OWN[1]])


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("--data.sizes=3", "own_classes.Numbers has no setting 'sizes'. Did you mean 'data.size'?"),
        ("--trainer.logger=5", "trainer.logger is '5': it must be true or false, null or the path of a Logger class."),
        ("--trainer.logger=tensorboard", "Did you mean 'lightning.pytorch.loggers.TensorBoardLogger'?"),
        ("--trainer.callbacks=EarlyStoping", "Did you mean 'lightning.pytorch.callbacks.EarlyStopping'?"),
        ("--trainer.callbacks=[{class_path: ModelSumary}]", "Did you mean 'lightning.pytorch.callbacks.ModelSummary'?"),
        ("--trainer.callbacks=EarlyStopping", "callbacks.EarlyStopping needs monitor: give init_args: {monitor: ...}."),
        ("--optimizer=null", "optimizer is null: it is a group of settings, such as --optimizer.lr;"),
        ("--optimizer=AdamW", "Did you mean --optimizer.class_path=torch.optim.AdamW?"),
        ("--lr_schedule=cosine", "Did you mean --lr_schedule.name=cosine?"),
        ("--seeds=3", "seeds is '3': it must be a list, such as [3]."),
        ("--monitor", "--monitor has no value: give one, as in --monitor=VALUE."),
        ("--seed_everything=true", "seed_everything is 'True': it must be an integer."),
    ],
)
def test_other_settings_that_take_classes_or_groups(folder, capfd, given, said):
    assert said in mistake(capfd, ["plan", *OWN, given])


def test_neither_model_nor_data(folder, capfd):
    assert "There are no model and no data: give a configuration" in mistake(capfd, ["plan"])
    assert "The data has no class: give --data" in mistake(capfd, ["plan", OWN[0], "--data.batch_size=3"])


def test_all_classes_of_the_package_are_named():
    for group, base in (("model", TaskModule), ("data", MixedDomainDataModule)):
        for path in OWN_CLASSES[group]:
            module, _, name = path.rpartition(".")
            cls = getattr(__import__(module, fromlist=[name]), name)
            assert issubclass(cls, base)
        own = {cls.__name__ for cls in derived(base) if cls.__module__.startswith("gradual.")}
        unfinished = {"PretrainedTask", "GenerativeTask", "TaskFileDataModule"}  # tasks derive from them
        assert own - unfinished == {path.rpartition(".")[2] for path in OWN_CLASSES[group]}


def derived(base):
    return {cls for child in base.__subclasses__() for cls in (child, *derived(child))}


# ----------------------------------------------------------------------------------------- the tokenizer of the encoder


@pytest.mark.parametrize(
    ("given", "said"),
    fast_one_in(
        3,
        [
            (["--model=own_classes.Encodes"], "tokenizer '', trusted False"),
            (["--model=own_classes.Encodes", "--data.tokenizer=there"], "tokenizer 'there', trusted False"),
            (
                [
                    *("--model=own_classes.Wraps", "--model.encoder=torch.nn.Linear"),
                    *("--model.encoder.in_features=2", "--model.encoder.out_features=1"),
                ],
                "tokenizer ''",
            ),
        ],
    ),
)
def test_another_model_s_encoder_setting_is_left_alone(folder, capsys, given, said):
    main(["plan", *given, OWN[1], "--optimizer.lr=0.1"])
    assert said in capsys.readouterr().out


@pytest.mark.parametrize("derived", [False, True])
@pytest.mark.parametrize("where", fast_one_in(3, ["nowhere", "on the command line", "in a file"]))
def test_a_tokenizer_of_its_own_wins_over_the_model_s_encoder(folder, small_demo, capsys, where, derived):
    (folder / "derived_module.py").write_text(
        "from gradual.tasks.dialogue import DialogueStateTracker\nclass Derived(DialogueStateTracker):\n    pass\n"
    )
    model = "derived_module.Derived" if derived else "gradual.tasks.dialogue.DialogueStateTracker"
    (folder / "file.yaml").write_text(
        yaml.safe_dump({"data": {"class_path": OWN[1][7:], "init_args": {"tokenizer": "t"}}})
    )
    given = {"nowhere": [], "on the command line": ["--data.tokenizer=t"], "in a file": ["--config=file.yaml"]}[where]
    given = [OWN[1], *given] if where != "in a file" else given
    settings = [f"--model={model}", f"--model.encoder={small_demo}/encoder", "--optimizer.lr=0.1"]
    printed = ["plan", *settings, *given, "--print_config"]
    with pytest.raises(SystemExit):
        main(printed)
    (folder / "printed.yaml").write_text(capsys.readouterr().out)
    encoder = f"{small_demo}/encoder"
    for command in (["stats", *settings, *given], ["stats", "--config=printed.yaml"]):
        main(command)
        expected = encoder if where == "nowhere" else "t"
        assert f"tokenizer {expected!r}, trusted False" in capsys.readouterr().out


def test_a_missing_tokenizer_setting_is_reported(folder, small_demo, capfd):
    data = ["--data=gradual.tasks.dialogue.DialogueDataModule", f"--data.root={small_demo}", "--data.domain=hostel"]
    assert "tokenizer is empty: set --data.tokenizer to the folder" in mistake(capfd, ["plan", OWN[0], *data])

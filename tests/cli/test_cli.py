"""Every command from its arguments to its output, and what a user's mistakes look like."""

import csv
import functools
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from recorded_runs import path_results
from slow_cases import fast_one_in

import gradual
from gradual.__main__ import main

DEMO = Path(__file__).parents[2] / "gradual/cli/demo.yaml"
CONFIGS = Path(__file__).parents[2] / "configs"
FAST = ["--trainer.max_epochs=2", "--trainer.accelerator=cpu"]


@pytest.fixture(autouse=True)
def _command_line(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["gradual"])


def arguments(command: str, root: Path, run_dir: Path, *more: str) -> list[str]:
    data = [f"--data.root={root}", "--data.pool=train30.tsv", f"--model.encoder={root}/encoder"]
    return [command, f"--config={DEMO}", *data, f"--run_dir={run_dir}", *FAST, *more]


@pytest.fixture(scope="module")
def finished(small_demo, tmp_path_factory):
    """A run directory with two trained stages."""
    run_dir = tmp_path_factory.mktemp("runs") / "demo"
    main(arguments("fit", small_demo, run_dir, "--schedule=[20, {amount: 0, optimizer: {lr_scale: 0.5}}]"))
    return run_dir


def mistake(capfd, given: list[str]) -> str:
    """The one line that a wrong command leaves on standard error."""
    with pytest.raises(SystemExit) as ended:
        main(given)
    error = capfd.readouterr().err
    assert ended.value.code in (1, 2)
    assert "Traceback" not in error
    lines = [line for line in error.splitlines() if line.startswith("gradual:")]
    assert len(lines) == 1, error
    assert error.rstrip().endswith(lines[0])
    return lines[0]


def python(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


def test_help_and_version_import_nothing_heavy():
    code = (
        "import sys; from gradual.__main__ import main\n"
        "try: main(sys.argv[1:] or ['{0}'])\nexcept SystemExit as e: assert not e.code\n"
        "print([m for m in ('torch', 'transformers', 'lightning', 'numpy', 'jsonargparse') if m in sys.modules])"
    )
    help_text = python(code.format("--help"))
    for command in ("fit", "plan", "validate", "test", "predict", "demo", "init", "download", "convert"):
        assert command in help_text
    assert help_text.endswith("[]\n")
    assert python(code.format("--version")) == f"gradual {gradual.__version__}\n[]\n"


def test_the_package_imports_nothing_heavy_and_offers_its_names():
    heavy = "print([m for m in ('torch', 'transformers', 'lightning') if m in sys.modules])"
    assert python(f"import sys, gradual, gradual.schedule, gradual.data.order; {heavy}") == "[]\n"
    for name in gradual.__all__:
        assert getattr(gradual, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'fitt'"):
        _ = gradual.fitt


def test_fit_writes_the_layout_and_ends_with_the_table(small_demo, tmp_path, capsys):
    run_dir = tmp_path / "run"
    main(arguments("fit", small_demo, run_dir, "--schedule=[20, 0]", "--seed_everything=3"))
    output = capsys.readouterr().out
    content = path_results(run_dir, seed=3)
    assert [stage["path"] for stage in content["stages"]] == ["seed-3/20", "seed-3/20/0"]
    assert json.loads((run_dir / "results.json").read_text())["seeds"] == [3]
    names = {"loss", "slot_accuracy", "joint_accuracy", "slot_accuracy_all", "joint_accuracy_all"}
    for stage in content["stages"]:
        assert set(stage["val"]) == set(stage["test"]) == names
        assert (run_dir / stage["path"] / "best.ckpt").exists()
        assert len((run_dir / stage["path"] / "sample.txt").read_text().splitlines()) == stage["out_of_domain"]
    lines = [line for line in output.splitlines() if line.startswith("stage ")]
    assert len(lines) == 4  # a line an epoch
    assert "stage 1/2 (20 out-of-domain): epoch 1/2, loss " in lines[0]
    assert "best" in lines[0]
    assert "left" in lines[0]
    assert not {"\x1b", "\r", "\b"} & set(output)
    *_, last, below = (line for line in output.splitlines() if line.strip())
    assert last.split()[0] == "test"
    assert below.startswith("† ended before it converged")
    rows = {" ".join(row[:2]): row[2:] for row in (line.split() for line in output.splitlines()) if len(row) == 4}
    for name in names:
        for split in ("val", "test"):
            expected = [f"{stage[split][name]:.4f}" for stage in content["stages"]]
            assert rows[f"{split} {name}"] == expected


def test_running_again_reports_and_trains_nothing(finished, small_demo, capsys):
    before = {path: path.stat().st_mtime_ns for path in finished.rglob("*.ckpt")}
    stages = path_results(finished)["stages"]
    main(arguments("fit", small_demo, finished, "--schedule=[20, {amount: 0, optimizer: {lr_scale: 0.5}}]"))
    assert path_results(finished)["stages"] == stages
    assert {path: path.stat().st_mtime_ns for path in finished.rglob("*.ckpt")} == before
    assert "epoch 1" not in capsys.readouterr().out


@pytest.mark.parametrize("index", fast_one_in(2, [0, 1]))
def test_test_and_validate_give_a_stage_s_scores_exactly(finished, index, monkeypatch):
    stage = path_results(finished)["stages"][index]
    measured = {}
    for command, split in (("test", "test"), ("validate", "val")):
        from lightning.pytorch import Trainer

        original = getattr(Trainer, command)

        @functools.wraps(original)
        def record(self, *args, original=original, command=command, **kwargs):
            measured[command] = original(self, *args, **kwargs)
            return measured[command]

        monkeypatch.setattr(Trainer, command, record)
        checkpoint = finished / stage["path"] / "best.ckpt"
        main([command, f"--config={finished}/config.yaml", f"--ckpt_path={checkpoint}"])
        assert measured[command] == [{f"{split}/{name}": value for name, value in stage[split].items()}]


def test_predict_writes_the_belief_state_of_each_turn(finished, small_demo, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    checkpoint = finished / "seed-0/20/0/best.ckpt"
    target = tmp_path / "out" / "states.jsonl"
    main(["predict", f"--config={finished}/config.yaml", f"--ckpt_path={checkpoint}", f"--predictions={target}"])
    assert list(tmp_path.iterdir()) == [target.parent], "nothing else is written, such as a logger's folder"
    records = [json.loads(line) for line in target.read_text().splitlines()]
    with (small_demo / "domains/hostel/test.tsv").open() as file:
        rows = [row for row in csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE) if not row[0].startswith("#")]
    turns = sorted((record["dialogue"], record["turn"]) for record in records)
    assert turns == sorted((row[0], int(row[1])) for row in rows)
    ontology = json.loads((small_demo / "domains/hostel/ontology.json").read_text())
    assert all(value in ontology[slot] for record in records for slot, value in record["state"].items())
    slots = sorted(ontology)
    gold = {(row[0], int(row[1])): dict(zip(slots, row[4:])) for row in rows}
    target_slots = [slot for slot in slots if slot.startswith("hostel-")]
    right = sum(
        record["state"].get(slot, "none") == gold[record["dialogue"], record["turn"]][slot]
        for record in records
        for slot in target_slots
    )
    expected = path_results(finished)["final"]["test"]["slot_accuracy"]
    assert right / (len(records) * len(target_slots)) == pytest.approx(expected)


def test_predict_on_a_file_of_one_s_own(finished, small_demo, tmp_path):
    lines = (small_demo / "domains/hostel/dev.tsv").read_text().splitlines(keepends=True)
    own = tmp_path / "own.tsv"
    first = lines[1].split("\t")[0]
    own.write_text("".join([lines[0], *(line for line in lines[1:] if line.startswith(first + "\t"))]))
    config, checkpoint = f"--config={finished}/config.yaml", f"--ckpt_path={finished}/seed-0/20/best.ckpt"
    main(["predict", config, checkpoint, f"--data.predict_file={own}"])
    records = [json.loads(line) for line in (finished / "seed-0/20/predictions.jsonl").read_text().splitlines()]
    assert {record["dialogue"] for record in records} == {first}


def test_plan_prints_each_stage_and_trains_nothing(small_demo, tmp_path, capsys):
    schedule = "--schedule=[30, 0.5, {amount: 0, batch_size: 4, optimizer: {lr_scale: 0.5}}]"
    main(arguments("plan", small_demo, tmp_path / "run", schedule))
    rows = [line.split() for line in capsys.readouterr().out.splitlines() if line.strip()[:1].isdigit()]
    # 12 in-domain dialogues; batches of 8, and of 4 in the last stage
    assert [row[:8] for row in rows] == [
        ["1", "12", "30", "1:2.50", "8", "6", "2", "8"],
        ["2", "12", "15", "1:1.25", "8", "4", "2", "8"],
        ["3", "12", "0", "1:0.00", "4", "3", "2", "8"],
    ]
    assert ["0.002" in " ".join(row) for row in rows] == [True, True, False]
    assert "0.001" in " ".join(rows[2])
    assert not (tmp_path / "run").exists()


def test_plan_shows_limits_of_steps_where_there_are_any(small_demo, tmp_path, capsys):
    main(arguments("plan", small_demo, tmp_path / "run", "--schedule=[20, {amount: 0, max_steps: 7}]"))
    output = capsys.readouterr().out
    assert "max steps" in output
    rows = [line.split() for line in output.splitlines() if line.strip()[:1].isdigit()]
    assert [row[8] for row in rows] == ["-", "7"]


def test_plan_notes_a_schedule_that_does_not_end_with_in_domain_data_and_the_default_limit(
    small_demo, tmp_path, capsys
):
    given = arguments("plan", small_demo, tmp_path / "run", "--schedule=[20, {amount: 0.2, max_epochs: 7}]")
    main([*given, "--trainer.max_epochs=null"])
    output = capsys.readouterr().out
    rows = [line.split() for line in output.splitlines() if line.strip()[:1].isdigit()]
    assert [row[6] for row in rows] == ["100", "7"]
    assert "The schedule ends with 6 out-of-domain examples" in output
    with pytest.raises(SystemExit):
        main(["fit", "--print_config"])
    assert yaml.safe_load(capsys.readouterr().out)["trainer"]["max_epochs"] == 100


@pytest.mark.slow
def test_the_mode_goes_by_the_monitor_s_name_and_an_equal_one_is_the_same_experiment(small_demo, tmp_path, capfd):
    given = arguments("fit", small_demo, tmp_path / "run", "--schedule=[0]", "--monitor=val/slot_accuracy")
    main(given)
    assert json.loads((tmp_path / "run/experiment.json").read_text())["settings"]["mode"] == "max"
    assert json.loads((tmp_path / "run/seed-0/0/stage.json").read_text())["mode"] == "max"
    capfd.readouterr()
    main([*given, "--mode=max"])
    assert "epoch 1/2" not in capfd.readouterr().out
    assert "mode: 'max', now 'min'" in mistake(capfd, [*given, "--mode=min"])
    said = mistake(capfd, arguments("compare", small_demo, tmp_path / "other", "--monitor=val/score"))
    assert "'val/score', does not say which values are better" in said


def test_a_schedule_on_the_command_line_keeps_the_settings_of_later_stages(small_demo, tmp_path, capsys):
    (tmp_path / "config.yaml").write_text(
        "later_stages: {batch_size: 4, optimizer: {lr_scale: 0.5}}\nlast_stage: {optimizer: {lr: 1e-3}, patience: 9}\n"
    )
    given = [f"--config={tmp_path}/config.yaml", "--later_stages.optimizer.lr_scale=0.1", "--schedule=[30, 10, 0]"]
    main(arguments("plan", small_demo, tmp_path / "run", *given))
    rows = [line.split() for line in capsys.readouterr().out.splitlines() if line.strip()[:1].isdigit()]
    assert [(row[4], row[7]) for row in rows] == [("8", "8"), ("4", "8"), ("4", "9")]
    assert ["0.002" in " ".join(row) for row in rows] == [True, False, False]
    assert "0.0002" in " ".join(rows[1])
    assert "0.0004" in " ".join(rows[2])


def test_print_config_is_a_configuration_that_every_command_accepts(small_demo, tmp_path, capsys):
    with pytest.raises(SystemExit) as ended:
        main([*arguments("fit", small_demo, tmp_path / "run", "--schedule=[5]", "--patience=2"), "--print_config"])
    assert ended.value.code == 0
    text = capsys.readouterr().out
    assert yaml.safe_load(text)["patience"] == 2
    assert yaml.safe_load(text)["schedule"] == [5]
    (tmp_path / "printed.yaml").write_text(text)
    for command in ("fit", "plan", "validate", "test", "predict"):
        with pytest.raises(SystemExit) as ended:
            main([command, f"--config={tmp_path}/printed.yaml", "--print_config"])
        assert ended.value.code == 0
        assert yaml.safe_load(capsys.readouterr().out)["schedule"] == [5]


@pytest.mark.parametrize(
    ("option", "read"),
    [
        (["--data.prefix", "translate : "], {"prefix": "translate : "}),
        (["--data.prefix=to German: "], {"prefix": "to German: "}),
        (["--data.prefix", "[short]"], {"prefix": "[short]"}),
        (["--data.source_column", "a: b"], {"source_column": "a: b"}),
        (["--data.source_column", "null"], {"source_column": None}),
        (["--data.init_args.in_domain", "[a.jsonl, b.jsonl]"], {"in_domain": ["a.jsonl", "b.jsonl"]}),
        (["--data.out_of_domain", "{web: w.jsonl}"], {"out_of_domain": {"web": "w.jsonl"}}),
        (["--data.out_of_domain=web: w.jsonl"], {"out_of_domain": {"web": "w.jsonl"}}),
        (["--data.batch_size=7", "--data.max_padding", "1e-1"], {"batch_size": 7, "max_padding": 0.1}),
    ],
)
def test_the_type_of_a_setting_says_how_its_text_is_read(capsys, option, read):
    with pytest.raises(SystemExit):
        main(["fit", "--model", "Seq2Seq", "--model.pretrained=x", "--data.in_domain=y", *option, "--print_config"])
    printed = yaml.safe_load(capsys.readouterr().out)["data"]["init_args"]
    assert {name: printed[name] for name in read} == read


def test_environment_variables_fill_in_what_no_file_sets(small_demo, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("GRADUAL_FIT__MIN_DELTA", "0.25")
    with pytest.raises(SystemExit):
        main([*arguments("fit", small_demo, tmp_path / "run"), "--print_config"])
    assert yaml.safe_load(capsys.readouterr().out)["min_delta"] == 0.25


@pytest.mark.slow
def test_logger_and_callbacks_are_chosen_by_class(small_demo, tmp_path):
    callbacks = (
        "--trainer.callbacks=[{class_path: lightning.pytorch.callbacks.ModelSummary}, "
        "{class_path: lightning.pytorch.callbacks.DeviceStatsMonitor, init_args: {cpu_stats: false}}]"
    )
    save_dir = f"init_args: {{save_dir: {tmp_path}}}"
    logger = f"--trainer.logger={{class_path: lightning.pytorch.loggers.CSVLogger, {save_dir}}}"
    main(arguments("fit", small_demo, tmp_path / "run", "--schedule=[10, 0]", logger, callbacks))
    logged = [tmp_path / "lightning_logs/run/seed-0" / stage / "metrics.csv" for stage in ("10", "10/0")]
    assert sorted(tmp_path.rglob("metrics.csv")) == sorted(logged)
    assert "val/joint_accuracy" in logged[0].read_text()
    assert not list((tmp_path / "run").rglob("seed-0/10/events*"))


def test_a_model_and_data_of_one_s_own(tmp_path, monkeypatch):
    (tmp_path / "mine.py").write_text(
        "import torch, gradual\nfrom lightning.pytorch import LightningModule\n"
        "class Mine(LightningModule):\n"
        "    def __init__(self, width: int = 2):\n"
        "        super().__init__(); self.layer = torch.nn.Linear(width, 1)\n"
        "    def training_step(self, batch, i): return self.layer(batch).square().mean()\n"
        "    def validation_step(self, batch, i): self.log('val/loss', self.layer(batch).square().mean())\n"
        "class Numbers(gradual.MixedDomainDataModule):\n"
        "    def __init__(self, size: int = 6):\n"
        "        super().__init__(batch_size=2); self.size = size\n"
        "    def load(self):\n"
        "        return gradual.Domains(torch.randn(self.size, 2), torch.randn(9, 2), torch.randn(4, 2))\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    model_and_data = ["--model=mine.Mine", "--data=mine.Numbers", "--data.size=5", "--optimizer.lr=0.1"]
    main(["fit", *model_and_data, "--schedule=[9, 1.0, 0.34, 0]", f"--run_dir={tmp_path}/run", *FAST])
    stages = path_results(tmp_path / "run")["stages"]
    assert [(stage["in_domain"], stage["out_of_domain"]) for stage in stages] == [(5, 9), (5, 9), (5, 3), (5, 0)]


def test_the_paper_s_configurations_have_the_settings_of_the_paper():
    for domain in ("restaurant", "hotel"):
        config = yaml.safe_load((CONFIGS / "multiwoz" / f"{domain}.yaml").read_text())
        assert config["schedule"] == [4000, 2000, 500, 0]
        assert config["optimizer"]["lr"] == 1e-4
        assert config["last_stage"] == {"optimizer": {"lr": 4e-5}}
        assert config["patience"] == 15
        assert config["trainer"]["max_epochs"] == 200
        assert config["data"]["init_args"]["batch_size"] == 3
        assert config["data"]["init_args"]["domain"] == domain
        assert config["model"]["init_args"]["encoder"] == "bert-base-uncased"
        # see docs/paper/published-code.md
        assert config["lr_schedule"] == {"name": "bert_linear", "warmup": 0.1, "power": 2}


@pytest.mark.parametrize("name", fast_one_in(3, ["restaurant", "hotel", "small"]))
def test_the_configurations_are_accepted(name, capsys):
    more = ["--data.domain=hotel", "--model.encoder=somewhere"] if name == "small" else []
    with pytest.raises(SystemExit) as ended:
        main(["fit", f"--config={CONFIGS}/multiwoz/{name}.yaml", "--data.root=x", *more, "--print_config"])
    assert ended.value.code == 0
    assert yaml.safe_load(capsys.readouterr().out)["data"]["class_path"].endswith("DialogueDataModule")


@pytest.mark.parametrize(
    ("given", "said"),
    fast_one_in(
        3,
        [
            (["--schedule=[10, 20]"], "rises from 10 to 20"),
            (["--schedule=[10, -1]"], "an amount must be finite and at least 0"),
            (["--schedule=[31, 0]"], "the pool holds 30"),
            (["--schedule=[]"], "schedule is empty"),
            (["--schedule=[ten]"], "'ten'"),
            (["--schedule=10,0"], "it must be a list"),
            (["--schedule=[{amount: 0, patiense: 3}]"], "Did you mean 'patience'"),
            (["--schedule=[{patience: 3}]"], "no 'amount'"),
            (["--optimizer.lr=-1"], "optimizer.lr is -1.0"),
            (["--optimizer.lr=fast"], "optimizer.lr"),
            (["--optimizer.class_path=torch.optim.Adamm"], "'torch.optim.Adamm', which cannot be imported"),
            (["--lr_schedule.name=linaer"], "'linaer': it must be one of linear"),
            (["--lr_schedule=linear"], "lr_schedule is 'linear': it is a group of settings"),
            (
                ["--last_stage=null"],
                "last_stage is null: it is a group of settings, such as --last_stage.optimizer.lr;",
            ),
            (["--trainer=3"], "such as --trainer.accelerator;"),
            (
                ["--last_stage={optimizer: {lr: fast}}"],
                "last_stage.optimizer.lr is 'fast': it must be a number or null.",
            ),
            (["--last_stage={optimizer: 3}"], "last_stage.optimizer is 3: it is a group of settings"),
            (["--patience=long"], "patience is 'long': it must be an integer."),
            (["--model.vectors=sum"], "model.vectors is 'sum': it must be cls or mean."),
            (["--mode=up"], "mode is 'up': it must be 'auto', 'min' or 'max'"),
            (["--monitor=val/f1"], "the names logged are"),
            (["--data.domain=hotel"], "the domains there are hostel"),
            (["--data.out_of_domain_slots=some"], "it must be all, shared"),
            (["--model.encoder=no-such-folder"], "'no-such-folder' cannot be loaded as an encoder"),
            (["--model.encoder_layers=9"], "encoder_layers is 9"),
            (["--model.heads=7"], "it must divide"),
            (["--config=no-such.yaml"], "no-such.yaml"),
            (["--patients=3"], "There is no setting --patients. Did you mean --patience?"),
            (["--patienc=3"], "Did you mean --patience?"),  # no option may be shortened
            (["--data.batchsize=3"], "DialogueDataModule has no setting 'batchsize'. Did you mean 'data.batch_size'?"),
            (["--model=gradual.tasks.dialogue.Trackker"], "the module gradual.tasks.dialogue has no 'Trackker'"),
        ],
    ),
)
def test_a_mistake_is_one_sentence(small_demo, tmp_path, capfd, given, said):
    assert said in mistake(capfd, [*arguments("fit", small_demo, tmp_path / "run", "--schedule=[10, 0]"), *given])


@pytest.mark.parametrize(
    ("file", "spoil", "said"),
    fast_one_in(
        5,
        [
            ("train.tsv", lambda text: text.replace("\tnone\n", "\n", 1), "train.tsv:2: found 21 columns"),
            ("train.tsv", lambda text: text.replace("\t1\t", "\t7\t", 1), "train.tsv:3: found turn '7'"),
            ("dev.tsv", lambda text: "", "dev.tsv: the file is empty"),
            ("test.tsv", lambda text: text.replace("\tnone\t", "\tnowhere\t", 1), "test.tsv:2: slot"),
            ("ontology.json", lambda text: text[:-20], "ontology.json:"),
        ],
    ),
)
def test_a_damaged_file_is_named_with_its_line(small_demo, tmp_path, capfd, file, spoil, said):
    root = tmp_path / "data"
    shutil.copytree(small_demo, root)
    path = root / "domains/hostel" / file
    path.write_text(spoil(path.read_text()))
    assert said in mistake(capfd, arguments("fit", root, tmp_path / "run", "--schedule=[10, 0]"))


def test_a_file_that_is_not_utf8_is_named_with_its_line(small_demo, tmp_path, capfd):
    root = tmp_path / "data"
    shutil.copytree(small_demo, root)
    path = root / "domains/hostel/train.tsv"
    lines = path.read_bytes().split(b"\n")
    lines[3] = lines[3].replace(b" ", b"\xe9", 1)
    path.write_bytes(b"\n".join(lines))
    assert "train.tsv:4: not UTF-8 (byte 0xe9)" in mistake(capfd, arguments("fit", root, tmp_path / "run"))


def test_checkpoints_load_without_running_code(finished):
    for path in finished.rglob("*.ckpt"):
        assert "state_dict" in torch.load(path, weights_only=True)


def test_an_unknown_command_is_refused(capfd):
    with pytest.raises(SystemExit) as ended:
        main(["fitt"])
    assert ended.value.code == 2
    assert "fitt" in capfd.readouterr().err


def test_compare_trains_the_tree_and_report_makes_it_again(small_demo, tmp_path, capsys):
    run_dir = tmp_path / "run"
    given = arguments("compare", small_demo, run_dir, "--schedule=[20, 5, 0]", "--seeds=[0]", "--jobs=1")
    main([*given, "--metrics=[slot_accuracy]", "--trainer.max_epochs=1"])
    output = capsys.readouterr().out
    assert "5 stages instead of 7, 0 of them done" in output
    assert output.rstrip().endswith(f"Report: {run_dir}/report/report.html")
    assert "| gradual" in output
    settings = {
        str(path.parent.relative_to(run_dir)): json.loads(path.read_text()) for path in run_dir.rglob("stage.json")
    }
    scales = {stage: values["optimizer"].get("lr_scale") for stage, values in settings.items()}
    one_stage, gradual = ("seed-0/20/0", "seed-0/20/5/0")  # the configuration's last_stage applies to them
    assert scales == dict.fromkeys(["seed-0/0", "seed-0/20", "seed-0/20/5"]) | {one_stage: 0.4, gradual: 0.4}
    patience = {stage: values["patience"] for stage, values in settings.items()}
    assert patience == dict.fromkeys(scales, 8) | {"seed-0/0": 30}, "an override of the strategy in-domain only"
    table = (run_dir / "report/table.csv").read_bytes()
    (run_dir / "report/table.csv").unlink()
    main(["report", str(run_dir)])
    assert (run_dir / "report/table.csv").read_bytes() == table
    capsys.readouterr()
    main([*given, "--strategies=[gradual, mixed]", "--metrics=[slot_accuracy]", "--trainer.max_epochs=1"])
    assert "3 stages instead of 4, 3 of them done" in capsys.readouterr().out


@pytest.mark.slow
def test_compare_with_controls_trains_them_after_what_they_copy(small_demo, tmp_path, capsys):
    run_dir = tmp_path / "run"
    given = arguments("compare", small_demo, run_dir, "--schedule=[20, 5, 0]", "--seeds=[0]", "--trainer.max_epochs=1")
    given += ["--strategies=[gradual]", "--jobs=1", "--metrics=[joint_accuracy]", "--patience=1"]
    main([*given, "--controls=['same training, drop at once']"])
    output = capsys.readouterr().out
    assert "0 out-of-domain, for the steps of 5 in gradual: to do" in output
    assert "## Gradual† against the best control of equal training" in output
    results = {path.parent.name: json.loads(path.read_text()) for path in run_dir.rglob("result.json")}
    assert results["0-as-5"]["steps"] == results["5"]["steps"]
    assert results["0-as-0"]["ended_by"] == "steps of its strategy"
    with pytest.raises(SystemExit):
        main([*given, "--controls=[drop at once]"])
    assert "Did you mean 'same training, drop at once'?" in capsys.readouterr().err
    main(["report", str(run_dir), str(run_dir), "--out", str(tmp_path / "all")])
    assert capsys.readouterr().out.rstrip().endswith(f"Report: {tmp_path}/all/report.html")


@pytest.mark.parametrize(
    ("given", "expected"), fast_one_in(3, [(["--controls"], True), (["--controls=false"], False), ([], False)])
)
def test_controls_alone_on_the_command_line_are_all_of_them(small_demo, tmp_path, capsys, given, expected):
    with pytest.raises(SystemExit):
        main([*arguments("compare", small_demo, tmp_path / "run", *given), "--print_config"])
    assert yaml.safe_load(capsys.readouterr().out)["controls"] is expected


@pytest.mark.slow
def test_names_of_strategies_select_from_the_file(small_demo, tmp_path, capsys):
    config = yaml.safe_load(DEMO.read_text()) | {"strategies": {"long": [20, 5, 0], "short": [20, 0]}}
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(config))
    given = arguments("compare", small_demo, tmp_path / "run", "--seeds=[0]", "--trainer.max_epochs=1", "--jobs=1")
    given[1] = f"--config={tmp_path}/mine.yaml"
    main([*given, "--strategies=[short]"])
    assert "2 stages instead of 2" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main([*given, "--strategies=[longest]"])
    assert "the strategies are long, short. Did you mean 'long'?" in capsys.readouterr().err


@pytest.mark.slow
def test_stages_are_trained_in_several_processes(small_demo, tmp_path, capsys):
    given = arguments("compare", small_demo, tmp_path / "run", "--seeds=[0]", "--trainer.max_epochs=1", "--jobs=2")
    main([*given, "--strategies={short: [20, 0]}"])
    assert "2 stages instead of 2" in capsys.readouterr().out


def test_stats_counts_what_the_files_hold(small_demo, tmp_path, capsys):
    main(arguments("stats", small_demo, tmp_path / "run"))
    rows = {
        line.rsplit(maxsplit=1)[0].strip(): line.split()[-1]
        for line in capsys.readouterr().out.splitlines()
        if line.strip()
    }
    turns = 0
    for name in ("train", "dev", "test"):
        lines = (small_demo / f"domains/hostel/{name}.tsv").read_text().splitlines()[1:]
        turns += len(lines)
        assert rows[f"dialogues, {name}"] == str(len({line.split("\t")[0] for line in lines}))
    assert rows["turns"] == str(turns)
    assert rows["slots"] == "7"
    assert rows["dialogues, pool"] == "30"


def test_report_without_a_comparison_is_one_sentence(tmp_path, capfd):
    assert "compare.json" in mistake(capfd, ["report", str(tmp_path)])

"""Options take precedence over files, or are refused with the reason."""

from pathlib import Path

import pytest
import yaml
from jsonargparse import Namespace

from gradual.__main__ import main
from gradual.cli.precedence import check_command, named_settings, ordered, settle
from gradual.errors import InputError

SMALL = Path(__file__).parents[2] / "configs" / "multiwoz" / "small.yaml"


def configuration(schedule=(20, 0), strategies=None, later=None, last=None):
    stages = {"later_stages": later, "last_stage": last}
    groups = {
        name: Namespace(optimizer=Namespace(lr=None, lr_scale=None), max_epochs=None, patience=None)
        for name in ("later_stages", "last_stage")
    }
    for name, settings in stages.items():
        for key, value in (settings or {}).items():
            groups[name][key] = value
    return Namespace(schedule=list(schedule), strategies=strategies, **groups)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (["fit", "--patience", "3", "--config", "a.yaml"], ["fit", "--config", "a.yaml", "--patience", "3"]),
        (
            ["fit", "-c", "a.yaml", "--x=1", "--config=b.yaml", "--y", "2"],
            ["fit", "-c", "a.yaml", "--config=b.yaml", "--x=1", "--y", "2"],
        ),
        (
            ["fit", "--data.a=1", "--model.b=2", "--data=D", "--model", "M"],
            ["fit", "--model", "M", "--data=D", "--data.a=1", "--model.b=2"],
        ),
        (["fit", "--config"], ["fit", "--config"]),
        ([], []),
    ],
)
def test_files_come_first(given, expected):
    assert ordered(given) == expected


def test_an_option_before_a_file_takes_precedence(tmp_path, capsys):
    (tmp_path / "file.yaml").write_text("patience: 3\nmonitor: val/f1\n")
    with pytest.raises(SystemExit):
        main(["fit", "--patience=7", f"--config={tmp_path}/file.yaml", "--print_config"])
    printed = yaml.safe_load(capsys.readouterr().out)
    assert (printed["patience"], printed["monitor"]) == (7, "val/f1")


def test_the_settings_that_options_name():
    given = ["fit", "--patience=3", "--schedule", "[1, 0]", "--data.init_args.batch_size", "4", "--seeds+=3"]
    given += ["--trainer={max_epochs: 2, callbacks: null}", "--optimizer", "{lr: 1e-3}", "--model={init_args: {a: x}}"]
    assert named_settings(given) == {
        "patience": "3",
        "schedule": "[1, 0]",
        "data.batch_size": "4",
        "seeds": "3",
        "trainer.max_epochs": "2",
        "trainer.callbacks": "null",
        "optimizer.lr": "1e-3",
        "model.a": "x",
    }


@pytest.mark.parametrize(
    ("command", "name", "said"),
    [
        ("fit", "strategies", "--strategies is a setting of gradual compare: gradual fit would ignore it."),
        ("plan", "jobs", "--jobs is a setting of gradual compare"),
        ("fit", "seeds", "Did you mean --seed_everything?"),
        ("test", "predictions", "--predictions is a setting of gradual predict: gradual test would ignore it."),
        ("compare", "seed_everything", "gradual compare takes its seeds from --seeds"),
        ("predict", "final", "--final is a setting of training: gradual predict would ignore it.$"),
        ("validate", "optimizer.lr", "--optimizer.lr is a setting of training: gradual validate would ignore it."),
        ("test", "run_dir", "Give the run directory by itself: gradual test RUN_DIR"),
    ],
)
def test_what_a_command_ignores_is_refused_on_the_command_line(command, name, said):
    with pytest.raises(InputError, match=said):
        check_command(command, {name: "1"})
    check_command(command, {"data.batch_size": "1", "trainer.accelerator": "cpu"})


def test_another_monitor_does_not_keep_the_mode_of_the_files():
    """The lowest F1, or the highest loss, would otherwise be the best one."""
    config = configuration()
    config.mode = "max"
    assert settle(config, "fit", {"monitor": "val/loss"}) == [
        "--monitor val/loss replaces the mode 'max' of the files as well: it is auto."
    ]
    assert config.mode == "auto"
    config.mode = "max"
    assert settle(config, "fit", {"monitor": "val/score", "mode": "max"}) == []
    assert settle(config, "fit", {"patience": "1"}) == []
    assert config.mode == "max"


def test_a_batch_size_replaces_the_tokens_of_a_batch_in_files():
    config = configuration()
    config.data = Namespace(class_path="CausalLMData", init_args=Namespace(batch_size=4, batch_tokens=4096))
    with pytest.raises(InputError, match=r"--data.batch_size would have no effect beside --data.batch_tokens"):
        settle(config, "fit", {"data.batch_size": "4", "data.batch_tokens": "4096"})
    assert settle(config, "fit", {"patience": "1"}) == []
    assert config.data.init_args.batch_tokens == 4096
    assert settle(config, "fit", {"data.batch_size": "4"}) == [
        "--data.batch_size 4 replaces batch_tokens: 4096 of the files."
    ]
    assert config.data.init_args.batch_tokens is None


@pytest.mark.parametrize("name", ["last_stage.max_epochs", "later_stages.trainer.max_epochs"])
def test_later_stages_of_a_schedule_with_one_stage_are_refused(name):
    with pytest.raises(
        InputError, match=f"--{name} would have no effect, since the schedule has a single stage: give "
    ):
        settle(configuration([20]), "fit", {name: "3"})
    settle(configuration([20]), "compare", {name: "3"})  # its strategies may have more stages


def test_an_option_takes_precedence_over_the_stages_of_a_file_that_schedule_names():
    config = configuration([20, {"amount": 0, "patience": 9}])
    (sentence,) = settle(config, "fit", {"schedule": "runs/search/search.yaml", "patience": "3"})
    assert config.schedule == [20, {"amount": 0}]
    assert sentence == "--patience 3 replaces stage 2 of the schedule (patience: 9) of the files."


def test_an_option_takes_precedence_over_single_stages_of_files():
    last = {"amount": 0, "max_epochs": 15}  # one object in several paths, as YAML's anchors make it
    config = configuration([20, 10, last], last={"max_epochs": 9, "patience": 4})
    (sentence,) = settle(config, "fit", {"trainer.max_epochs": "1"})
    assert config.schedule == [20, 10, {"amount": 0}]
    assert (config.last_stage.max_epochs, config.last_stage.patience) == (None, 4)
    assert last == {"amount": 0, "max_epochs": 15}
    assert sentence == (
        "--trainer.max_epochs 1 replaces last_stage (max_epochs: 9) and stage 3 of the schedule (max_epochs: 15) of "
        "the files."
    )


def test_the_trainer_s_limit_of_steps_takes_precedence_over_a_stage_s():
    config = configuration([20, {"amount": 0, "max_steps": 15}])
    (sentence,) = settle(config, "fit", {"trainer.max_steps": "9"})
    assert config.schedule == [20, {"amount": 0}]
    assert sentence == "--trainer.max_steps 9 replaces stage 2 of the schedule (max_steps: 15) of the files."


def test_an_option_takes_precedence_over_the_strategies_of_files():
    strategies = {
        "a": [{"amount": 0, "patience": 30, "max_epochs": 60}],
        "b": {"schedule": [5, {"amount": 0, "patience": 2}]},
    }
    config = configuration(strategies=strategies)
    (sentence,) = settle(config, "compare", {"patience": "1"})
    assert config.strategies == {"a": [{"amount": 0, "max_epochs": 60}], "b": {"schedule": [5, {"amount": 0}]}}
    assert "stage 1 of the strategy 'a' (patience: 30) and stage 2 of the strategy 'b' (patience: 2)" in sentence
    assert strategies["a"][0]["patience"] == 30


@pytest.mark.parametrize(
    "named",
    [
        {"patience": "1", "schedule": "[20, {amount: 0, patience: 9}]"},  # both are the command line's
        {"max_epochs": "1"},
        {"later_stages.patience": "1", "schedule": "[20, {amount: 0, patience: 9}]"},
        {"last_stage.max_epochs": "1"},  # nothing says otherwise
        {"last_stage.patience": "1", "seeds": "[0]"},
    ],
)
def test_settings_that_do_not_conflict_stay(named):
    config = configuration([{"amount": 20, "patience": 9}, {"amount": 0, "patience": 9} if "schedule" in named else 0])
    before = config.clone()
    assert settle(config, "fit", named) == []
    assert config == before


def test_an_option_of_the_last_stage_takes_precedence_in_that_stage_alone():
    config = configuration([{"amount": 20, "patience": 9}, {"amount": 5, "patience": 8}, {"amount": 0, "patience": 7}])
    settle(config, "fit", {"last_stage.patience": "1"})
    assert config.schedule == [{"amount": 20, "patience": 9}, {"amount": 5, "patience": 8}, {"amount": 0}]
    settle(config, "fit", {"later_stages.patience": "1"})
    assert config.schedule == [{"amount": 20, "patience": 9}, {"amount": 5}, {"amount": 0}]


def test_an_optimizer_s_setting_that_would_not_hold_everywhere_is_refused():
    said = (
        "optimizer.lr 0.1 would not apply to last_stage .optimizer.lr: 4e-05., .*give --last_stage.optimizer.lr as well"
    )
    config = configuration(last={"optimizer": Namespace(lr=4e-5, lr_scale=None)})
    with pytest.raises(InputError, match=said):
        settle(config, "fit", {"optimizer.lr": "0.1"})
    assert settle(config, "fit", {"optimizer.lr": "0.1", "last_stage.optimizer.lr": "0.05"}) == []
    with pytest.raises(InputError, match="would not apply to stage 2 of the schedule"):
        settle(configuration([9, {"amount": 0, "optimizer": {"lr": 1}}]), "plan", {"optimizer.lr": "0.1"})


def test_an_option_applies_to_strategies_that_follow_the_schedule_too():
    strategies = {"in-domain only": {"max_epochs": 60, "patience": 30}, "gradual": {}, "own": [9, {"amount": 0}]}
    config = configuration([20, {"amount": 0, "max_epochs": 15}], strategies)
    (sentence,) = settle(config, "compare", {"trainer.max_epochs": "1"})
    assert config.strategies == {"in-domain only": {"patience": 30}, "gradual": {}, "own": [9, {"amount": 0}]}
    assert config.schedule == [20, {"amount": 0}]
    assert sentence == (
        "--trainer.max_epochs 1 replaces stage 2 of the schedule (max_epochs: 15) and the strategy 'in-domain only' "
        "(max_epochs: 60) of the files."
    )
    assert strategies["in-domain only"]["max_epochs"] == 60


def test_an_alias_of_overrides_in_a_file_counts_for_each_strategy():
    shared = {"max_epochs": 60, "optimizer": {"lr": 1.0}}
    config = configuration([20, 0], {"mixed": shared, "gradual": shared})
    settle(config, "compare", {"trainer.max_epochs": "1"})
    assert config.strategies == {"mixed": {"optimizer": {"lr": 1.0}}, "gradual": {"optimizer": {"lr": 1.0}}}


@pytest.mark.parametrize(
    ("strategies", "named"),
    [
        ({"mixed": {"optimizer": {"lr": 0.2}}}, {"optimizer.lr": "0.1"}),
        ({"gradual": {"patience": 3}}, {"last_stage.patience": "1"}),
        ({"own": {"schedule": [5, 0], "patience": 3}}, {"later_stages.patience": "1"}),
    ],
)
def test_an_option_that_a_strategy_of_a_file_overrides_is_refused(strategies, named):
    with pytest.raises(InputError, match=r"would not apply to the strategy '.*give the strategies on the command line"):
        settle(configuration([20, 5, 0], strategies), "compare", named)
    given = {**named, "strategies": str(strategies)}
    assert settle(configuration([20, 5, 0], strategies), "compare", given) == [], "both are on the command line"
    assert settle(configuration([20, 5, 0], strategies), "fit", named) == [], "only compare has strategies"


def test_options_for_later_stages_leave_strategies_of_one_stage_alone():
    strategies = {
        "in-domain only": {"patience": 3},
        "mixed": {"patience": 3},
        "own": {"schedule": [1.0], "patience": 3},
    }
    config = configuration([20, 5, 0], strategies)
    assert settle(config, "compare", {"last_stage.patience": "1", "later_stages.patience": "2"}) == []
    assert config.strategies == strategies


@pytest.mark.parametrize("more", [[], ["--strategies=[gradual, other]"]])
def test_a_schedule_that_strategies_of_a_file_would_ignore_is_refused(more, tmp_path, capfd):
    paths = {"strategies": {"gradual": {}, "mine": [9, 0], "other": {"schedule": [5, 0]}}}
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(paths))
    given = [f"--config={SMALL}", f"--config={tmp_path}/mine.yaml", "--data.root=x", "--data.domain=x"]
    with pytest.raises(SystemExit) as ended:
        main(["compare", *given, "--model.encoder=x", "--schedule", "[40, 10, 0]", *more])
    assert ended.value.code == 2
    them = (
        "the strategy 'other', with amounts of its own" if more else "the strategies 'mine' and 'other', with amounts"
    )
    assert f"--schedule [40, 10, 0] would not change {them}" in capfd.readouterr().err


def test_a_schedule_beside_strategies_on_the_command_line_needs_one_that_follows_it():
    named = {"schedule": "[40, 10, 0]", "strategies": "{...}"}
    assert settle(configuration([40, 10, 0], {"gradual": {}, "own": [40, 40, 0]}), "compare", named) == []
    with pytest.raises(InputError, match="would not change the strategy 'own'"):
        settle(configuration([40, 10, 0], {"own": [40, 40, 0]}), "compare", named)


def test_a_schedule_option_applies_where_the_strategies_follow_it():
    for strategies in (None, ["gradual", "mixed"], {"in-domain only": {"max_epochs": 3}, "gradual": {}}):
        config = configuration([40, 10, 0], strategies)
        assert settle(config, "compare", {"schedule": "[40, 10, 0]"}) == []
        assert config.strategies == strategies

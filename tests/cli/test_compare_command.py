"""``gradual compare`` from its arguments to its report, which ``gradual report`` makes again."""

import json
import shutil

import pytest
import yaml
from demo_commands import DEMO, arguments
from slow_cases import fast_one_in
from wrong_commands import mistake

from gradual.__main__ import main


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
    shutil.copytree(run_dir, tmp_path / "other")
    main(["report", str(run_dir), str(tmp_path / "other"), "--out", str(tmp_path / "all")])
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


def test_report_without_a_comparison_is_one_sentence(tmp_path, capfd):
    assert "compare.json" in mistake(capfd, ["report", str(tmp_path)])

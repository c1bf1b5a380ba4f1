"""What is known before training: ``gradual plan`` of the stages, and ``gradual stats`` of the data."""

import pytest
import yaml
from demo_commands import arguments

from gradual.__main__ import main


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

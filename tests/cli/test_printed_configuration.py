"""Settings as ``--print_config`` shows them: from options, environment variables and printed files."""

import pytest
import yaml
from demo_commands import arguments

from gradual.__main__ import main


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

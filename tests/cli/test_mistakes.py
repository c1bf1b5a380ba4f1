"""A user's mistakes, in options and in the files of dialogues, are one sentence."""

import os
import shutil

import pytest
from demo_commands import arguments
from slow_cases import fast_one_in
from wrong_commands import mistake

from gradual.__main__ import main


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


def test_an_unknown_command_is_refused(capfd):
    with pytest.raises(SystemExit) as ended:
        main(["fitt"])
    assert ended.value.code == 2
    assert "fitt" in capfd.readouterr().err


def test_a_file_name_that_is_not_utf_8_is_given_as_a_pattern(capfd):
    name = os.fsdecode(b"donn\xe9es.jsonl")
    assert mistake(capfd, ["fit", f"--data.in_domain={name}"]) == (
        "gradual: --data.in_domain=donn\\xe9es.jsonl is not UTF-8, as all arguments must be. Of files, give a pattern "
        "(--data.in_domain=donn*es.jsonl)."
    )

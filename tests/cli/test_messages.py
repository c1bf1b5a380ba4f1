import pytest

from gradual.cli.messages import sentence_of, sentence_of_class
from gradual.cli.setting_names import nearest_setting

KNOWN = ["patience", "optimizer", "optimizer.help", "optimizer.lr", "last.help", "last.optimizer", "last.optimizer.lr"]


def union(key, types, given):
    lines = [f'Parser key "{key}":', "Does not validate against any of the Union subtypes", f"Subtypes: [{types}]"]
    return "\n  ".join(
        [*lines, "Errors:", "- Expected a [x] Given", "Given value type: <class 'str'>", f"Given value: {given}"]
    )


@pytest.mark.parametrize(
    ("message", "sentence"),
    [
        (
            "Parser key \"patience\": Expected a <class 'int'>. Got value: x",
            "patience is 'x': it must be an integer.",
        ),
        (
            union("a.b", "<class 'int'>, <class 'float'>, <class 'NoneType'>", "x"),
            "a.b is 'x': it must be a number or null.",
        ),
        (union("a", "dict[str, list[int]], <class 'NoneType'>", "3"), "a is '3': it must be a mapping or null."),
        (
            union("a", "typing.Literal[64, 32], typing.Literal['64', 'bf16-mixed'], <class 'NoneType'>", "17"),
            "a is '17': it must be 64, 32, bf16-mixed or null.",
        ),
        (
            'Parser key "optimizer": Unable to load config "no" - Parser key "optimizer": Unable to load config "no"',
            "optimizer is 'no': it is a group of settings. Did you mean --optimizer.class_path=no?",
        ),
        (
            'Parser key "last": Unable to load config \'{optimizer: no}\' - Parser key "last.optimizer": Unable to '
            "load config 'no' - Parser key \"last.optimizer\": Unable to load config 'no'",
            "last.optimizer is 'no': it is a group of settings. Did you mean --last.optimizer.class_path=no?",
        ),
        (
            "Parser key \"optimizer\": Unable to load config '{lr: x}' - "
            "Parser key \"optimizer.lr\": Expected a <class 'float'>. Got value: x",
            "optimizer.lr is 'x': it must be a number.",
        ),
        ("Unrecognized arguments: --patienc=3", "There is no setting --patienc. Did you mean --patience?"),
        ("Option 'zzz' is not accepted", "There is no setting 'zzz'."),
        (
            "the following arguments are required: model",
            "There is no model: give a configuration, as in --config FILE, or --model my_module.MyModel.",
        ),
        ("Something else\n  of several lines", "Something else of several lines"),
    ],
)
def test_a_message_is_one_sentence(message, sentence):
    assert sentence_of(message, KNOWN) == sentence


def test_a_type_without_a_word_is_left_as_it_is():
    message = union("a", "<class 'datetime.timedelta'>, <class 'NoneType'>", "5")
    assert "datetime.timedelta" in sentence_of(message, KNOWN)


SETTINGS = [
    *(
        "schedule",
        "run_dir",
        "seed_everything",
        "seeds",
        "patience",
        "monitor",
        "metrics",
        "predictions",
        "jobs",
        "ray",
    ),
    *(f"{stages}optimizer.{name}" for stages in ("", "last_stage.") for name in ("class_path", "lr", "lr_scale")),
    *(
        "optimizer.lr_by_name",
        "optimizer.weight_decay",
        "optimizer.init_args",
        "lr_schedule.name",
        "lr_schedule.warmup",
    ),
    *("last_stage.batch_size", "last_stage.patience", "last_stage.max_epochs", "collapse.attempts", "trainer.plugins"),
    *("trainer.max_epochs", "trainer.min_epochs", "trainer.devices", "trainer.precision", "trainer.gradient_clip_val"),
]


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("batch_size", "data.batch_size"),
        ("optimizer.learning_rate", "optimizer.lr"),
        ("last_stage.optimizer.learning_rate", "last_stage.optimizer.lr"),
        ("last_stage.lr", "last_stage.optimizer.lr"),
        ("last_stage.epochs", "last_stage.max_epochs"),
        ("seed", "seed_everything"),
        ("epochs", "trainer.max_epochs"),
        ("max_epochs", "trainer.max_epochs"),
        ("trainer.epochs", "trainer.max_epochs"),
        ("trainer.gpus", "trainer.devices"),
        ("precision", "trainer.precision"),
        ("lr", "optimizer.lr"),
        ("learning_rate", "optimizer.lr"),
        ("weight_decay", "optimizer.weight_decay"),
        ("optimizer.betas", "optimizer.init_args"),
        ("optimizer.name", "optimizer.class_path"),
        ("lr_scheduler", "lr_schedule.name"),
        ("lr_scheduler.name", "lr_schedule.name"),
        ("lr_schedule.warmup_steps", "lr_schedule.warmup"),
        ("warmup", "lr_schedule.warmup"),
        ("early_stopping_patience", "patience"),
        ("max_grad_norm", "trainer.gradient_clip_val"),
        ("output_dir", "run_dir"),
        ("shedule", "schedule"),
        ("collapse.attempt", "collapse.attempts"),
        ("model.pretrained", "model.encoder"),
        ("zzz", None),
        ("data.zzz", None),
    ],
)
def test_the_nearest_setting_is_what_people_mean(typed, meant):
    assert nearest_setting(typed, SETTINGS) == meant


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (
            "--lr 3 --seed=4",
            "There is no setting --lr. Did you mean --optimizer.lr? There is no setting --seed. Did you",
        ),
        ("--resume true", "There is no setting --resume: the same command resumes where it stopped."),
        ("--ckpt_path x", "--ckpt_path is a setting of gradual validate, test and predict;"),
        ("10 0", "'10 0' belongs to no setting: write settings as --NAME VALUE, and a list as one value, as in"),
        ("stray", "'stray' belongs to no setting"),
    ],
)
def test_arguments_that_belong_to_nothing(found, said):
    assert sentence_of(f"unrecognized arguments: {found}", SETTINGS).startswith(said)


def test_a_configuration_that_does_not_exist():
    found = """Parser key "config": File does not exist: '/a/no pe.yaml'"""
    said = "--config /a/no pe.yaml does not exist: give a configuration file, as gradual init writes it."
    assert sentence_of(found, SETTINGS) == said


@pytest.mark.parametrize(
    ("message", "said"),
    [
        (
            "the following arguments are required: width",
            "m.Net needs width: give --model.width, or init_args: {width: ...",
        ),
        ("Option 'encodr' is not accepted", "m.Net has no setting 'encodr'. Did you mean 'model.encoder'?"),
        ("Option 'pretrained' is not accepted", "m.Net has no setting 'pretrained'. Did you mean 'model.encoder'?"),
        (
            "unrecognized arguments: --batch_size=3",
            "m.Net has no setting 'batch_size'; its settings are encoder and width.",
        ),
        ("Option 'class_path' is not accepted", "model has settings beside class_path; they belong in init_args:"),
        (
            "Parser key \"width\": Expected a <class 'int'>. Got value: x",
            "model.width is 'x': it must be an integer.",
        ),
    ],
)
def test_settings_of_a_class(message, said):
    assert sentence_of_class(message, "m.Net", "model", ["help", "encoder", "width"]).startswith(said)

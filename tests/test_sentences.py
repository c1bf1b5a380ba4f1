import pytest

from gradual.sentences import sentence_of

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
            "patience is 'x': accepted is a whole number.",
        ),
        (
            union("a.b", "<class 'int'>, <class 'float'>, <class 'NoneType'>", "x"),
            "a.b is 'x': accepted is a number or null.",
        ),
        (union("a", "dict[str, list[int]], <class 'NoneType'>", "3"), "a is '3': accepted is a mapping or null."),
        (
            union("a", "typing.Literal[64, 32], typing.Literal['64', 'bf16-mixed'], <class 'NoneType'>", "17"),
            "a is '17': accepted is 64, 32, bf16-mixed or null.",
        ),
        (
            'Parser key "optimizer": Unable to load config "no" - Parser key "optimizer": Unable to load config "no"',
            'optimizer is "no": it is a group of settings; accepted are a mapping of them, a file with one, or single '
            "ones, such as --optimizer.lr.",
        ),
        (
            'Parser key "last": Unable to load config \'{optimizer: no}\' - Parser key "last.optimizer": Unable to '
            "load config 'no' - Parser key \"last.optimizer\": Unable to load config 'no'",
            "last.optimizer is 'no': it is a group of settings; accepted are a mapping of them, a file with one, or "
            "single ones, such as --last.optimizer.lr.",
        ),
        (
            "Parser key \"optimizer\": Unable to load config '{lr: x}' - "
            "Parser key \"optimizer.lr\": Expected a <class 'float'>. Got value: x",
            "optimizer.lr is 'x': accepted is a number.",
        ),
        ("Unrecognized arguments: --patienc=3", "Unrecognized arguments: --patienc=3. Did you mean 'patience'?"),
        ("Option 'zzz' is not accepted", "Option 'zzz' is not accepted."),
        (
            "the following arguments are required: model",
            "the following arguments are required: model. Give a configuration: --config FILE.",
        ),
        ("Something else\n  of several lines", "Something else of several lines"),
    ],
)
def test_a_message_is_one_sentence(message, sentence):
    assert sentence_of(message, KNOWN) == sentence


def test_a_type_without_a_word_is_left_as_it_is():
    message = union("a", "<class 'torch.nn.Module'>, <class 'NoneType'>", "5")
    assert "torch.nn.Module" in sentence_of(message, KNOWN)

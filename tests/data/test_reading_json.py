"""JSON lines and arrays: what is malformed is refused with its line."""

import pytest
from row_files import refused, tables


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('{"text": "hi"}\n{"text": 12}\n', ":2: 'text' is the number 12, but the text 'hi' in line 1; a column must"),
        ('{"a": true}\n{"a": 1.5}\n', ":2: 'a' is the number 1.5, but true in line 1; a column must"),
        ('{"a": 1.5}\n{"a": null}\n{"a": true}\n', ":3: 'a' is true, but the number 1.5 in line 1; a column must"),
        ('{"a": []}\n{"a": [1]}\n{"a": ["x"]}\n', ":3: 'a' is the list ['x'], but the list [1] in line 2; a column"),
        ('{"a": {"b": 1}}\n{"a": {"b": "x"}}\n', ":2: 'a' is the object {'b': 'x'}, but the object {'b': 1} in line 1"),
        ('{"a": [1, "x"]}\n', ":1: 'a' is the list [1, 'x'], which cannot be read exactly"),
        (
            '{"a": 1}\n\n{"a": 18446744073709551616}\n',
            ":3: 'a' is the number 18446744073709551616, which cannot be read",
        ),
        (
            '{"a": 0.5}\n{"a": 9007199254740993}\n',
            ":2: 'a' is the number 9007199254740993, but the number 0.5 in line 1",
        ),
        (
            '{"a": 1, "a": 2}\n',
            ":1: not JSON that can be read (the field 'a' comes twice); a line must be one JSON object.",
        ),
        ('{"a": NaN}\n', ":1: not JSON that can be read (NaN is not a JSON number)"),
        ('{"a": [1e999]}\n', ":1: 'a' is the list [inf], which cannot be read exactly"),
        ('{"a": 1}\n{"a": 1} {"a": 2}\n', ":2: not JSON (Extra data, column 10)"),
        ('{"a": "\\ud800"}\n', ":1: has the escape \\ud800 alone, half of a character"),
        ('{"a": ' + "[" * 30 + "]" * 30 + "}\n", ":1: 'a' is the list [[["),
        ('[{"a": 1},\n {"a": 2},\n {"a": }]', ":3: not JSON (Expecting value, column 8)"),
        ('[{"a": 1},\n {"a": 2}', ":2: not JSON (Expecting ',' delimiter"),
        ('[{"a": 1},\n 7]', ":2: the number 7 is not a JSON object"),
        ('[{"a": 1},\n]', ":2: not JSON (Expecting value"),
        ('[{"a": 1}]\n{"a": 1}', ":2: not JSON (Extra data, column 1)"),
        ("[]", " holds no examples."),
        ("\n \n", " holds no examples."),
        ("{}\n{}\n", ": none of its 2 examples has a field."),
    ],
)
def test_malformed_json_lines_are_refused_with_the_line(module, put, text, says):
    assert f"a.jsonl{says}" in refused(module(in_domain=put("a.jsonl", text)))


def test_an_array_may_stand_in_several_lines(put):
    assert tables([put("a.json", '\n[ {"a":\n1}\n, {"a": 2, "b": "\\u00e9"} ] \n')]) == [
        [{"a": 1, "b": None}, {"a": 2, "b": "é"}]
    ]

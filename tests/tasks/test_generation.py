"""Settings of generation, and the scores of generated texts."""

import pytest
import torch

from gradual.errors import InputError
from gradual.tasks.generation import TEXT_SCORES, generation_config, text_scores


def test_texts_are_compared_word_by_word():
    found = text_scores(["the cat sat", "b a", "", "42\n", "A-b"], ["the cat sat", "a b c", "x", " 42", "a b"])
    expected = [
        [1, 1, 1, 1],
        [0, 2 * (2 / 2) * (2 / 3) / (2 / 2 + 2 / 3), 0, 2 * (1 / 2) * (1 / 3) / (1 / 2 + 1 / 3)],
        [0, 0, 0, 0],
        [1, 1, 0, 1],  # one word has no pairs of words
        [0, 1, 1, 1],
    ]
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64), rtol=1e-6, atol=1e-6)
    assert text_scores([], []).shape == (0, len(TEXT_SCORES))


def test_generation_is_greedy_unless_settings_say_otherwise():
    config = generation_config({})
    assert (config.do_sample, config.max_new_tokens) == (False, 64)
    config = generation_config({"max_new_tokens": 7, "num_beams": 3, "do_sample": True, "temperature": 0.5})
    assert (config.max_new_tokens, config.num_beams, config.do_sample, config.temperature) == (7, 3, True, 0.5)


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"max_new_token": 3}, "no setting 'max_new_token'.*Did you mean 'max_new_tokens'"),
        ({"num_return_sequences": 2}, "no setting 'num_return_sequences'"),
        ({"output_scores": True}, "no setting 'output_scores'"),
        ({"max_new_tokens": 0}, r"generate.max_new_tokens is 0: it must be an integer of at least 1\.$"),
        ({"num_beams": "two"}, "generate.num_beams is 'two': it must be an integer of at least 1"),
        ({"temperature": 0.5}, "generate cannot be used .*temperature"),
    ],
)
def test_other_settings_are_refused(settings, problem):
    with pytest.raises(InputError, match=problem):
        generation_config(settings)

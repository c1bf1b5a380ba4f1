"""Batches of examples from files: padding, types and labels."""

import numpy as np


def test_integers_that_no_tensor_holds_stay_a_list(module, put):
    file = put("a.jsonl", f'{{"n": {2**64 - 1}, "m": [1]}}\n{{"n": 0, "m": [{2**62}, 2]}}\n')
    (batch,) = module(in_domain=file, val=file).val_dataloader()
    assert batch["n"] == [2**64 - 1, 0]
    assert np.array_equal(batch["m"], [[1, 0], [2**62, 2]])

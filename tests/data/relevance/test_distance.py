"""The distance of a source from the in-domain data."""

import numpy as np
import pytest
from relevance_data import WORDS, Texts, module

from gradual.data.relevance.classifier import distance
from gradual.data.relevance.of_data import corpora


@pytest.mark.slow
def test_the_distance_is_near_0_for_the_same_domain_and_2_for_another():
    generator = np.random.default_rng(0)

    def texts(words, count):
        return Texts([" ".join(generator.choice(words, 12)) for _ in range(count)])

    near, far = WORDS[:8], WORDS[8:]
    data = module("ngrams", {"same": texts(near, 300), "other": texts(far, 300)}, texts(near, 200))
    own, sources = corpora(data)
    same, other = distance(own, sources["same"]), distance(own, sources["other"])
    assert abs(same.value) < 3 * same.error
    assert (other.value, other.error) == (2.0, 0.0)
    assert 0 < same.error < 0.2

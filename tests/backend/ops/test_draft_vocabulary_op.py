"""`dspark::ExpandVocabulary`: the function body against the NumPy oracle."""

from __future__ import annotations

import numpy as np

from dspark_plugins.draft_vocabulary import places
from dspark_plugins.draft_vocabulary.function import expand_function
from dspark_plugins.draft_vocabulary.reference import expand_vocabulary
from tests.support import one_node


def test_body_matches_oracle() -> None:
    logits, place = np.random.default_rng(0).standard_normal((2, 3, 4), np.float32), places([1, 2, 5, 9], 11)
    shapes = {"logits": ["R", "g", 4], "place": [11]}
    model = one_node.one_node_model(expand_function(), {}, shapes, {"wide": ["R", "g", 11]})
    (wide,) = one_node.run(one_node.session(model), {"logits": logits, "place": place}).values()
    np.testing.assert_array_equal(wide, expand_vocabulary(logits, place))
    np.testing.assert_array_equal(wide[..., [1, 2, 5, 9]], logits)
    assert np.isneginf(wide[..., [0, 3, 4, 6, 7, 8, 10]]).all()

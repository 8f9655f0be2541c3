import numpy as np

from genrec.embeddings.spread import spread


def test_known_vectors_are_centred_and_scaled_and_unknown_ones_stay_zero():
    vectors = np.array([[3.0, 1.0], [0.0, 0.0], [1.0, 5.0]], dtype=np.float32)
    # The mean of both known ones is (2, 3); what is left is (1, -2) and (-1, 2), mean square 2.5.
    expected = np.array([[1.0, -2.0], [0.0, 0.0], [-1.0, 2.0]]) / np.sqrt(2.5)
    np.testing.assert_allclose(spread(vectors), expected, rtol=1e-6)


def test_vectors_that_say_nothing_become_zero():
    nothing = np.zeros((3, 2), dtype=np.float32)
    np.testing.assert_array_equal(spread(nothing), nothing)
    alike = np.full((3, 2), 0.5, dtype=np.float32)
    np.testing.assert_array_equal(spread(alike), nothing)

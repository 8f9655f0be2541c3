import numpy as np
import pytest

from genrec.tokenization import neighbour_titles as module
from genrec.tokenization.neighbour_titles import neighbour_titles

X = np.array([[0.0], [1.0], [5.0], [9.0]], dtype=np.float32)
CODES = np.array([[0, 0], [1, 0], [0, 1], [1, 1]], dtype=np.int32)


@pytest.mark.parametrize("block", [3, 65536])
def test_neighbours_by_vectors_and_by_codes(block, monkeypatch):
    monkeypatch.setattr(module, "ROWS_AT_ONCE", block)
    entries = neighbour_titles(X, CODES, list("abcd"), seed=0, examples=9, count=2)
    assert sorted(entry["title"] for entry in entries) == list("abcd")
    of_a = next(entry for entry in entries if entry["title"] == "a")
    assert of_a["codes"] == [0, 0]
    assert of_a["by_vectors"] == ["b", "c"]
    # c shares the first level; b agrees in the second only, which is no shared prefix.
    assert of_a["by_codes"] == [{"title": "c", "shared": 1}, {"title": "b", "shared": 0}]


def test_without_vectors_there_are_neighbours_by_codes_only():
    entries = neighbour_titles(None, CODES, list("abcd"), seed=0, examples=9, count=2)
    of_d = next(entry for entry in entries if entry["title"] == "d")
    assert of_d["by_vectors"] is None
    assert of_d["by_codes"] == [{"title": "b", "shared": 1}, {"title": "a", "shared": 0}]


def test_the_items_are_drawn_by_seed():
    def drawn(seed):
        entries = neighbour_titles(X, CODES, list("abcd"), seed=seed, examples=2, count=1)
        return [entry["title"] for entry in entries]

    assert drawn(1) == drawn(1)
    assert len({tuple(drawn(seed)) for seed in range(8)}) > 1

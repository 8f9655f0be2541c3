import numpy as np
import pytest

from genrec.tokenization import item_groups
from genrec.tokenization.code_tree import CodeTree
from genrec.tokenization.item_groups import largest_groups, loosest_groups

CODES = np.array([[0, 0], [0, 1], [1, 0], [1, 0], [1, 1], [1, 1], [1, 1], [2, 3]], dtype=np.int32)
TREE = CodeTree.of(CODES, (3, 4))
TITLES = list("abcdefgh")


def test_the_largest_groups_of_each_length():
    assert largest_groups(TREE, CODES, TITLES, levels=1) == [
        {"codes": [1], "items": 5, "titles": list("cdefg")},
        {"codes": [0], "items": 2, "titles": list("ab")},
    ]
    assert largest_groups(TREE, CODES, TITLES, levels=2, count=1) == [
        {"codes": [1, 1], "items": 3, "titles": list("efg")}
    ]


def test_only_a_few_titles_are_shown():
    codes = np.zeros((9, 1), dtype=np.int32)
    (group,) = largest_groups(CodeTree.of(codes, (1,)), codes, list("abcdefghi"), levels=1)
    assert group["items"] == 9
    assert group["titles"] == list("abcdef")


@pytest.mark.parametrize("block", [3, 65536])
def test_the_loosest_groups_by_their_spread(block, monkeypatch):
    monkeypatch.setattr(item_groups, "ROWS_AT_ONCE", block)
    rng = np.random.default_rng(0)
    codes = np.repeat([[0], [1], [2], [3]], [6, 8, 5, 4], axis=0).astype(np.int32)
    x = (rng.normal(size=(23, 3)) * (1 + codes) + 5).astype(np.float32)
    groups = loosest_groups(CodeTree.of(codes, (4,)), codes, [str(row) for row in range(23)], x)
    whole = x.var(axis=0).sum()
    expected = {code: x[codes[:, 0] == code].var(axis=0).sum() / whole for code in range(3)}
    # The group of four is too small to be judged.
    assert [group["codes"][0] for group in groups] == sorted(expected, key=lambda c: -expected[c])
    for group in groups:
        assert group["spread"] == pytest.approx(expected[group["codes"][0]], abs=6e-4)


def test_equal_vectors_have_no_loosest_group():
    x = np.full((8, 3), 0.1, dtype=np.float32)
    assert loosest_groups(TREE, CODES, TITLES, x) == []

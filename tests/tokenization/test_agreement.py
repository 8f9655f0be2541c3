import itertools

import numpy as np
import pytest
from scipy.spatial.distance import cdist
from sklearn.metrics import normalized_mutual_info_score

from genrec.data.histories import from_lists
from genrec.tokenization import agreement
from genrec.tokenization.agreement import (
    category_agreement,
    co_consumption,
    neighbour_agreement,
)
from genrec.tokenization.code_tree import CodeTree
from genrec.tokenization.item_pairs import ItemPairs

SIZES = (3, 3, 3, 3)


def random_codes(seed, n=60):
    return np.random.default_rng(seed).integers(0, 3, size=(n, 4)).astype(np.int32)


def same_prefix(codes, length):
    prefixes = [tuple(row[:length]) for row in codes.tolist()]
    return np.array([[a == b for b in prefixes] for a in prefixes])


@pytest.mark.parametrize("block", [7, 11, 65536])
def test_neighbours_are_those_of_all_distances(block, monkeypatch):
    monkeypatch.setattr(agreement, "ROWS_AT_ONCE", block)
    codes = random_codes(0)
    x = np.random.default_rng(1).normal(size=(60, 5)).astype(np.float32)
    found = neighbour_agreement(CodeTree.of(codes, SIZES), x, seed=3)
    distance = cdist(x, x)
    np.fill_diagonal(distance, np.inf)
    nearest = np.argsort(distance, axis=1)[:, :10]
    assert found["neighbours"] == 10
    assert found["sample"] == 60
    assert [row["codes"] for row in found["prefixes"]] == [1, 2, 3]
    for row in found["prefixes"]:
        same = same_prefix(codes, row["codes"])
        share = np.take_along_axis(same, nearest, axis=1).mean()
        random = (same.sum() - 60) / (60 * 59)
        assert row["share"] == round(share, 4)
        assert row["random"] == round(random, 6)
        assert row["lift"] == pytest.approx(share / random, abs=0.005)


def test_a_sample_is_compared_with_chance_for_the_same_items():
    codes = random_codes(2)
    x = np.random.default_rng(1).normal(size=(60, 5)).astype(np.float32)
    tree = CodeTree.of(codes, SIZES)
    found = neighbour_agreement(tree, x, seed=3, sample=9)
    chosen = np.sort(np.random.default_rng(3).choice(60, size=9, replace=False))
    same = same_prefix(codes, 1)
    assert found["sample"] == 9
    assert found["prefixes"][0]["random"] == round((same[chosen].sum() - 9) / (9 * 59), 6)
    assert found == neighbour_agreement(tree, x, seed=3, sample=9)


def test_an_item_is_no_neighbour_of_its_own_even_among_equal_vectors():
    codes = np.array([[0], [0], [1]], dtype=np.int32)
    found = neighbour_agreement(CodeTree.of(codes, (2,)), np.ones((3, 2), np.float32), seed=0)
    # Two neighbours each; of the six pairs only those of the first two agree.
    assert found["neighbours"] == 2
    assert found["prefixes"] == [
        {"codes": 1, "share": round(2 / 6, 4), "random": round(2 / 6, 6), "lift": 1.0}
    ]


def test_clusters_with_codes_of_their_own_agree_and_random_codes_do_not():
    rng = np.random.default_rng(4)
    cluster = np.repeat(np.arange(10), 20)
    x = (10 * rng.normal(size=(10, 6))[cluster] + rng.normal(size=(200, 6))).astype(np.float32)
    codes = np.stack([cluster, np.tile(np.arange(20), 10)], axis=1).astype(np.int32)
    good = neighbour_agreement(CodeTree.of(codes, (10, 20)), x, seed=0)["prefixes"]
    bad = neighbour_agreement(CodeTree.of(rng.permutation(codes), (10, 20)), x, seed=0)["prefixes"]
    # Two codes name one item alone, so there is no row for them.
    assert [row["codes"] for row in good] == [1]
    assert good[0]["share"] > 0.95
    assert bad[0]["lift"] == pytest.approx(1.0, abs=0.3)


def test_one_item_has_no_neighbours():
    codes = np.zeros((1, 2), dtype=np.int32)
    assert neighbour_agreement(CodeTree.of(codes, (2, 2)), np.ones((1, 2)), seed=0) is None


def test_items_chosen_next_are_compared_with_all_possible_pairs():
    rng = np.random.default_rng(5)
    codes = random_codes(6, n=12)
    lists = [rng.integers(0, 12, size=length).tolist() for length in (6, 2, 9, 1, 4)]
    pairs = [pair for row in lists for pair in itertools.pairwise(row) if pair[0] != pair[1]]
    found = co_consumption(CodeTree.of(codes, SIZES), ItemPairs.of(from_lists(lists), 12))
    possible = [(before, after) for before, _ in pairs for _, after in pairs if before != after]
    assert found["pairs"] == len(pairs)
    for row in found["prefixes"]:
        same = same_prefix(codes, row["codes"])
        assert row["share"] == round(np.mean([same[pair] for pair in pairs]), 4)
        assert row["random"] == round(np.mean([same[pair] for pair in possible]), 6)


def test_an_item_chosen_again_is_no_pair():
    codes = np.array([[0], [0]], dtype=np.int32)
    tree = CodeTree.of(codes, (2,))
    assert co_consumption(tree, ItemPairs.of(from_lists([[1, 1, 1], [0]]), 2)) is None
    assert co_consumption(tree, ItemPairs.of(from_lists([]), 2)) is None
    found = co_consumption(tree, ItemPairs.of(from_lists([[1, 1, 0]]), 2))
    assert found["pairs"] == 1


def test_categories_are_compared_like_scikit_learn_does():
    rng = np.random.default_rng(7)
    codes = random_codes(8, n=80)
    names = np.array(["a", "b", "c", "d"])[(codes[:, 0] + (rng.random(80) < 0.3)) % 4]
    paths = [(name, "deeper") if row % 9 else () for row, name in enumerate(names.tolist())]
    found = category_agreement(CodeTree.of(codes, SIZES), paths, seed=2)
    known = [row for row in range(80) if row % 9]
    first, category = codes[known, 0], names[known]
    purity = sum(
        max((category[first == code] == name).sum() for name in names) for code in range(3)
    )
    assert found["items"] == len(known)
    assert found["categories"] == 4
    assert found["normalised_mutual_information"] == round(
        normalized_mutual_info_score(category, first), 4
    )
    assert found["purity"] == round(purity / len(known), 4)
    shuffled = found["normalised_mutual_information_shuffled"]
    assert shuffled < 0.2 < found["normalised_mutual_information"]
    assert found["purity_shuffled"] < found["purity"]


@pytest.mark.parametrize("paths", [[(), (), ()], [("a",), ("a", "b"), ()]])
def test_fewer_than_two_categories_tell_nothing(paths):
    codes = np.zeros((3, 1), dtype=np.int32)
    assert category_agreement(CodeTree.of(codes, (2,)), paths, seed=0) is None

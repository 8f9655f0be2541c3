import itertools
import math
from collections import Counter, defaultdict

import numpy as np
import pytest

from genrec.data.histories import from_lists
from genrec.tokenization.code_transitions import STRENGTHS, CodeTransitions
from genrec.tokenization.code_tree import CodeTree
from genrec.tokenization.item_pairs import ItemPairs

SIZES = (3, 3, 2)


class Oracle:
    """The formula of the docstring, read word for word, with dictionaries."""

    def __init__(self, codes, pairs, strengths):
        self.codes = [tuple(row) for row in codes.tolist()]
        self.strengths = strengths
        self.after = defaultdict(Counter)
        for before, after in pairs:
            for length in range(len(SIZES) + 1):
                for level in range(len(SIZES)):
                    context = self.codes[before][:length]
                    prefix = self.codes[after][:level]
                    self.after[context, length, prefix, level][self.codes[after][level]] += 1

    def code(self, before, length, prefix, code):
        """P_j(code | prefix) with j = length; -1 is below the empty context."""
        level = len(prefix)
        if length < 0:
            inside = [row for row in self.codes if row[:level] == prefix]
            return sum(row[level] == code for row in inside) / len(inside)
        shorter = self.code(before, length - 1, prefix, code)
        if length and before is None:
            return shorter
        context = self.codes[before][:length] if length else ()
        seen = self.after[context, length, prefix, level]
        strength = self.strengths[level][length] * len(seen)
        room = seen.total() + strength
        return (seen[code] + strength * shorter) / room if room else shorter

    def tuple(self, before, row):
        return math.prod(
            self.code(before, len(SIZES), row[:level], row[level]) for level in range(len(SIZES))
        )


def world(seed, n=14, users=12):
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, SIZES, size=(n, 3)).astype(np.int32)
    lists = [rng.integers(0, n, size=length).tolist() for length in rng.integers(1, 7, size=users)]
    strengths = rng.choice(STRENGTHS, size=(3, 4)).tolist()
    return codes, lists, strengths


def neighbouring(lists):
    return [pair for row in lists for pair in itertools.pairwise(row)]


@pytest.mark.parametrize("seed", range(6))
def test_chances_are_those_of_the_formula(seed):
    codes, lists, strengths = world(seed)
    tree = CodeTree.of(codes, SIZES)
    model = CodeTransitions(tree, ItemPairs.of(from_lists(lists), len(codes)), strengths)
    oracle = Oracle(codes, neighbouring(lists), strengths)
    items = np.array([-1, *range(len(codes))])
    found = model.chances(items)
    tuples = sorted(set(oracle.codes))
    expected = [[oracle.tuple(None if item < 0 else item, row) for row in tuples] for item in items]
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    np.testing.assert_allclose(found.sum(axis=1), 1.0)


@pytest.mark.parametrize("seed", range(3))
def test_chances_of_single_targets_are_those_of_the_table(seed):
    codes, lists, strengths = world(seed)
    tree = CodeTree.of(codes, SIZES)
    model = CodeTransitions(tree, ItemPairs.of(from_lists(lists), len(codes)), strengths)
    items = np.repeat(np.arange(-1, len(codes)), len(codes))
    targets = np.tile(np.arange(len(codes)), len(codes) + 1)
    table = model.chances(np.arange(-1, len(codes)))[:, tree.node[:, -1]]
    np.testing.assert_allclose(model.chances_of(items, targets), table.ravel(), rtol=1e-12)


@pytest.mark.parametrize("seed", range(4))
def test_no_other_single_strength_fits_the_held_out_pairs_better(seed):
    codes, lists, _ = world(seed, users=25)
    tree = CodeTree.of(codes, SIZES)
    model = CodeTransitions.fit(tree, ItemPairs.of(from_lists(lists), len(codes)))
    counted = neighbouring([row[:-1] for row in lists])
    held_out = [(row[-2], row[-1]) for row in lists if len(row) > 1]

    def fit(strengths):
        oracle = Oracle(codes, counted, strengths)
        return sum(
            math.log(oracle.tuple(before, oracle.codes[after])) for before, after in held_out
        )

    chosen = [list(row) for row in model.strengths]
    best = fit(chosen)
    for level, length in itertools.product(range(3), range(4)):
        for strength in STRENGTHS:
            other = [list(row) for row in chosen]
            other[level][length] = strength
            assert fit(other) <= best + 1e-9


def test_all_pairs_are_counted_in_the_end():
    codes, lists, _ = world(1)
    tree = CodeTree.of(codes, SIZES)
    pairs = ItemPairs.of(from_lists(lists), len(codes))
    model = CodeTransitions.fit(tree, pairs)
    again = CodeTransitions(tree, pairs, model.strengths)
    items = np.arange(len(codes))
    np.testing.assert_array_equal(model.chances(items), again.chances(items))


def test_without_any_pair_every_item_is_as_likely():
    codes, _, _ = world(2)
    tree = CodeTree.of(codes, SIZES)
    model = CodeTransitions.fit(tree, ItemPairs.of(from_lists([[1], [2]]), len(codes)))
    expected = tree.items_below(2) / len(codes)
    np.testing.assert_allclose(model.chances(np.array([-1, 4])), [expected, expected])

"""Scores written over logits, against prefixes kept in a dictionary and sums written out."""

import math

import numpy as np
import pytest
import torch

from genrec.decoding.trie import PrefixTrie
from genrec.decoding.trie_scores import TrieScores, child_with_code
from genrec.semantic_ids.item_index import ItemIndex
from genrec.semantic_ids.vocabulary import SidVocabulary

FIRST = 5


def world(levels, seed=0):
    """Half of all tuples as items, and what may follow each prefix."""
    random = np.random.default_rng(seed)
    sizes = tuple(random.integers(2, 5, levels).tolist())
    every = np.stack(np.meshgrid(*map(range, sizes), indexing="ij"), -1).reshape(-1, levels)
    codes = random.permutation(every)[: max(1, len(every) // 2)].astype(np.int32)
    index = ItemIndex(codes, sizes, {})
    follow = {}
    for row in codes.tolist():
        for depth in range(levels):
            follow.setdefault(tuple(row[:depth]), set()).add(row[depth])
    return index, PrefixTrie.from_index(index), SidVocabulary(sizes, FIRST), follow


def sequences(vocabulary, levels, random, count):
    """Sequences of words and codes in any order, many of which end within an item."""
    last = FIRST + sum(vocabulary.level_sizes)
    for _ in range(count):
        tokens = random.integers(0, last + 3, random.integers(0, 4)).tolist()
        depth = int(random.integers(0, levels))
        tokens += [int(random.choice(vocabulary.level_range(level))) for level in range(depth)]
        yield tokens


def expected_prefix(tokens, vocabulary, levels):
    """The codes at the end of a sequence that belong to an item not yet whole."""

    def level_of(token):
        found = [level for level in range(levels) if token in vocabulary.level_range(level)]
        return found[0] if found else None

    if not tokens or level_of(tokens[-1]) in (None, levels - 1):
        return ()
    depth = level_of(tokens[-1]) + 1
    last = tokens[-depth:]
    if [level_of(token) for token in last] != list(range(depth)):
        return None
    return tuple(token - vocabulary.level_range(level).start for level, token in enumerate(last))


@pytest.mark.parametrize("score", ["exact", "level"])
@pytest.mark.parametrize("levels", [1, 2, 3, 4])
def test_scores_are_of_the_whole_before_the_mask(levels, score):
    _, trie, vocabulary, follow = world(levels, seed=levels)
    random = np.random.default_rng(levels)
    asked = list(sequences(vocabulary, levels, random, 200))
    words = FIRST + sum(vocabulary.level_sizes) + 3
    logits = torch.from_numpy(random.normal(size=(len(asked), words), scale=3)).float()
    before = logits.tolist()
    width = levels - 1
    tails = [([-1] * width + tokens)[-width:] if width else [] for tokens in asked]
    scores = TrieScores(trie, vocabulary, score)
    after = scores.apply(logits, torch.tensor(tails, dtype=torch.int64).reshape(len(asked), width))
    assert after is logits
    depths = set()
    for row, tokens in enumerate(asked):
        prefix = expected_prefix(tokens, vocabulary, levels)
        want = [-math.inf] * words
        if prefix in follow:
            depths.add(len(prefix))
            level = vocabulary.level_range(len(prefix))
            over = before[row] if score == "exact" else before[row][level.start : level.stop]
            whole = math.log(sum(math.exp(value) for value in over))
            for code in follow[prefix]:
                want[level.start + code] = before[row][level.start + code] - whole
        np.testing.assert_allclose(after[row].tolist(), want, atol=1e-4)
    assert depths == set(range(levels))


def test_the_child_with_a_code_is_found_or_told_to_be_missing():
    index, trie, _, follow = world(3)
    for code in range(index.level_sizes[0]):
        node, found = child_with_code(trie, 0, torch.tensor([0]), torch.tensor([code]))
        assert bool(found) == (code in follow[()])
        if not found:
            continue
        assert trie.levels[0].code[node].tolist() == [code]
        for second in range(index.level_sizes[1]):
            below, found = child_with_code(trie, 1, node, torch.tensor([second]))
            assert bool(found) == (second in follow[(code,)])
            start, end = trie.levels[1].child_start[node[0] : node[0] + 2].tolist()
            assert not found or (
                start <= int(below) < end and trie.levels[1].code[below].tolist() == [second]
            )

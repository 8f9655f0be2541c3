"""The scorer that asks an engine for tokens, with a table in place of the engine."""

import numpy as np
import pytest
import torch

from genrec.decoding.beam import Wishes, beam_search
from genrec.decoding.path_scores import path_scores
from genrec.decoding.rules import BatchRules, RowRules
from genrec.decoding.trie import PrefixTrie
from genrec.decoding.vllm_scorer import VllmScorer
from genrec.semantic_ids.item_index import ItemIndex
from genrec.semantic_ids.vocabulary import SidVocabulary
from tests.decoding.table_scorer import TableScorer, brute_force

SIZES, ITEMS, BATCH, FIRST = (4, 5, 6), 40, 3, 7
PROMPTS = [np.array([1, 2], dtype=np.int64), np.array([1], dtype=np.int64), np.array([1, 3, 4])]


class Engine:
    """Answers from a table, and keeps what it was asked."""

    def __init__(self, seed):
        self.table = TableScorer(SIZES, BATCH, seed)
        self.vocabulary = SidVocabulary(SIZES, FIRST)
        self.asked = []

    def __call__(self, sequences, wanted):
        self.asked.append((sequences, wanted))
        return [self.scores(tokens, each) for tokens, each in zip(sequences, wanted, strict=True)]

    def scores(self, tokens, wanted):
        [request] = [
            number for number, prompt in enumerate(PROMPTS)
            if [token for token in tokens if token < FIRST] == prompt.tolist()
        ]  # fmt: skip
        path = tokens[len(PROMPTS[request]) :]
        prefix = tuple(
            token - self.vocabulary.level_range(level).start for level, token in enumerate(path)
        )
        row = self.table.row(request, prefix)
        start = self.vocabulary.level_range(len(prefix)).start
        return [float(row[token - start]) for token in wanted]


def catalogue(seed):
    random = np.random.default_rng(seed)
    every = np.stack(np.meshgrid(*map(range, SIZES), indexing="ij"), -1).reshape(-1, len(SIZES))
    codes = random.permutation(every)[:ITEMS].astype(np.int32)
    return ItemIndex(codes, SIZES, {})


def scorer_of(engine, trie):
    return VllmScorer(engine, trie, engine.vocabulary, PROMPTS)


@pytest.mark.parametrize("seed", range(5))
def test_the_search_is_the_one_over_the_table(seed):
    index = catalogue(seed)
    trie, engine = PrefixTrie.from_index(index), Engine(seed)
    rows, scores = beam_search(trie, scorer_of(engine, trie), ITEMS)
    for request in range(BATCH):
        want, scored = brute_force(index, engine.table, request, set())
        assert rows[request].tolist() == want
        np.testing.assert_allclose(scores[request], [score for score, _ in scored], atol=1e-5)


@pytest.mark.parametrize("width", [1, 3, 8])
def test_each_living_prefix_is_asked_for_once_and_only_for_what_follows_it(width):
    index = catalogue(9)
    trie, engine = PrefixTrie.from_index(index), Engine(9)
    # The first request may get two items only, so most of its beams are left over.
    rules = BatchRules(trie, [RowRules(allowed=np.array([4, 5])), RowRules(), RowRules()])
    rows, _ = beam_search(trie, scorer_of(engine, trie), width, Wishes(rules=rules))
    assert set(rows[0].tolist()) <= {4, 5, -1}
    tokens = engine.vocabulary.tokens(index.codes).tolist()
    assert len(engine.asked) == len(SIZES)
    for level, (sequences, wanted) in enumerate(engine.asked):
        assert len(sequences) == len({tuple(each) for each in sequences}) <= BATCH * width
        for sequence, each in zip(sequences, wanted, strict=True):
            path = [token for token in sequence if token >= FIRST]
            assert len(path) == level
            assert each == sorted({row[level] for row in tokens if row[:level] == path})
            assert each
    assert len(engine.asked[0][0]) == BATCH


def test_given_items_are_scored_code_by_code():
    index = catalogue(2)
    trie, engine = PrefixTrie.from_index(index), Engine(2)
    rows = [[3, 20], [17, 3], [39, 38]]
    codes = torch.from_numpy(index.codes[rows].astype(np.int64))
    found = path_scores(scorer_of(engine, trie), codes)
    for request, items in enumerate(rows):
        for place, row in enumerate(items):
            path = index.codes_of(row)
            want = [float(engine.table.row(request, path[:d])[path[d]]) for d in range(len(SIZES))]
            np.testing.assert_allclose(found[request, place], want, atol=1e-6)


def test_what_is_no_prefix_has_no_chance_and_is_not_asked_for():
    index = ItemIndex(np.array([[0, 0, 0], [2, 1, 1]], dtype=np.int32), SIZES, {})
    trie, engine = PrefixTrie.from_index(index), Engine(0)
    scorer = scorer_of(engine, trie)
    first = scorer.first()
    assert (first > -torch.inf).tolist() == [[True, False, True, False]] * BATCH
    parents = torch.zeros(BATCH, 2, dtype=torch.int64)
    found = scorer.next(1, torch.tensor([[0, 1], [1, 3], [1, 2]]), parents)
    assert [len(sequences) for sequences, _ in engine.asked] == [BATCH, 2]
    assert torch.nonzero(found > -torch.inf).tolist() == [[0, 0, 0], [2, 1, 1]]
    none = scorer.next(2, torch.full((BATCH, 2), 4), parents)
    assert len(engine.asked) == 2
    assert none.shape == (BATCH, 2, SIZES[2]) and (none == -torch.inf).all()

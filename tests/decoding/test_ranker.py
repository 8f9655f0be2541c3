"""Lists of items that share their codes, from a real model, against scoring every item alone."""

import numpy as np
import pytest

from genrec.decoding.ranker import GenerativeRanker
from genrec.semantic_ids.item_index import ItemIndex
from tests.decoding.tiny_models import KINDS, score_of_tuple, tiny_model

ITEMS, LEVELS, SIZE = 40, 3, 3


def generative(kind):
    """A random model over 40 items of which at most 27 can have codes of their own."""
    random = np.random.default_rng(0)
    codes = random.integers(0, SIZE, size=(ITEMS, LEVELS)).astype(np.int32)
    codes[:6] = codes[0]
    index = ItemIndex(codes, (SIZE,) * LEVELS, {}, shared=True)
    return tiny_model(index, kind, counts=random.integers(0, 4, size=ITEMS))


HISTORIES = [np.asarray(rows, dtype=np.int32) for rows in ([], [3], [5, 1, 9], list(range(12)))]


@pytest.mark.parametrize("kind", KINDS)
def test_a_wide_beam_equals_scoring_every_tuple(kind):
    model = generative(kind)
    rankings = GenerativeRanker(model, beam=ITEMS, batch_size=3, new_item_weight=0).rank(
        HISTORIES, ITEMS, exclude=HISTORIES
    )
    for history, ranking in zip(HISTORIES, rankings, strict=True):
        scores = {
            codes: score_of_tuple(model, history, codes)
            for codes in set(map(model.index.codes_of, range(ITEMS)))
        }
        want = sorted(
            set(range(ITEMS)) - set(history.tolist()),
            key=lambda row: (-scores[model.index.codes_of(row)], -model.item_counts[row], row),
        )
        assert ranking.items.tolist() == want
        expected = [scores[model.index.codes_of(row)] for row in want]
        np.testing.assert_allclose(ranking.scores, expected, atol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_k_items_come_back_whenever_k_are_eligible(kind):
    model = generative(kind)
    random = np.random.default_rng(1)
    for k in (1, 4, 39, 40, 500):
        for beam in (1, 7):
            exclude = [
                np.flatnonzero(random.random(ITEMS) < share).astype(np.int32)
                for share in (0, 0.3, 0.9, 1)
            ]
            rankings = GenerativeRanker(model, beam=beam).rank(HISTORIES, k, exclude=exclude)
            for out, ranking in zip(exclude, rankings, strict=True):
                assert len(ranking) == min(k, ITEMS - len(out))
                assert len(set(ranking.items.tolist())) == len(ranking)
                assert not set(ranking.items.tolist()) & set(out.tolist())


@pytest.mark.parametrize("kind", KINDS)
def test_a_request_gets_the_same_answer_alone_and_in_a_batch(kind):
    """What others exclude decides how many items of a tuple are opened, never which come back."""
    model = generative(kind)
    exclude = [np.arange(length, dtype=np.int32) for length in (0, 2, 30, 5)]
    together = GenerativeRanker(model, beam=6).rank(HISTORIES, 5, exclude=exclude)
    for history, out, ranking in zip(HISTORIES, exclude, together, strict=True):
        alone = GenerativeRanker(model, beam=6).rank([history], 5, exclude=[out])[0]
        assert alone.items.tolist() == ranking.items.tolist()

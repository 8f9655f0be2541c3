"""Lists of items that share their codes, from a real model, against scoring every item alone."""

import numpy as np
import polars as pl
import torch

from genrec.data.catalog import Catalog
from genrec.decoding.ranker import GenerativeRanker
from genrec.model.generative import GenerativeModel
from genrec.model.language_model import from_scratch
from genrec.model.prompts import Prompts
from genrec.semantic_ids.item_index import ItemIndex

ITEMS, LEVELS, SIZE = 40, 3, 3


def generative():
    """A random model over 40 items of which at most 27 can have codes of their own."""
    torch.manual_seed(0)
    random = np.random.default_rng(0)
    codes = random.integers(0, SIZE, size=(ITEMS, LEVELS)).astype(np.int32)
    codes[:6] = codes[0]
    index = ItemIndex(codes, (SIZE,) * LEVELS, {}, shared=True)
    model, tokenizer, vocabulary = from_scratch(
        index, hidden=16, layers=2, heads=2, feed_forward=32, max_tokens=128
    )
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    names = [str(row) for row in range(ITEMS)]
    return GenerativeModel(
        model.eval(),
        tokenizer,
        vocabulary,
        index,
        Prompts.build("stream", 8, tokenizer),
        Catalog(pl.DataFrame({"item_id": names, "title": names, "text": names})),
        random.integers(0, 4, size=ITEMS),
        {},
    )


def score_of_tuple(model, history, codes):
    """Score one tuple with a forward pass of its own."""
    table = model.vocabulary.tokens(model.index.codes)
    prompt = model.prompts.encode([history], table)[0].tolist()
    own = model.vocabulary.tokens(np.array([codes]))[0].tolist()
    with torch.no_grad():
        logits = model.language_model(input_ids=torch.tensor([[*prompt, *own]])).logits[0]
    total = 0.0
    for level in range(LEVELS):
        tokens = model.vocabulary.level_range(level)
        chances = logits[len(prompt) - 1 + level, tokens.start : tokens.stop].log_softmax(0)
        total += float(chances[codes[level]])
    return total


HISTORIES = [np.asarray(rows, dtype=np.int32) for rows in ([], [3], [5, 1, 9], list(range(12)))]


def test_a_wide_beam_equals_scoring_every_tuple():
    model = generative()
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


def test_k_items_come_back_whenever_k_are_eligible():
    model = generative()
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


def test_a_request_gets_the_same_answer_alone_and_in_a_batch():
    """What others exclude decides how many items of a tuple are opened, never which come back."""
    model = generative()
    exclude = [np.arange(length, dtype=np.int32) for length in (0, 2, 30, 5)]
    together = GenerativeRanker(model, beam=6).rank(HISTORIES, 5, exclude=exclude)
    for history, out, ranking in zip(HISTORIES, exclude, together, strict=True):
        alone = GenerativeRanker(model, beam=6).rank([history], 5, exclude=[out])[0]
        assert alone.items.tolist() == ranking.items.tolist()

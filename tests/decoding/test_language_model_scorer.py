"""Decoding with a shared cache against the model's plain forward pass, one item at a time."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
import torch

from genrec.data.catalog import Catalog
from genrec.decoding import vocabulary_normaliser
from genrec.decoding.ranker import GenerativeRanker
from genrec.errors import ArtifactError, RequestError
from genrec.model.generative import GenerativeModel
from genrec.model.language_model import from_scratch
from genrec.model.prompts import Prompts
from genrec.semantic_ids.item_index import ItemIndex

ITEMS = 30


def generative(form="stream", levels=3):
    torch.manual_seed(0)
    generator = np.random.default_rng(0)
    every = np.stack(np.meshgrid(*[range(4)] * levels, indexing="ij"), -1).reshape(-1, levels)
    codes = every[generator.permutation(len(every))[:ITEMS]].astype(np.int32)
    index = ItemIndex(codes, (4,) * levels, {})
    model, tokenizer, vocabulary = from_scratch(
        index, hidden=16, layers=2, heads=2, feed_forward=32, max_tokens=128
    )
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    catalog = Catalog(
        pl.DataFrame(
            {
                "item_id": [str(row) for row in range(ITEMS)],
                "title": [f"t{row}" for row in range(ITEMS)],
                "text": [""] * ITEMS,
            }
        )
    )
    return GenerativeModel(
        model.eval(),
        tokenizer,
        vocabulary,
        index,
        Prompts.build(form, 8, tokenizer),
        catalog,
        np.zeros(ITEMS, dtype=np.int64),
        {},
    )


def brute_force(model, history):
    """Score every item with its own full forward pass."""
    table = model.vocabulary.tokens(model.index.codes)
    prompt = model.prompts.encode([history], table)[0].tolist()
    scores = []
    for row in range(ITEMS):
        tokens = torch.tensor([[*prompt, *table[row].tolist()]])
        with torch.no_grad():
            logits = model.language_model(input_ids=tokens).logits[0]
        total = 0.0
        for level in range(model.index.levels):
            codes = model.vocabulary.level_range(level)
            level_scores = torch.log_softmax(
                logits[len(prompt) - 1 + level, codes.start : codes.stop], 0
            )
            total += float(level_scores[model.index.codes[row, level]])
        scores.append(total)
    return np.asarray(scores)


def test_the_model_folder_names_the_score():
    assert GenerativeRanker(generative()).score == "level"
    assert GenerativeRanker(replace(generative(), facts={"score": "exact"})).score == "exact"
    named = replace(generative(), facts={"score": "exact"})
    assert GenerativeRanker(named, score="level").score == "level"
    with pytest.raises(
        ArtifactError, match="names the score 'legal', expected one of exact, level"
    ):
        GenerativeRanker(replace(generative(), facts={"score": "legal"}))


@pytest.mark.parametrize("form", ["stream", "instruction"])
@pytest.mark.parametrize("levels", [3, 4])
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_wide_beam_equals_scoring_every_item(form, levels, attention):
    model = generative(form, levels)
    model.language_model.set_attn_implementation(attention)
    histories = [np.asarray(h, dtype=np.int32) for h in ([], [3], [5, 1, 9], list(range(12)))]
    ranker = GenerativeRanker(model, beam=ITEMS, batch_size=3)
    rankings = ranker.rank(histories, ITEMS, exclude=histories)
    for history, ranking in zip(histories, rankings, strict=True):
        want = brute_force(model, history)
        order = [row for row in np.argsort(-want) if row not in history]
        assert ranking.items.tolist() == order
        np.testing.assert_allclose(ranking.scores, want[order], atol=1e-4)


def test_a_request_gets_the_same_answer_alone_and_in_a_batch():
    model = generative()
    generator = np.random.default_rng(5)
    histories = [generator.integers(0, ITEMS, n).astype(np.int32) for n in (1, 7, 3, 3, 8, 2)]
    together = GenerativeRanker(model, beam=6, batch_size=6).rank(histories, 5)
    for history, ranking in zip(histories, together, strict=True):
        alone = GenerativeRanker(model, beam=6).rank([history], 5)[0]
        assert alone.items.tolist() == ranking.items.tolist()
        np.testing.assert_allclose(alone.scores, ranking.scores, atol=1e-4)


def test_k_beyond_the_catalogue_gives_every_item_once():
    ranking = GenerativeRanker(generative(), beam=5).rank([np.asarray([1], dtype=np.int32)], 500)[0]
    assert sorted(ranking.items.tolist()) == list(range(ITEMS))


def test_k_below_one_is_refused():
    with pytest.raises(RequestError, match="k must be at least 1"):
        GenerativeRanker(generative()).rank([np.zeros(0, dtype=np.int32)], 0)


@pytest.mark.parametrize("words", [5, 4096])
def test_exact_scores_add_up_over_the_whole_vocabulary(words, monkeypatch):
    monkeypatch.setattr(vocabulary_normaliser, "WORDS_AT_ONCE", words)
    model, history = generative(), np.array([5, 1, 9], dtype=np.int32)
    [ranking] = GenerativeRanker(model, beam=ITEMS, score="exact").rank([history], ITEMS)
    table = model.vocabulary.tokens(model.index.codes)
    prompt = model.prompts.encode([history], table)[0].tolist()
    want = []
    for row in range(ITEMS):
        own = table[row].tolist()
        with torch.no_grad():
            logits = model.language_model(input_ids=torch.tensor([[*prompt, *own]])).logits[0]
        chances = logits.log_softmax(-1)[len(prompt) - 1 : -1]
        want.append(float(chances[torch.arange(len(own)), own].sum()))
    order = np.argsort(-np.asarray(want))
    assert ranking.items.tolist() == order.tolist()
    np.testing.assert_allclose(ranking.scores, np.asarray(want)[order], atol=1e-4)

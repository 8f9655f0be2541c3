"""Validation counts items, not tuples: whoever shares the codes of the true item is no hit."""

import numpy as np
import pytest
import torch

from genrec.data.histories import from_lists
from genrec.decoding.ranker import GenerativeRanker
from genrec.model.code_head import CodeHead
from genrec.model.generative import GenerativeModel
from genrec.model.language_model import from_scratch, item_token_table
from genrec.model.prompts import Prompts
from genrec.semantic_ids.item_index import ItemIndex
from genrec.training.objectives import Objective
from genrec.training.validation import validate

ITEMS = 24


def learner(index, counts, catalog):
    torch.manual_seed(0)
    model, tokenizer, vocabulary = from_scratch(
        index, hidden=16, layers=2, heads=2, feed_forward=32, max_tokens=64
    )
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    prompts = Prompts.build("stream", 8, tokenizer)
    objective = Objective(
        model,
        CodeHead(model, vocabulary),
        prompts,
        torch.from_numpy(item_token_table(vocabulary, index)),
        0,
    )
    whole = GenerativeModel(model, tokenizer, vocabulary, index, prompts, catalog, counts, {})
    return whole, objective


@pytest.fixture
def examples():
    random = np.random.default_rng(2)
    lists = [random.choice(ITEMS, size=3, replace=False).astype(np.int32) for _ in range(50)]
    targets = [random.choice(np.setdiff1d(np.arange(ITEMS), seen)) for seen in lists]
    return from_lists(lists, np.arange(50, dtype=np.int32), np.array(targets, dtype=np.int32))


def test_figures_are_those_of_the_items(cycle_dataset, examples):
    """Six tuples of four items each; counting hits on the tuple gives more of everything."""
    rows = np.arange(ITEMS) // 4
    index = ItemIndex(np.stack([rows // 3, rows % 3], 1).astype(np.int32), (2, 3), {}, shared=True)
    counts = np.random.default_rng(3).integers(0, 9, size=ITEMS)
    model, objective = learner(index, counts, cycle_dataset.catalog)
    figures = validate(model, objective, examples, beam=ITEMS)

    seen = [examples[row] for row in range(len(examples))]
    rankings = GenerativeRanker(model, beam=ITEMS).rank(seen, ITEMS, exclude=seen)
    gains, gains_of_tuple = [], []
    for ranking, target in zip(rankings, examples.target.tolist(), strict=True):
        items = ranking.items.tolist()
        alike = np.flatnonzero(rows == rows[target])
        for wanted, kept in (([target], gains), (alike, gains_of_tuple)):
            place = min(items.index(item) for item in wanted if item in items)
            kept.append(1 / np.log2(place + 2) if place < 10 else 0.0)
    assert figures["recall@10"] == pytest.approx(np.mean([gain > 0 for gain in gains]))
    assert figures["ndcg@10"] == pytest.approx(np.mean(gains))
    assert figures["recall@10"] < np.mean([gain > 0 for gain in gains_of_tuple])
    assert figures["ndcg@10"] < np.mean(gains_of_tuple)


def test_with_one_tuple_for_all_items_only_popularity_is_left(cycle_dataset, examples):
    """The codes are always right; the figures are nevertheless those of the popularity ranking."""
    index = ItemIndex(np.zeros((ITEMS, 1), dtype=np.int32), (1,), {}, shared=True)
    counts = np.random.default_rng(5).permutation(ITEMS)
    model, objective = learner(index, counts, cycle_dataset.catalog)
    figures = validate(model, objective, examples)
    places = []
    for row, target in enumerate(examples.target.tolist()):
        eligible = [item for item in np.argsort(-counts) if item not in examples[row]]
        places.append(eligible.index(target))
    assert figures["accuracy_1"] == 1.0
    assert figures["loss"] == pytest.approx(0.0, abs=1e-6)
    assert figures["recall@10"] == pytest.approx(np.mean(np.array(places) < 10))
    assert 0 < figures["recall@10"] < 1

"""Decoding with a shared cache against the model's plain forward pass, one item at a time."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from genrec.decoding import vocabulary_normaliser
from genrec.decoding.ranker import GenerativeRanker
from genrec.errors import ArtifactError, RequestError
from genrec.semantic_ids.item_index import ItemIndex
from tests.decoding.tiny_models import KINDS, score_of_tuple, tiny_model

ITEMS = 30


def generative(form="stream", levels=3, kind="llama"):
    generator = np.random.default_rng(0)
    every = np.stack(np.meshgrid(*[range(4)] * levels, indexing="ij"), -1).reshape(-1, levels)
    codes = every[generator.permutation(len(every))[:ITEMS]].astype(np.int32)
    return tiny_model(ItemIndex(codes, (4,) * levels, {}), kind, form)


def brute_force(model, history, score="level"):
    """Score every item with its own full forward pass."""
    return np.asarray(
        [score_of_tuple(model, history, model.index.codes_of(row), score) for row in range(ITEMS)]
    )


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
@pytest.mark.parametrize("kind", KINDS)
def test_wide_beam_equals_scoring_every_item(form, levels, attention, kind):
    model = generative(form, levels, kind)
    model.language_model.set_attn_implementation(attention)
    histories = [np.asarray(h, dtype=np.int32) for h in ([], [3], [5, 1, 9], list(range(12)))]
    ranker = GenerativeRanker(model, beam=ITEMS, batch_size=3)
    rankings = ranker.rank(histories, ITEMS, exclude=histories)
    for history, ranking in zip(histories, rankings, strict=True):
        want = brute_force(model, history)
        order = [row for row in np.argsort(-want) if row not in history]
        assert ranking.items.tolist() == order
        np.testing.assert_allclose(ranking.scores, want[order], atol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_a_request_gets_the_same_answer_alone_and_in_a_batch(kind):
    model = generative(kind=kind)
    generator = np.random.default_rng(5)
    lengths = [*range(9), *range(7)]
    histories = [generator.integers(0, ITEMS, length).astype(np.int32) for length in lengths]
    together = GenerativeRanker(model, beam=6, batch_size=16).rank(histories, 5)
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
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("bias", [False, True])
def test_exact_scores_add_up_over_the_whole_vocabulary(words, kind, bias, monkeypatch):
    monkeypatch.setattr(vocabulary_normaliser, "WORDS_AT_ONCE", words)
    model, history = generative(kind=kind), np.array([5, 1, 9], dtype=np.int32)
    if bias:
        layer = model.language_model.get_output_embeddings()
        layer.bias = torch.nn.Parameter(torch.randn(len(layer.weight)))
    [ranking] = GenerativeRanker(model, beam=ITEMS, score="exact").rank([history], ITEMS)
    want = brute_force(model, history, "exact")
    order = np.argsort(-want)
    assert ranking.items.tolist() == order.tolist()
    np.testing.assert_allclose(ranking.scores, want[order], atol=1e-4)

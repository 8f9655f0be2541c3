"""The ways new code rows start, against arithmetic written out."""

import math

import numpy as np
import pytest
import torch
from pydantic import TypeAdapter
from scipy.optimize import nnls

from genrec.config_train import TrainConfig
from genrec.data.histories import from_lists
from genrec.errors import ConfigError
from genrec.model.language_model import add_codes
from genrec.model.new_rows import NEW_ROWS, Given
from genrec.model.skip_gram_rows import SkipGramCorpus, _loss
from genrec.semantic_ids.item_index import ItemIndex

from .test_language_model import INDEX, TITLES, WORDS, pretrained

# Level 0 has a code 2 that no item carries; the title of the last item, the only one with code 2 of
# level 1, is empty.
CODES = ItemIndex(np.asarray([[0, 0], [0, 1], [1, 0], [1, 2]], dtype=np.int32), (3, 3), {})
ENCODED = [[1, 2, 1], [1, 3], [4, 2], []]
WORDLESS = [2, 5]
# Level 0 has vectors for all codes, in three dimensions; level 1 for two of three, in two.
CODEBOOKS = [
    np.asarray([[1, 0, 2], [-1, 1, 0], [0, 3, 1]], dtype=np.float32),
    np.asarray([[1, 2], [3, -1]], dtype=np.float32),
]


def words(count=9, width=16, seed=3):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, width, generator=generator) + 0.5


def many_codes(size):
    return ItemIndex(np.zeros((1, 1), dtype=np.int32), (size,), {})


def hull_weights(old, row):
    """Return the weights of the old rows that give a row, by non-negative least squares."""
    system = np.vstack([old.numpy().T.astype(np.float64), np.ones(len(old))])
    weights, error = nnls(system, np.append(row.numpy().astype(np.float64), 1.0))
    assert error < 1e-5
    return weights


def test_the_recipe_names_every_way():
    choices = TypeAdapter(TrainConfig).json_schema()["properties"]["new_rows"]["enum"]
    assert choices == list(NEW_ROWS)
    assert TrainConfig().new_rows == "titles"


@pytest.mark.parametrize("name", NEW_ROWS)
def test_same_seed_same_rows_and_all_rows_differ(name):
    first, again, other = (
        NEW_ROWS[name](Given(words(), ENCODED, CODES, seed, CODEBOOKS)) for seed in (1, 1, 2)
    )
    assert first.shape == (6, 16) and first.dtype == torch.float32
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert len(torch.unique(first, dim=0)) == 6


@pytest.mark.parametrize("name", NEW_ROWS)
def test_without_any_title_rows_are_numbers_and_differ(name):
    rows = NEW_ROWS[name](Given(words(), [[]] * 4, CODES, 1, CODEBOOKS))
    assert rows.isfinite().all()
    assert len(torch.unique(rows, dim=0)) == 6


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("name", NEW_ROWS)
def test_every_matrix_gets_rows_from_its_own_old_rows(name, tied):
    model, tokenizer = pretrained(tied)
    layers = [model.get_input_embeddings(), model.get_output_embeddings()]
    before = [layer.weight.detach().clone() for layer in layers]
    assert torch.equal(*before) == tied
    encoded = [[WORDS.index(word) for word in title.split()] for title in TITLES]
    add_codes(model, tokenizer, INDEX, TITLES, new_rows=name, codebooks=CODEBOOKS, seed=1)
    for layer, old in zip(
        [model.get_input_embeddings(), model.get_output_embeddings()], before, strict=True
    ):
        rows = layer.weight.detach()
        assert torch.equal(rows[: len(WORDS)], old)
        assert torch.equal(
            rows[len(WORDS) :], NEW_ROWS[name](Given(old, encoded, INDEX, 1, CODEBOOKS))
        )


def test_an_unknown_way_is_refused_before_anything_changes():
    model, tokenizer = pretrained()
    with pytest.raises(ConfigError, match="titles, mean, normal, convex, codebook, cw2v"):
        add_codes(model, tokenizer, INDEX, TITLES, new_rows="wishful", seed=1)
    assert len(tokenizer) == len(WORDS) == len(model.get_input_embeddings().weight)


def test_titles_code_by_code():
    old = words()
    mean = old.mean(0)
    ordinary = (old - mean).norm(dim=1).sort().values[(len(old) - 1) // 2]
    items = [old[title].mean(0) if title else mean for title in ENCODED]
    generator = torch.Generator().manual_seed(7)
    expected = []
    for level in range(2):
        noise = torch.randn(3, old.shape[1], generator=generator)
        for code in range(3):
            own = [items[row] for row in range(4) if CODES.codes[row, level] == code]
            about = sum(own) / len(own) - sum(items) / 4 if own else noise[code]
            away = about / about.norm() + 0.2 * noise[code] / noise[code].norm()
            expected.append(mean + ordinary * away / away.norm())
    rows = NEW_ROWS["titles"](Given(old, ENCODED, CODES, 7))
    torch.testing.assert_close(rows, torch.stack(expected))


def test_mean_is_a_hundredth_of_an_ordinary_word_away_from_the_mean():
    old = words()
    away = NEW_ROWS["mean"](Given(old, [[]], many_codes(4000), 1)) - old.mean(0)
    ordinary = np.median(np.linalg.norm(old - old.mean(0), axis=1))
    np.testing.assert_allclose(away.norm(dim=1), 0.01 * ordinary, rtol=1e-3)
    # Directions cancel: the mean of n unit vectors has length about 1 / sqrt(n).
    assert float(away.mean(0).norm()) < 0.01 * ordinary * 3 / math.sqrt(4000)


# Fewer words than dimensions make the covariance singular; more words than a block are added up.
@pytest.mark.parametrize("count", [9, 100, 10000])
def test_normal_has_the_mean_and_a_hundred_thousandth_of_the_covariance(count):
    old = words(count) @ torch.diag(torch.linspace(0.1, 2, 16)) @ words(16, seed=8)
    rows = NEW_ROWS["normal"](Given(old, [[]], many_codes(50000), 1)).double()
    mean, covariance = old.double().mean(0), np.cov(old.double().numpy().T, bias=True)
    spread = np.sqrt(1e-5 * np.diag(covariance))
    np.testing.assert_array_less(
        np.abs((rows.mean(0) - mean).numpy()) / spread, 5 / math.sqrt(50000)
    )
    sample = np.cov(rows.numpy().T)
    assert np.linalg.norm(sample - 1e-5 * covariance) < 0.03e-5 * np.linalg.norm(covariance)
    if count < 16:
        # No row leaves the plane of the words.
        plane = np.linalg.svd((old - old.mean(0)).double().numpy())[2][: count - 1]
        away = (rows - mean).numpy()
        outside = away - away @ plane.T @ plane
        assert np.linalg.norm(outside) < 1e-3 * np.linalg.norm(away)


def test_normal_of_equal_words_is_that_word():
    old = words(1).repeat(5, 1)
    torch.testing.assert_close(NEW_ROWS["normal"](Given(old, [[]], many_codes(3), 1)), old[:3])


def test_convex_weighs_the_words_of_the_items_by_what_they_tell():
    old = words()
    rows = NEW_ROWS["convex"](Given(old, ENCODED, CODES, 1))
    pairs = [(row, word) for row, title in enumerate(ENCODED) for word in title]
    for level in range(2):
        for code in range(3):
            own = [word for row, word in pairs if CODES.codes[row, level] == code]
            weights = hull_weights(old, rows[3 * level + code])
            assert weights.sum() == pytest.approx(1, abs=1e-5)
            if not own:
                # No words: all of them, each with a weight of its own.
                assert 3 * level + code in WORDLESS
                assert (weights > 0).all() and len(set(weights.round(6))) == len(old)
                continue
            assert set(np.flatnonzero(weights > 1e-5)) == set(own)
            every = [word for _, word in pairs]
            expected = {}
            for word in own:
                ratio = own.count(word) * len(pairs) / (len(own) * every.count(word))
                expected[word] = max(1.0, ratio)
            for word, value in expected.items():
                share = value / sum(expected.values())
                # The noise on the logits changes a weight by a few hundredths.
                assert weights[word] == pytest.approx(share, rel=0.05)


def test_convex_rows_never_get_a_larger_logit_than_the_best_word():
    old = words(50, 16)
    generator = np.random.default_rng(0)
    encoded = [generator.integers(0, 50, size).tolist() for size in generator.integers(0, 6, 200)]
    index = ItemIndex(
        generator.integers(0, 40, (200, 2)).astype(np.int32), (40, 60), {}, shared=True
    )
    rows = NEW_ROWS["convex"](Given(old, encoded, index, 1))
    hidden = torch.randn(16, 20000, generator=torch.Generator().manual_seed(5)) * 10
    old_best, new_best = (old @ hidden).max(0).values, (rows @ hidden).max(0).values
    assert (new_best <= old_best + 1e-3).all()


def test_convex_without_any_title_is_inside_the_hull():
    old = words()
    for row in NEW_ROWS["convex"](Given(old, [[]], many_codes(20), 1)):
        assert hull_weights(old, row).sum() == pytest.approx(1, abs=1e-5)


def test_codebook_is_the_ridge_map_of_the_vectors_item_by_item():
    old = words()
    mean = old.mean(0)
    ordinary = (old - mean).norm(dim=1).median()
    items = np.stack([(old[title].mean(0) if title else mean).numpy() for title in ENCODED])
    rows = NEW_ROWS["codebook"](Given(old, ENCODED, CODES, 7, CODEBOOKS))
    generator = torch.Generator().manual_seed(7)
    for level, known in enumerate([[0, 1, 2], [0, 1]]):
        noise = torch.randn(3, old.shape[1], generator=generator)
        carried = [row for row in range(4) if CODES.codes[row, level] in known]
        inputs = CODEBOOKS[level][CODES.codes[carried, level]]
        centre = inputs.mean(0)
        ridge = 0.1 * np.square(inputs - centre).sum() / inputs.shape[1]
        # Ridge as rows that map each dimension to nothing.
        system = np.vstack([inputs - centre, math.sqrt(ridge) * np.eye(inputs.shape[1])])
        target = items[carried] - items[carried].mean(0)
        target = np.vstack([target, np.zeros((inputs.shape[1], old.shape[1]))])
        fitted = np.linalg.lstsq(system, target)[0]
        for code in range(3):
            about = noise[code]
            if code in known:
                mapped = (CODEBOOKS[level][code] - centre) @ fitted
                about = torch.from_numpy(mapped.astype(np.float32))
            away = about / about.norm() + 0.2 * noise[code] / noise[code].norm()
            expected = mean + ordinary * away / away.norm()
            torch.testing.assert_close(rows[3 * level + code], expected, atol=1e-4, rtol=1e-4)


def test_codebook_with_vectors_all_alike_is_noise_at_an_ordinary_distance():
    old = words()
    alike = [np.ones((3, 4), dtype=np.float32)] * 2
    away = NEW_ROWS["codebook"](Given(old, ENCODED, CODES, 7, alike)) - old.mean(0)
    ordinary = (old - old.mean(0)).norm(dim=1).median()
    torch.testing.assert_close(away.norm(dim=1), ordinary.expand(6))


def test_codebook_without_codebooks_is_refused():
    with pytest.raises(ConfigError, match="no codebooks"):
        NEW_ROWS["codebook"](Given(words(), ENCODED, CODES, 7))


def test_a_title_that_looks_like_a_code_is_read_as_words():
    model, tokenizer = pretrained()
    vocabulary = add_codes(model, tokenizer, INDEX, ["<a_0>", *TITLES[1:]], seed=1)
    rows = model.get_input_embeddings().weight.detach()[vocabulary.first_token :]
    old = model.get_input_embeddings().weight.detach()[: vocabulary.first_token]
    encoded = [[WORDS.index("<unknown>")], [3, 5], [4, 6], [4, 6]]
    assert torch.equal(rows, NEW_ROWS["titles"](Given(old, encoded, INDEX, 1)))


def test_cw2v_gives_codes_the_words_of_their_items_inside_the_hull():
    # Words at right angles, so that shares can be read off; the last ten are in no title.
    old = 3 * torch.eye(50)
    titles = [list(range(5 * item, 5 * item + 5)) for item in range(8)]
    codes = np.stack([np.arange(8) // 2, np.arange(8) % 2], 1).astype(np.int32)
    index = ItemIndex(codes, (5, 2), {})
    shares = NEW_ROWS["cw2v"](Given(old, titles, index, 1)) / 3
    assert shares.min() >= 0
    torch.testing.assert_close(shares.sum(1), torch.ones(7))
    assert not shares[:, 40:].any()
    for code in range(4):
        # A quarter where it started.
        assert shares[code, 10 * code : 10 * code + 10].sum() > 0.7
    # No item carries code 4, so it stays where it started, near the middle.
    assert shares[4, :40].max() < 0.04


def test_cw2v_codes_that_follow_each_other_come_closer():
    rng = np.random.default_rng(0)
    index = ItemIndex(np.arange(24, dtype=np.int32)[:, None], (24,), {})
    titles = [[item] for item in range(24)]
    # People stay within four items.
    group = np.arange(24) // 4
    histories = from_lists([list(rng.permutation(4) + 4 * (user % 6)) for user in range(120)])
    same = (group[:, None] == group) & ~np.eye(24, dtype=bool)

    def closeness(sequences):
        rows = NEW_ROWS["cw2v"](Given(3 * torch.eye(24), titles, index, 1, (), sequences))
        products = (rows @ rows.T).numpy()
        return products[same].mean() - products[group[:, None] != group].mean()

    assert closeness(histories) > closeness(None) + 0.1


def test_skip_gram_pairs_are_what_stands_together():
    # One level of four codes; items 0 and 1 are titled, and two users have two events each.
    index = ItemIndex(np.arange(4, dtype=np.int32)[:, None], (4,), {})
    corpus = SkipGramCorpus(
        [[7], [9, 7], [], []], index, from_lists([[0, 1], [2, 3]]), np.random.default_rng(1)
    )
    assert corpus.words.tolist() == [7, 9]
    drawn = {tuple(sorted(pair)) for pair in corpus.draw(4000).tolist()}
    # Words are 0 and 1, codes 2 to 5.
    assert drawn == {(0, 2), (0, 3), (1, 3), (2, 3), (4, 5)}
    counts = np.asarray([2, 1, 1 + 1, 2 + 1, 1, 1]) ** 0.75
    np.testing.assert_allclose(corpus.noise, counts / counts.sum())


def test_skip_gram_loss_by_hand():
    table = words(5, 3)
    pairs, others = torch.tensor([[0, 1], [4, 2]]), torch.tensor([[2, 3], [1, 1]])

    def chance(a, b):
        return 1 / (1 + math.exp(-float(table[a] @ table[b])))

    want = -sum(
        math.log(chance(a, b)) + sum(math.log(1 - chance(a, far)) for far in fars)
        for (a, b), fars in zip(pairs.tolist(), others.tolist(), strict=True)
    )
    assert float(_loss(table, pairs, others)) == pytest.approx(want / 2, rel=1e-5)

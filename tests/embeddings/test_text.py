import logging

import numpy as np
import pytest
from sklearn.feature_extraction.text import TfidfVectorizer

from genrec import artifacts
from genrec.config import EmbedConfig, Recipe
from genrec.embeddings.encoder_state import TOKEN_PATTERN, TfidfState
from genrec.embeddings.table import EmbeddingTable
from genrec.embeddings.text import distinct_texts, embed_new_texts, embed_texts, run
from genrec.errors import ArtifactError
from genrec.runtime import Runtime
from tests.embeddings.item_dataset import write_dataset

WORDS = "red green blue steel wool cotton lamp chair table mug spoon knife bag coat boot".split()


def store(n=80, seed=0):
    rng = np.random.default_rng(seed)
    return [" ".join(rng.choice(WORDS, size=6)) for _ in range(n)]


def tfidf(texts, dimensions=16, seed=0):
    state = TfidfState.fit(distinct_texts(texts), dimensions=dimensions, seed=seed)
    return embed_texts(texts, lambda rows: (state.encode(rows), state.facts), "tfidf")


def test_full_rank_vectors_keep_the_cosines_of_tf_idf():
    texts = sorted(set(store(12)))
    table = tfidf(texts, dimensions=500)
    assert table.vectors.shape == (12, 12)
    assert table.vectors.dtype == np.float32
    terms = TfidfVectorizer(sublinear_tf=True, ngram_range=(1, 2)).fit_transform(texts).toarray()
    np.testing.assert_allclose(table.vectors @ table.vectors.T, terms @ terms.T, atol=1e-5)
    assert table.origin["kept"] == pytest.approx(1, abs=1e-3)


def test_the_projection_is_the_truncated_svd():
    texts = sorted(set(store(60)))
    table = tfidf(texts, dimensions=5)
    terms = TfidfVectorizer(sublinear_tf=True, ngram_range=(1, 2)).fit_transform(texts).toarray()
    left, values, _ = np.linalg.svd(terms, full_matrices=False)
    exact = left[:, :5] * values[:5]
    length = np.linalg.norm(exact, axis=1, keepdims=True)
    assert table.origin["kept"] == pytest.approx((values[:5] ** 2).sum() / len(texts), abs=5e-3)
    cosines = table.vectors @ table.vectors.T
    off = np.abs(cosines - (exact / length) @ (exact / length).T).mean()
    assert off < 0.02


def test_the_same_text_gets_the_same_vector_wherever_it_stands():
    texts = store(40)
    texts += [texts[3], texts[3], texts[7]]
    table = tfidf(texts)
    assert table.origin["distinct_texts"] == len(set(texts))
    np.testing.assert_array_equal(table.vectors[40], table.vectors[3])
    np.testing.assert_array_equal(table.vectors[41], table.vectors[3])
    np.testing.assert_array_equal(table.vectors[42], table.vectors[7])
    order = np.random.default_rng(1).permutation(len(texts))
    shuffled = tfidf([texts[row] for row in order])
    np.testing.assert_array_equal(shuffled.vectors, table.vectors[order])


def test_vectors_have_length_one_and_follow_likeness():
    table = tfidf(["red wool coat", "blue wool coat", "steel knife", "steel spoon"], dimensions=3)
    np.testing.assert_allclose(np.linalg.norm(table.vectors, axis=1), 1, atol=1e-6)
    cosines = table.vectors @ table.vectors.T
    assert cosines[0, 1] > cosines[0, 2]
    assert cosines[2, 3] > cosines[2, 1]


def test_empty_texts_are_zero_counted_and_warned_about(caplog):
    with caplog.at_level(logging.WARNING):
        table = tfidf(["red lamp", "", "  \n", "red mug", "!!!"])
    assert table.origin["empty_texts"] == 2
    assert table.origin["zero_vectors"] == 3
    assert np.flatnonzero(~table.vectors.any(axis=1)).tolist() == [1, 2, 4]
    assert "3 of 5 items have no text that can be read (2 are empty)" in caplog.text


def test_texts_that_are_all_there_warn_about_nothing(caplog):
    with caplog.at_level(logging.WARNING):
        tfidf(store(10))
    assert not caplog.records


@pytest.mark.parametrize("texts", [["", ""], ["!", "?"], []])
def test_a_catalogue_without_any_word_has_zero_vectors(texts):
    table = tfidf(texts)
    assert table.vectors.shape == (len(texts), 1)
    assert not table.vectors.any()
    assert table.origin["zero_vectors"] == len(texts)


@pytest.mark.parametrize(("texts", "dimensions"), [(["one"], 1), (["a b"] * 9, 1), (["a", "b"], 2)])
def test_dimensions_shrink_with_the_texts(texts, dimensions):
    assert tfidf(texts, dimensions=128).vectors.shape == (len(texts), dimensions)


def test_words_of_scripts_without_spaces_are_split():
    tokens = TfidfVectorizer(token_pattern=TOKEN_PATTERN).build_analyzer()
    assert tokens("Iron Man 2 (2010)") == ["iron", "man", "2", "2010"]
    assert tokens("東京 tower東") == ["東", "京", "tower", "東"]


def test_the_stage_writes_one_vector_an_item(tmp_path):
    texts = store(30)
    write_dataset(tmp_path / "dataset", texts)
    recipe = Recipe(embed=EmbedConfig(dimensions=8))
    folder = run(tmp_path, recipe, Runtime(seed=3, quiet=True))
    manifest = artifacts.verify(folder, "text")
    assert folder == tmp_path / "text"
    assert manifest.seed == 3
    assert manifest.config["dimensions"] == 8
    assert set(manifest.inputs) == {"dataset"}
    table = EmbeddingTable.load(folder)
    np.testing.assert_array_equal(table.vectors, tfidf(texts, dimensions=8, seed=3).vectors)
    assert table.origin["method"] == "tfidf"
    run(tmp_path, recipe, Runtime(seed=3, quiet=True))
    assert artifacts.read_manifest(folder).digest == manifest.digest


@pytest.fixture
def text_run(tmp_path):
    """A run folder with the vectors of thirty texts, and those texts."""
    texts = store(30)
    write_dataset(tmp_path / "dataset", texts)
    run(tmp_path, Recipe(embed=EmbedConfig(dimensions=8)), Runtime(seed=3, quiet=True))
    return tmp_path, texts


def test_new_texts_get_vectors_in_the_space_of_the_run(text_run):
    folder, texts = text_run
    table = embed_new_texts(folder / "text", [texts[4], "", "red lamp"], Runtime(quiet=True))
    np.testing.assert_array_equal(table.vectors[0], EmbeddingTable.load(folder / "text").vectors[4])
    assert not table.vectors[1].any()
    state = TfidfState.load(folder / "text")
    np.testing.assert_array_equal(table.vectors[2], state.encode(["red lamp"])[0])
    assert table.origin["empty_texts"] == 1


def test_new_items_without_any_text_get_zeros_of_the_right_width(text_run):
    table = embed_new_texts(text_run[0] / "text", ["", " "], Runtime(quiet=True))
    np.testing.assert_array_equal(table.vectors, np.zeros((2, 8), np.float32))


def test_vectors_from_before_encoders_were_kept_name_the_verb_to_run(tmp_path):
    folder = tmp_path / "text"
    with artifacts.writing(folder, "text") as partial:
        tfidf(store(10)).save(partial)
    with pytest.raises(ArtifactError, match=f"genrec embed {tmp_path}"):
        embed_new_texts(folder, ["red lamp"], Runtime(quiet=True))
    with pytest.raises(ArtifactError, match="does not exist"):
        embed_new_texts(tmp_path / "other", ["red lamp"], Runtime(quiet=True))

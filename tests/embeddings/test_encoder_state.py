import json

import numpy as np
import pytest
from sklearn.feature_extraction.text import TfidfVectorizer

from genrec.embeddings.encoder_state import TOKEN_PATTERN, TfidfState
from genrec.errors import ArtifactError

WORDS = "red green blue steel wool cotton lamp chair table mug spoon knife 東京 bag".split()


def store(n=60, seed=0):
    rng = np.random.default_rng(seed)
    return sorted({" ".join(rng.choice(WORDS, size=6)) for _ in range(n)})


def by_hand(state, fitted, texts):
    """The same encoder, with the terms weighed by sklearn's own vectorizer."""
    vectorizer = TfidfVectorizer(
        sublinear_tf=True, ngram_range=(1, 2), token_pattern=TOKEN_PATTERN, strip_accents="unicode"
    ).fit(fitted)
    assert list(vectorizer.get_feature_names_out()) == list(state.terms)
    projected = vectorizer.transform(texts).toarray() @ state.components.T.astype(np.float64)
    length = np.linalg.norm(projected, axis=1, keepdims=True)
    return projected / np.where(length > 1e-6, length, np.inf)


def test_new_texts_are_weighed_and_projected_like_the_fitted_ones():
    fitted = store()
    state = TfidfState.fit(fitted, dimensions=8, seed=0)
    new = [*store(20, seed=1), "unseen words only", "red unseen"]
    vectors = state.encode(new)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(vectors, by_hand(state, fitted, new), atol=1e-6)
    assert not vectors[-2].any()
    assert vectors[-1].any()


def test_a_text_gets_the_same_vector_to_the_bit_alone_or_among_others():
    fitted = store()
    state = TfidfState.fit(fitted, dimensions=8, seed=0)
    together = state.encode(fitted)
    for row in (0, 7, len(fitted) - 1):
        np.testing.assert_array_equal(state.encode([fitted[row]])[0], together[row])


def test_what_is_saved_gives_the_same_vectors_to_the_bit(tmp_path):
    state = TfidfState.fit(store(), dimensions=8, seed=0)
    state.save(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "encoder.json",
        "encoder.safetensors",
    ]
    loaded = TfidfState.load(tmp_path)
    new = store(20, seed=1)
    np.testing.assert_array_equal(loaded.encode(new), state.encode(new))
    assert loaded.facts == state.facts


@pytest.mark.parametrize("texts", [["!", "?"], []])
def test_an_encoder_of_no_word_gives_zeros(texts, tmp_path):
    state = TfidfState.fit(texts, dimensions=8, seed=0)
    state.save(tmp_path)
    for each in (state, TfidfState.load(tmp_path)):
        np.testing.assert_array_equal(each.encode(["red lamp", ""]), np.zeros((2, 1), np.float32))


def test_no_text_is_no_error():
    state = TfidfState.fit(store(), dimensions=8, seed=0)
    assert state.encode([]).shape == (0, 8)


def test_a_folder_without_an_encoder_names_the_verb_to_run(tmp_path):
    folder = tmp_path / "text"
    folder.mkdir()
    with pytest.raises(ArtifactError, match=f"genrec embed {tmp_path}"):
        TfidfState.load(folder)


@pytest.mark.parametrize("change", [{"method": "other"}, {"token_pattern": r"\w+"}])
def test_an_encoder_that_reads_texts_in_another_way_is_refused(tmp_path, change):
    TfidfState.fit(store(), dimensions=8, seed=0).save(tmp_path)
    path = tmp_path / "encoder.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(ArtifactError, match="genrec embed"):
        TfidfState.load(tmp_path)

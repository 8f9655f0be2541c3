import json

import numpy as np
import pytest
import torch

from genrec.embeddings import mapped_file
from genrec.embeddings.side_by_side import multimodal_vectors
from genrec.embeddings.table import EmbeddingTable
from genrec.embeddings.vector_prediction import VectorPrediction
from genrec.errors import ArtifactError, DataError
from genrec.tokenization.alignment import ModalityAdaption
from genrec.tokenization.alignment_training import Alignment
from genrec.tokenization.fusion import Fusion, fuse, fuse_aligned

N, TEXT, CF = 30, 6, 4


def unit(x):
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def table(rows, width, seed, scale=1.0):
    vectors = scale * np.random.default_rng(seed).normal(size=(rows, width))
    return EmbeddingTable(vectors.astype(np.float32), {})


@pytest.fixture
def tables():
    return {"text": table(N, TEXT, 0, scale=3), "cf": table(N, CF, 1, scale=50)}


@pytest.fixture
def alignment():
    torch.manual_seed(0)
    return Alignment(table(N, CF, 2).vectors, ModalityAdaption(TEXT, CF).eval(), [])


def without(tables, name, rows):
    """The same tables; these rows of one of them are zero."""
    vectors = tables[name].vectors.copy()
    vectors[rows] = 0
    return {**tables, name: EmbeddingTable(vectors, {})}


def silent(*rows):
    has_events = np.ones(N, dtype=bool)
    has_events[list(rows)] = False
    return has_events


def every_method(tables, alignment, **options):
    made = {method: fuse(method, tables, **options) for method in ("text", "cf", "concatenation")}
    return {**made, "aligned": fuse_aligned(alignment, tables["text"], **options)}


def test_parts_have_length_one_and_cf_stands_first(tables, alignment):
    text, cf = unit(tables["text"].vectors), unit(tables["cf"].vectors)
    with torch.no_grad():
        adapted = unit(alignment.adaption(torch.from_numpy(text)).numpy())
    expected = {
        "text": text,
        "cf": cf,
        "concatenation": np.hstack([cf, text]),
        "aligned": np.hstack([unit(alignment.cf), adapted]),
    }
    for method, fusion in every_method(tables, alignment).items():
        assert fusion.method == method
        assert fusion.vectors.dtype == np.float32
        np.testing.assert_allclose(fusion.vectors, expected[method], rtol=1e-5, atol=1e-6)


def test_pictures_stand_beside_texts_and_a_missing_one_is_guessed(tables, tmp_path):
    image = table(N, 5, 4, scale=9).vectors.copy()
    image[[2, 7]] = 0
    given = {"text": tables["text"], "image": EmbeddingTable(image, {})}
    fusion = fuse("multimodal", given)
    text, known = unit(tables["text"].vectors), np.delete(np.arange(N), [2, 7])
    guess = VectorPrediction.fit(text[known], unit(image[known]))
    expected = np.zeros((N, 5), np.float32)
    expected[known], expected[[2, 7]] = unit(image[known]), guess.predict(text[[2, 7]])
    np.testing.assert_allclose(fusion.vectors, np.hstack([expected, text]), rtol=1e-5, atol=1e-6)
    assert fusion.facts["items_without_image"] == 2
    # A new item has no picture yet.
    new = fusion.new_items(tables["text"].vectors[2:3])
    np.testing.assert_allclose(new, fusion.vectors[2:3], rtol=1e-5, atol=1e-6)
    fusion.save(tmp_path)
    again = Fusion.load(tmp_path)
    np.testing.assert_array_equal(again.vectors, fusion.vectors)
    np.testing.assert_array_equal(again.new_items(tables["text"].vectors[2:3]), new)
    np.testing.assert_allclose(
        multimodal_vectors(given["text"], given["image"])[0], fusion.vectors, atol=1e-7
    )
    with pytest.raises(DataError, match="the image vectors are needed"):
        fuse("multimodal", tables)


def test_an_item_with_a_picture_and_no_text_has_zeros_there(tables):
    given = without({"text": tables["text"], "image": table(N, 5, 4)}, "text", [3])
    vectors = fuse("multimodal", given).vectors
    np.testing.assert_allclose(vectors[3, :5], unit(given["image"].vectors)[3], atol=1e-6)
    assert not vectors[3, 5:].any()


def test_a_new_item_with_a_known_text_gets_the_text_part_of_that_item(tables, alignment):
    new = 7 * tables["text"].vectors[3:5]
    made = every_method(tables, alignment)
    text = unit(tables["text"].vectors[3:5])
    guess = VectorPrediction.fit(unit(tables["text"].vectors), tables["cf"].normalised()).predict(
        text
    )
    adapted = made["aligned"].vectors[3:5, CF:]
    expected = {
        "text": text,
        "cf": guess,
        "concatenation": np.hstack([guess, text]),
        "aligned": np.hstack([adapted, adapted]),
    }
    for method, fusion in made.items():
        vectors = fusion.new_items(new)
        assert vectors.dtype == np.float32
        np.testing.assert_allclose(vectors, expected[method], rtol=1e-4, atol=1e-6)


def test_an_item_without_events_is_like_a_new_one(tables, alignment):
    for method, fusion in every_method(tables, alignment, has_events=silent(2, 5)).items():
        new = fusion.new_items(tables["text"].vectors)
        np.testing.assert_allclose(fusion.vectors[[2, 5]], new[[2, 5]], rtol=1e-5, atol=1e-6)
        if method != "text":
            assert not np.allclose(fusion.vectors[3], new[3], atol=1e-3)
            assert fusion.facts["items_without_event"] == 2


def test_what_stands_in_is_learned_from_items_with_events_and_text(tables):
    odd = {**without(tables, "text", [8])}
    odd["cf"] = EmbeddingTable(odd["cf"].vectors.copy(), {})
    before = fuse("cf", odd, has_events=silent(2, 5))
    odd["cf"].vectors[[2, 5, 8]] = [9, -9, 9, -9]
    after = fuse("cf", odd, has_events=silent(2, 5))
    np.testing.assert_array_equal(after.vectors[[2, 5]], before.vectors[[2, 5]])
    assert after.facts["cf_prediction"]["items"] == N - 3


def test_items_without_text(tables, alignment):
    wordless = without(tables, "text", [1, 2])
    made = every_method(wordless, alignment, has_events=silent(2))
    cf, aligned = unit(tables["cf"].vectors)[1], unit(alignment.cf)[1]
    # Item 1 has events; item 2 has neither, so nothing is known of it.
    expected = {
        "text": np.zeros(TEXT),
        "cf": cf,
        "concatenation": np.hstack([cf, np.zeros(TEXT)]),
        "aligned": np.hstack([aligned, aligned]),
    }
    for method, fusion in made.items():
        np.testing.assert_allclose(fusion.vectors[1], expected[method], rtol=1e-5, atol=1e-6)
        np.testing.assert_array_equal(fusion.vectors[2], np.zeros_like(fusion.vectors[2]))
        new = fusion.new_items(np.zeros((1, TEXT), dtype=np.float32))
        np.testing.assert_array_equal(new, np.zeros_like(fusion.vectors[:1]))
        assert fusion.facts["items_without_text"] == 2


def test_cf_needs_no_text_until_a_new_item_comes(tables):
    fusion = fuse("cf", {"cf": tables["cf"]}, has_events=silent(2))
    np.testing.assert_array_equal(fusion.vectors, tables["cf"].normalised())
    with pytest.raises(DataError, match="made without text vectors"):
        fusion.new_items(tables["text"].vectors)


def test_the_tables_are_left_as_they_are(tables, alignment):
    copies = {name: each.vectors.copy() for name, each in tables.items()}
    cf = alignment.cf.copy()
    every_method(without(tables, "text", [1]), alignment, has_events=silent(2))
    for name, vectors in copies.items():
        np.testing.assert_array_equal(tables[name].vectors, vectors)
    np.testing.assert_array_equal(alignment.cf, cf)


def test_what_is_saved_is_read_back(tables, alignment, tmp_path):
    new = table(5, TEXT, 9).vectors
    for method, fusion in every_method(tables, alignment, has_events=silent(2)).items():
        folder = tmp_path / method
        folder.mkdir()
        fusion.save(folder)
        guess = [] if method == "text" else ["fusion_guess.safetensors"]
        assert sorted(path.name for path in folder.iterdir()) == sorted(
            ["fusion.json", "fusion.safetensors", *guess]
        )
        loaded = Fusion.load(folder)
        assert (loaded.method, loaded.facts) == (method, fusion.facts)
        np.testing.assert_array_equal(loaded.vectors, fusion.vectors)
        np.testing.assert_array_equal(loaded.new_items(new), fusion.new_items(new))


def test_one_item_is_enough(alignment):
    one = {"text": table(1, TEXT, 0), "cf": table(1, CF, 1)}
    alignment = Alignment(alignment.cf[:1], alignment.adaption, [])
    for fusion in every_method(one, alignment).values():
        assert np.isfinite(fusion.vectors).all()
        assert np.isfinite(fusion.new_items(one["text"].vectors)).all()


@pytest.mark.parametrize(("name", "other"), [("text", "cf"), ("cf", "text")])
def test_tables_that_tell_nothing_are_refused(tables, alignment, name, other):
    blank = without(tables, name, slice(None))
    with pytest.raises(DataError, match=f"all 30 vectors of '{name}' are zero.*{other}"):
        fuse("concatenation", blank)
    fuse(other, {other: tables[other]})
    if name == "text":
        with pytest.raises(DataError, match="all 30 vectors of 'text' are zero"):
            fuse_aligned(alignment, blank["text"])


@pytest.mark.parametrize("name", ["text", "cf"])
def test_a_missing_table_is_named(tables, name):
    del tables[name]
    with pytest.raises(DataError, match=f"the {name} vectors are needed"):
        fuse("concatenation", tables)


def test_tables_of_different_catalogues_are_refused(tables, alignment):
    short = {**tables, "text": EmbeddingTable(tables["text"].vectors[1:], {})}
    with pytest.raises(DataError, match=r"different numbers of items \(text 29, cf 30\)"):
        fuse("concatenation", short)
    with pytest.raises(DataError, match=r"different numbers of items \(cf 30, text 29\)"):
        fuse_aligned(alignment, short["text"])
    with pytest.raises(DataError, match="has_events 3"):
        fuse("text", tables, has_events=np.ones(3, dtype=bool))


def test_new_texts_that_do_not_fit_are_refused(tables):
    fusion = fuse("concatenation", tables)
    with pytest.raises(DataError, match="have 5 dimensions, expected 6"):
        fusion.new_items(np.ones((2, 5), dtype=np.float32))
    with pytest.raises(DataError, match="1 of 2 vectors hold NaN"):
        fusion.new_items(np.array([[1.0] * 6, [np.nan] * 6], dtype=np.float32))


def test_vectors_that_are_not_finite_are_refused(alignment, tables):
    alignment.cf[3, 0] = np.nan
    with pytest.raises(DataError, match="1 of 30 vectors hold NaN"):
        fuse_aligned(alignment, tables["text"])


def damage_arrays(folder):
    (folder / "fusion.safetensors").write_bytes(b"half a file")


def lose_arrays(folder):
    (folder / "fusion.safetensors").unlink()


def lose_guess(folder):
    (folder / "fusion_guess.safetensors").unlink()


def damage_guess(folder):
    (folder / "fusion_guess.safetensors").write_bytes(b"half a file")


def other_method(folder):
    path = folder / "fusion.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "method": "sum"}))


def no_method(folder):
    (folder / "fusion.json").write_text("{}")


@pytest.mark.parametrize(
    "damage", [damage_arrays, lose_arrays, damage_guess, lose_guess, other_method, no_method]
)
def test_a_damaged_folder_says_what_to_run(tables, tmp_path, damage):
    fuse("concatenation", tables).save(tmp_path)
    damage(tmp_path)
    with pytest.raises(ArtifactError, match="cannot be read.*run the index stage again"):
        Fusion.load(tmp_path)


@pytest.mark.parametrize("method", ["text", "cf", "concatenation"])
def test_vectors_kept_in_a_file_are_the_same(tables, tmp_path, monkeypatch, method):
    monkeypatch.setattr(mapped_file, "BLOCK_BYTES", 100)
    without_text = without(tables, "text", [2, 3])
    options = {"has_events": silent(1, 2, 29)}
    held = fuse(method, without_text, **options)
    stored = fuse(method, without_text, **options, store=tmp_path / "a" / "vectors.safetensors")
    assert isinstance(stored.vectors, np.memmap)
    np.testing.assert_array_equal(stored.vectors, held.vectors)
    stored.save(tmp_path)
    np.testing.assert_array_equal(Fusion.load(tmp_path).vectors, held.vectors)


def test_cf_vectors_that_no_event_has_shaped_are_pointed_out(tables, caplog):
    fuse("cf", {"cf": tables["cf"]}, has_events=silent(1, 2))
    assert "2 of 30 items have no training event" in caplog.text
    caplog.clear()
    fuse("cf", tables, has_events=silent(1, 2))
    assert not caplog.text


def test_very_long_and_very_short_vectors_get_length_one():
    long = EmbeddingTable(np.array([[1e20, 1e20], [1e-30, 0], [0, 0]], dtype=np.float32), {})
    np.testing.assert_allclose(long.normalised(), [[0.5**0.5, 0.5**0.5], [1, 0], [0, 0]])

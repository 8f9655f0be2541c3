"""The benchmark of large catalogues: its vectors, its rows, and what it claims about collisions."""

import importlib
import sys
from pathlib import Path

import numpy as np
import pytest

from genrec.tokenization.collisions import Resolution

BENCHMARKS = Path(__file__).resolve().parent.parent / "benchmarks"
sys.path.append(str(BENCHMARKS))
indexing_scale = importlib.import_module("indexing_scale")
sys.path.remove(str(BENCHMARKS))


def source(tmp_path, n=50, d=12):
    path = tmp_path / "source.npy"
    np.save(path, np.random.default_rng(1).normal(size=(n, d)).astype(np.float16))
    return path


def test_vectors_are_noisy_projections_of_the_source(tmp_path, monkeypatch):
    monkeypatch.setattr(indexing_scale, "BLOCK_ROWS", 64)
    path = tmp_path / "vectors.npy"
    rows = indexing_scale.make_vectors(path, 1000, 30, source(tmp_path), 7)
    assert [row["part"] for row in rows] == ["make vectors"]
    x = np.load(path, mmap_mode="r")
    assert x.shape == (1000, 30)
    assert x.dtype == np.float16
    assert len(np.unique(x, axis=0)) == 1000
    # Twelve dimensions projected into thirty.
    assert np.linalg.matrix_rank(x.astype(float), tol=1) == 12
    indexing_scale.make_vectors(tmp_path / "again.npy", 1000, 30, source(tmp_path), 7)
    np.testing.assert_array_equal(np.load(tmp_path / "again.npy"), x)


@pytest.mark.parametrize("from_file", [False, True])
def test_every_part_has_a_row(tmp_path, from_file, monkeypatch):
    # The processes it starts look for the module where this one does.
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    drawn_from = source(tmp_path) if from_file else None
    rows = indexing_scale.measure(3000, 16, drawn_from, rq_vae=False, quiet=True)
    assert [row["part"] for row in rows] == [
        "make vectors",
        "learn centroids",
        "give codes",
        "resolve collisions",
        "all",
        "genrec index, report and forecast included",
    ]
    assert all(row["items"] == 3000 and row["dimensions"] == 16 for row in rows)
    made, *parts, whole, stage = rows
    assert stage["unresolved"] == 0
    assert 0.01 < stage["peak_gib"] < 4
    assert whole["seconds"] == pytest.approx(sum(part["seconds"] for part in parts), abs=0.01)
    assert 0.01 < made["peak_gib"] < 4
    assert 0.01 < whole["peak_gib"] < 4
    assert whole["unresolved"] == 0
    assert whole["moved"] > 0 or whole["sharing_before"] == 0
    assert 0 < whole["relative_error"] < 1


def test_unresolved_collisions_would_be_told(tmp_path, monkeypatch):
    from genrec.tokenization import collisions

    def keep(codes, level_sizes, item_ids, distances):
        none = np.zeros(0)
        return Resolution(codes, level_sizes, np.zeros(len(codes), dtype=bool), none, none)

    monkeypatch.setattr(collisions, "resolve", keep)
    path = tmp_path / "vectors.npy"
    np.save(path, np.zeros((40, 6), dtype=np.float16))
    whole = indexing_scale.index_by_kmeans(path, 0, True)[-1]
    assert whole["unresolved"] == whole["sharing_before"] == 40
    assert whole["moved"] == 0

"""Items without training events, of which a collaborative model knows nothing."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
import torch

from genrec import artifacts
from genrec.config import Recipe
from genrec.data.catalog import Catalog
from genrec.data.dataset import Dataset
from genrec.decoding.hybrid_ranker import HybridRanker
from genrec.errors import ArtifactError
from genrec.model.generation import with_generation
from genrec.model.generative import GenerativeModel
from genrec.runtime import Runtime
from genrec.semantic_ids.item_index import ItemIndex
from genrec.training import train
from genrec.training.bridging import read_item_vectors
from tests.training.bridged_run import write_run
from tests.training.world import SCRATCH

RUNTIME = Runtime(device="cpu", dtype="float32", threads=1, quiet=True)
NEW = 23
HISTORY = np.asarray([5, 6, NEW, 7], dtype=np.int32)


def recipe(**changes):
    settings = {
        "form": "stream", "scratch": SCRATCH, "epochs": 2, "batch_tokens": 160, "evaluations": 1,
        "max_history": 8, "validation_users": 10, **changes,
    }  # fmt: skip
    return Recipe(train=settings)


@pytest.fixture
def dataset(cycle_dataset):
    """The circle, with all events of one item held out."""
    held_out = np.where(cycle_dataset.interactions.item == NEW, 2, cycle_dataset.part)
    made: Dataset = replace(cycle_dataset, part=held_out.astype(np.int8))
    assert np.flatnonzero(made.item_counts == 0).tolist() == [NEW]
    return made


def test_the_collaborative_model_has_no_say_in_them(tmp_path, dataset, small_index):
    run = write_run(tmp_path / "run", dataset, small_index)
    train.run(run, recipe(dense={"weight": 1.0, "vectors": "text", "cf": True}), RUNTIME)
    model = GenerativeModel.load(run / "model", device=torch.device("cpu"))
    asked = model.bridge.log_probabilities([HISTORY])
    assert np.flatnonzero(asked[0].isnan()).tolist() == [NEW]
    # What it is told of the user passes over the item, for it never learned to read it.
    without = model.bridge.log_probabilities([HISTORY[HISTORY != NEW]])
    torch.testing.assert_close(asked, without, equal_nan=True)
    parts = HybridRanker(model).score_parts([HISTORY[:2]] * 2, [NEW, 3])
    told = model.bridge.log_probabilities([HISTORY[:2]])
    assert parts["collaborative"][1] == pytest.approx(float(told[0, 3]), abs=1e-5)
    # That of the new item is no more than an estimate.
    assert told[0].isnan()[NEW]
    assert np.isfinite(parts["collaborative"][0])


def test_its_vector_of_them_is_replaced_by_the_mean(tmp_path, dataset, small_index):
    run = write_run(tmp_path / "run", dataset, small_index)
    inputs = {name: run / name for name in ("cf", "text")}
    known = np.arange(len(dataset.catalog)) != NEW
    everything = np.ones(len(known), dtype=np.int64)
    table = read_item_vectors("cf", inputs, everything)
    vectors = read_item_vectors("cf", inputs, dataset.item_counts)
    np.testing.assert_array_equal(vectors[known], table[known])
    np.testing.assert_allclose(vectors[NEW], table[known].mean(axis=0), rtol=1e-5)
    # Texts are known of any item.
    np.testing.assert_array_equal(
        read_item_vectors("text", inputs, dataset.item_counts),
        read_item_vectors("text", inputs, everything),
    )


def test_a_collaborative_model_that_is_only_asked_is_checked_as_well(
    tmp_path, cycle_dataset, dataset, small_index
):
    run = write_run(tmp_path / "run", cycle_dataset, small_index)
    other = write_run(tmp_path / "other", dataset, small_index)
    (run / "cf").rename(tmp_path / "own")
    (other / "cf").rename(run / "cf")
    assert artifacts.exists(run / "cf")
    with pytest.raises(ArtifactError, match="cf was made from dataset"):
        train.run(run, recipe(dense={"weight": 1.0, "cf": True}), RUNTIME)


def test_a_model_that_only_asks_serves_a_later_catalogue(tmp_path, dataset, small_index):
    run = write_run(tmp_path / "run", dataset, small_index)
    train.run(run, recipe(dense={"weight": 1.0, "cf": True}), RUNTIME)
    old = GenerativeModel.load(run / "model", device=torch.device("cpu"))
    assert not list(old.bridge.soft.parameters())
    new = pl.DataFrame({"item_id": ["n0"], "title": [""], "text": [""]})
    facts = {"generation": 1, "root": old.facts["index_digest"]}
    codes = np.vstack([small_index.codes, [5, 3]]).astype(np.int32)
    with artifacts.writing(tmp_path / "1", "index", facts=facts) as partial:
        ItemIndex(codes, (6, 4), {}, shared=True).save(partial)
        Catalog(pl.concat([old.catalog.table, new])).save(partial)
    grown = with_generation(old, tmp_path / "1")
    asked = grown.bridge.log_probabilities([HISTORY])
    assert np.flatnonzero(asked[0].isnan()).tolist() == [NEW, 24]
    assert len(HybridRanker(grown).rank([HISTORY], 25)[0].items) == 25

"""What is written comes back; what was not written by us is refused with a way out."""

import json

import numpy as np
import polars as pl
import pytest

from genrec.data.ranking import Ranking
from genrec.errors import ArtifactError, DataError
from genrec.evaluation.predictions import Predictions, from_rankings, models_in
from tests.evaluation.world import lists

ITEMS = [f"i{row}" for row in range(9)]
USERS = ["a", "b", "c", "d"]


@pytest.fixture
def saved(tmp_path):
    predictions = lists("mine", [[4, -1, 2], [], [8]], examples=[0, 1, 3], k=3)
    predictions.save(tmp_path, ITEMS, USERS)
    return tmp_path, predictions


def test_round_trip_with_outside_ids(saved):
    folder, wrote = saved
    read = Predictions.load(folder, "mine")
    for name in ("example", "item", "score", "rank", "examples"):
        assert np.array_equal(getattr(read, name), getattr(wrote, name)), name
        assert getattr(read, name).dtype == getattr(wrote, name).dtype
    assert read.facts == wrote.facts
    table = pl.read_parquet(folder / "mine.parquet")
    assert table["user_id"].to_list() == ["a", "a", "a", "d"]
    assert table["item_id"].to_list() == ["i4", None, "i2", "i8"]
    assert table["rank"].to_list() == [1, 2, 3, 1]


def test_no_list_holds_anything(tmp_path):
    lists("none", [[], []]).save(tmp_path, ITEMS, USERS)
    read = Predictions.load(tmp_path, "none")
    assert len(read.item) == 0
    assert read.examples.tolist() == [0, 1]


def test_rankings_come_out_sorted_by_example():
    rankings = [Ranking(np.array([i], np.int32), np.zeros(1, np.float32)) for i in (5, 6, 7)]
    found = from_rankings("mine", np.array([9, 2, 4]), rankings, {})
    assert found.example.tolist() == [2, 4, 9]
    assert found.item.tolist() == [6, 7, 5]
    with pytest.raises(DataError, match="3 rankings for 2 examples"):
        from_rankings("mine", np.array([1, 2]), rankings, {})


def test_models_of_a_folder(saved):
    folder, predictions = saved
    assert models_in(folder) == ["mine"]
    (folder / "mine.parquet").unlink()
    with pytest.raises(ArtifactError, match="genrec recommend"):
        models_in(folder)


@pytest.mark.parametrize("keep", [0, 1, 100, -1])
def test_a_cut_parquet(saved, keep):
    folder, _ = saved
    path = folder / "mine.parquet"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ArtifactError, match=r"mine\.parquet cannot be read as Parquet"):
        Predictions.load(folder, "mine")


def rewrite(folder, change):
    table = pl.read_parquet(folder / "mine.parquet")
    change(table).write_parquet(folder / "mine.parquet")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.drop("rank"), "has columns .* expected user_id String"),
        (lambda t: t.with_columns(pl.col("item").cast(pl.String)), "item String"),
        (lambda t: t.with_columns(rank=pl.lit(1, pl.Int32)), "row 1 .* rank 1 in example 0"),
        (lambda t: t.with_columns(rank=pl.col("rank") - 1), "rank 0 in example 0"),
        (lambda t: t.reverse(), "sorted by example"),
        (lambda t: t.with_columns(item=pl.lit(-7, pl.Int32)), "item -7"),
        (lambda t: t.with_columns(item=pl.lit(None, pl.Int32)), "empty cells in item"),
        (lambda t: t.with_columns(example=pl.lit(2, pl.Int64)), "example 2, which was not asked"),
    ],
)
def test_a_foreign_parquet(saved, change, message):
    folder, _ = saved
    rewrite(folder, change)
    with pytest.raises(ArtifactError, match=message):
        Predictions.load(folder, "mine")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda b: b | {"model": "other"}, "does not describe 'mine'"),
        (lambda b: b | {"examples": "all"}, "does not describe"),
        (lambda b: b | {"examples": [0.5]}, "does not describe"),
        (lambda b: b | {"facts": {"part": "test"}}, "lack k, seconds"),
        (lambda b: b | {"examples": [0, 1, 3, 3]}, "more than once"),
        (lambda b: [], "does not describe"),
    ],
)
def test_a_foreign_json(saved, change, message):
    folder, _ = saved
    path = folder / "mine.json"
    path.write_text(json.dumps(change(json.loads(path.read_text()))))
    with pytest.raises(ArtifactError, match=message):
        Predictions.load(folder, "mine")


def test_half_a_json_and_missing_files(saved):
    folder, _ = saved
    path = folder / "mine.json"
    path.write_text(path.read_text()[:20])
    with pytest.raises(ArtifactError, match="is not JSON"):
        Predictions.load(folder, "mine")
    path.unlink()
    with pytest.raises(ArtifactError, match=r"mine\.json is missing"):
        Predictions.load(folder, "mine")
    with pytest.raises(ArtifactError, match=r"theirs\.parquet is missing"):
        Predictions.load(folder, "theirs")

"""Recipes and files that say two things at once, or nothing that can be read."""

from pathlib import Path

import polars as pl
import pytest

from genrec.config import DataConfig, Recipe
from genrec.data.detect import open_source
from genrec.data.prepare import prepare, run
from genrec.errors import DataError
from genrec.runtime import Runtime

LINES = ["user_id,item_id,timestamp"] + [f"u{n % 5},i{n % 7},{1000 + n}" for n in range(60)]


def events(folder: Path, name: str = "events.csv", end: str = "\n") -> Path:
    path = folder / name
    path.write_bytes((end.join(LINES) + end).encode())
    return path


def test_a_least_weight_without_weights_is_refused(tmp_path):
    source = open_source(DataConfig(path=str(events(tmp_path))))
    with pytest.raises(DataError, match=r"minimum_weight is 0\.5, but .*events\.csv has no column"):
        prepare(source, core=0, minimum_weight=0.5)
    assert len(prepare(source, core=0).dataset.interactions) == 60


def test_the_embedded_store_and_a_file_cannot_both_be_meant(tmp_path):
    path = events(tmp_path)
    recipe = Recipe(data=DataConfig(format="store", path=str(path)))
    with pytest.raises(DataError, match="format is store.*data.path is .*events.csv"):
        run(tmp_path, recipe, Runtime(quiet=True))
    assert not (tmp_path / "dataset").exists()


def test_lines_that_end_with_carriage_returns_alone_are_named(tmp_path):
    with pytest.raises(DataError, match="carriage returns alone"):
        open_source(DataConfig(path=str(events(tmp_path, end="\r"))))
    source = open_source(DataConfig(path=str(events(tmp_path, end="\r\n"))))
    assert len(prepare(source, core=0).dataset.interactions) == 60


def test_damaged_parquet_is_one_sentence(tmp_path):
    path = tmp_path / "events.parquet"
    pl.DataFrame({"user_id": ["u"] * 999, "item_id": ["i"] * 999}).write_parquet(path)
    whole = bytearray(path.read_bytes())
    for place in range(40, len(whole) - 400, 37):
        whole[place] ^= 0xFF
    for body in (bytes(whole), bytes(whole[:200]), b"PAR1"):
        path.write_bytes(body)
        with pytest.raises(DataError) as caught:
            config = DataConfig.model_validate({"path": str(path), "columns": {"timestamp": None}})
            prepare(open_source(config), core=0)
        assert "\n" not in str(caught.value)
        assert ".." not in str(caught.value).replace(str(path), "")


@pytest.mark.parametrize("name", ["a[1]", "b*", "c {x,y}", "d?"])
def test_names_with_wildcards_are_names(tmp_path, name):
    folder = tmp_path / name
    folder.mkdir()
    path = events(folder)
    # A neighbour that the pattern would also match.
    (tmp_path / "a1").mkdir()
    events(tmp_path / "a1")
    items = folder / "items.parquet"
    pl.DataFrame({"item_id": [f"i{n}" for n in range(7)], "title": "T"}).write_parquet(items)
    recipe = Recipe(data=DataConfig(path=str(path), items_path=str(items), core=0))
    run(folder, recipe, Runtime(quiet=True))
    from genrec.data.dataset import Dataset

    dataset = Dataset.load(folder / "dataset")
    assert (len(dataset.user_ids), dataset.catalog.titles) == (5, ["T"] * 7)

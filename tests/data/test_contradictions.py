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


def test_half_a_surrogate_pair_is_one_lost_row_or_one_lost_letter(tmp_path):
    lines = [
        f'{{"user_id":"u{n % 5}","item_id":"i{n % 7}","timestamp":{1000 + n}}}' for n in range(60)
    ]
    lines.insert(9, r'{"user_id":"\ud800","item_id":"i1","timestamp":1000}')
    (tmp_path / "events.jsonl").write_text("\n".join(lines))
    titles = [rf'{{"item_id":"i{n}","title":"T \ud800{n}","text":["\udfff"]}}' for n in range(7)]
    (tmp_path / "items.jsonl").write_text("\n".join(titles))
    prepared = prepare(open_source(DataConfig(path=str(tmp_path / "events.jsonl"))), core=0)
    assert prepared.quarantine.select("row", "reason").rows() == [(10, "user_id is not UTF-8 text")]
    assert len(prepared.dataset.interactions) == 60
    assert prepared.dataset.catalog.titles == [f"T \ufffd{n}" for n in range(7)]


def test_titles_cannot_steer_a_terminal(tmp_path):
    path = events(tmp_path)
    items = pl.DataFrame(
        {"item_id": [f"i{n}" for n in range(7)], "title": "\x1b[2J\x00red\x7f\u0085"}
    )
    items.write_parquet(tmp_path / "items.parquet")
    dataset = prepare(open_source(DataConfig(path=str(path))), core=0).dataset
    assert set(dataset.catalog.titles) == {"[2J red"}

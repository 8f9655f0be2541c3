import json
import lzma
import random
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from genrec import artifacts
from genrec.config import DataConfig, Recipe, SplitConfig
from genrec.data.dataset import Dataset
from genrec.data.detect import open_source
from genrec.data.factorize import Factorizer
from genrec.data.item_table import normalise_items
from genrec.data.prepare import prepare, run
from genrec.data.source import Items, Source, one_block
from genrec.errors import DataError
from genrec.runtime import Runtime

REAL = Path(__file__).parents[3] / "shared" / "data"


def memory(events: list[tuple[Any, ...]], items: pl.DataFrame | None = None) -> Source:
    names = ["user_id", "item_id", "timestamp", "weight"][: len(events[0])]
    table = pl.DataFrame(events, schema=names, orient="row")
    return Source(
        "table",
        "memory",
        lambda: one_block("memory", table),
        Items(items) if items is not None else None,
    )


def read_back(dataset: Dataset) -> list[tuple[Any, ...]]:
    events, ids = dataset.interactions, dataset.catalog.item_ids
    return [
        (dataset.user_ids[u], ids[i], int(t), float(w))
        for u, i, t, w in zip(events.user, events.item, events.time, events.weight, strict=True)
    ]


def test_events_are_sorted_by_user_time_and_input_order():
    rng = random.Random(3)
    events = [
        (f"u{rng.randrange(9)}", f"i{rng.randrange(20)}", rng.randrange(6)) for _ in range(400)
    ]
    dataset = prepare(memory(events), core=0).dataset
    first = list(dict.fromkeys(user for user, _, _ in events))
    assert dataset.user_ids == first
    # Python's sort is stable, so equal keys keep the input order.
    expected = sorted(events, key=lambda event: (first.index(event[0]), event[2]))
    assert [row[:3] for row in read_back(dataset)] == expected
    assert dataset.catalog.item_ids == list(dict.fromkeys(item for _, item, _ in events))


def test_times_below_a_second_still_order_events():
    base = 1_400_000_000_000
    events = [("u", "late", base + 900), ("u", "early", base + 100), ("u", "next", base + 1000)]
    dataset = prepare(memory(events), core=0).dataset
    assert [row[1] for row in read_back(dataset)] == ["early", "late", "next"]
    assert dataset.interactions.time.tolist() == [1_400_000_000, 1_400_000_000, 1_400_000_001]


def test_filters_run_in_order_and_are_counted():
    events = [
        ("u1", "a", 1, 5.0), ("u1", "a", 2, 5.0), ("u1", "b", 3, 1.0), ("u1", "b", 4, 4.0),
        ("u1", "c", 5, 5.0), ("u2", "a", 6, 5.0), ("u2", "b", 7, 5.0), ("u2", "c", 8, 5.0),
        ("u3", "d", 9, 5.0),
    ]  # fmt: skip
    prepared = prepare(memory(events), core=2, minimum_weight=2.0, deduplicate="pair")
    dropped = prepared.report["rows"]["dropped"]
    assert dropped == {"minimum_weight": 1, "deduplicate": 1, "core": 1}
    assert read_back(prepared.dataset) == [events[n] for n in (0, 3, 4, 5, 6, 7)]
    assert prepared.report["rows"]["kept"] == 6
    assert prepared.report["density"] == 6 / (2 * 3)
    with pytest.raises(DataError, match=r"filter core.*data\.core"):
        prepare(memory(events), core=3)


def test_a_cut_in_time_needs_times():
    table = pl.DataFrame({"user_id": ["u"] * 9, "item_id": list("abcdefghi")})
    source = Source("table", "memory", lambda: one_block("memory", table), has_time=False)
    with pytest.raises(DataError, match="has no times.*leave_one_out"):
        prepare(source, core=0, split_config=SplitConfig(method="temporal"))


def test_catalogue_follows_the_item_file_and_names_what_it_lacks():
    items = pl.DataFrame(
        {
            "item_id": ["c", "a", "c", None, "never"],
            "title": ["  Salt &amp;\n Pepper ", "", "second", "x", "y"],
            "brand": ["B&amp;B", None, "", "", ""],
            "categories": [["Food", "Spice"], [], None, None, None],
            "price": [1.5, None, 2.0, 0.0, 0.0],
        }
    )
    events = [("u", "new", 1), ("u", "a", 2), ("u", "c", 3)]
    prepared = prepare(memory(events, items), core=0)
    catalog = prepared.dataset.catalog
    assert catalog.table.select("item_id", "title", "text", "price").rows() == [
        ("c", "Salt & Pepper", "Salt & Pepper, B&B, Food, Spice", 1.5),
        ("a", "a", "", None),
        ("new", "new", "", None),
    ]
    counts = prepared.report["item_file"]
    assert counts["duplicates"] == 1
    assert counts["broken"] == 1
    assert counts["without_events"] == 1
    assert counts["missing"] == 1
    assert prepared.report["texts"]["missing"] == 2
    assert [row[1] for row in read_back(prepared.dataset)] == ["new", "a", "c"]


def test_bad_item_rows_are_quarantined_with_their_line(tmp_path):
    (tmp_path / "interactions.csv").write_text(
        "user_id,item_id,timestamp\n" + "".join(f"u,{n},{n}\n" for n in range(3))
    )
    (tmp_path / "items.csv").write_text("row,item_id,title\n9,0,zero\n9,1\n\n9,,lost\n9,2,two\n")
    prepared = prepare(open_source(DataConfig(path=str(tmp_path))), core=0)
    assert prepared.quarantine.select("row", "reason").rows() == [
        (3, "has 2 fields, expected 3"),
        (5, "item_id is missing"),
    ]
    assert set(prepared.quarantine["file"]) == {str(tmp_path / "items.csv")}
    assert prepared.dataset.catalog.titles == ["zero", "two", "1"]
    assert prepared.report["rows"]["quarantined"] == 0


def test_item_file_with_other_ids_is_refused():
    items = pl.DataFrame({"item_id": ["1.0"], "title": ["t"]})
    with pytest.raises(DataError, match=r"None of the 1 items.*'1'.*'1\.0'"):
        prepare(memory([("u", "1", 1)], items), core=0)


def test_text_columns_can_be_named_and_a_text_column_is_taken_alone():
    table = pl.DataFrame({"item_id": ["1"], "title": ["T"], "text": ["ready"], "brand": ["B"]})
    assert normalise_items(Items(table)).table["text"].to_list() == ["ready"]
    named = Items(table, text=["brand", "title"])
    assert normalise_items(named).table["text"].to_list() == ["B, T"]


def test_report_counts_ties_leaks_and_lengths_by_hand():
    events = [
        ("u1", "1", 10), ("u1", "2", 10), ("u1", "3", 20), ("u1", "4", 20),
        ("u2", "1", 30), ("u2", "2", 40), ("u2", "3", 50),
    ]  # fmt: skip
    report = prepare(memory(events), core=0).report
    # Neighbours: 3 of u1 and 2 of u2; tied are 1-2 and 3-4, both with rising ids.
    assert report["ties"] == {"pairs": 5, "tied": 2, "share": 0.4, "sorted_by_item": 1.0}
    # Test events: item 4 of u1 (time 20, tied) and item 3 of u2 (time 50). Newest training: 30.
    assert report["leaks"] == {"test_tied_with_before": 0.5, "test_before_newest_training": 0.5}
    lengths = report["history_lengths"]
    assert (lengths["minimum"], lengths["median"], lengths["mean"], lengths["maximum"]) == (
        3, 3.5, 3.5, 4
    )  # fmt: skip
    assert lengths["histogram"]["3-4"] == 2
    assert sum(lengths["histogram"].values()) == 2
    assert report["parts"]["train"] == {
        "events": 3, "users": 2, "items": 2, "events_with_items_unseen_in_training": 0
    }  # fmt: skip
    assert report["parts"]["test"]["events_with_items_unseen_in_training"] == 2
    assert any("same time" in sentence for sentence in report["warnings"])


def test_events_sorted_by_item_within_ties_are_warned_of():
    rng = random.Random(1)
    sorted_ids = [("u", str(n), 5) for n in range(200)]
    shuffled = [("u", str(n), 5) for n in rng.sample(range(200), 200)]
    for events, expected in ((sorted_ids, True), (shuffled, False)):
        warnings = prepare(memory(events), core=0).report["warnings"]
        assert any("sorted by item id" in sentence for sentence in warnings) is expected


def test_factorizer_equals_a_dictionary_over_blocks():
    rng = random.Random(0)
    ids = [f"id{rng.randrange(300)}" for _ in range(2000)]
    factorizer = Factorizer()
    for start in range(0, 2000, 170):
        factorizer.add(pl.Series(ids[start : start + 170]))
    codes, names = factorizer.finish()
    number = {name: position for position, name in enumerate(dict.fromkeys(ids))}
    assert names.to_list() == list(number)
    assert codes.tolist() == [number[name] for name in ids]


def write_world(folder: Path) -> None:
    rng = np.random.default_rng(2)
    lines = [f"u{n % 30},i{rng.integers(12)},{1_300_000_000 + n},4" for n in range(400)]
    lines[7] = "u1,i2"
    lines[9] = ",i2,1300000000,4"
    (folder / "interactions.csv").write_text(
        "user_id,item_id,timestamp,rating\n" + "\n".join(lines) + "\n"
    )
    (folder / "items.csv").write_text(
        "item_id,title,genres\n" + "".join(f"i{n},Title {n},A|B\n" for n in range(12))
    )


def test_run_writes_a_dataset_with_report_and_quarantine(tmp_path):
    write_world(tmp_path)
    recipe = Recipe(data=DataConfig(path=str(tmp_path), core=2))
    folder = run(tmp_path / "run", recipe, Runtime(quiet=True))
    manifest = artifacts.verify(folder, "dataset")
    assert manifest.config == recipe.data.model_dump(mode="json")
    dataset = Dataset.load(folder)
    report = json.loads((folder / "report.json").read_text())
    assert report["rows"]["read"] == 400
    assert report["rows"]["kept"] == len(dataset.interactions) == 398
    quarantine = pl.read_parquet(folder / "quarantine.parquet")
    assert quarantine["row"].sort().to_list() == [9, 11]
    page = (folder / "report.md").read_text()
    for expected in ("has 2 fields, expected 4", "user_id is missing", "398"):
        assert expected in page
    assert dataset.catalog.texts[0] == "Title 0, A, B"
    assert dataset.facts["split"] == "leave_one_out"
    assert np.bincount(dataset.part).tolist() == [398 - 60, 30, 30]
    again = run(tmp_path / "again", recipe, Runtime(quiet=True))
    assert artifacts.read_manifest(again).files == manifest.files


def test_run_leaves_nothing_behind_when_it_fails(tmp_path):
    (tmp_path / "x.csv").write_text("user_id,item_id,timestamp\nu,i,5\n")
    recipe = Recipe(data=DataConfig(path=str(tmp_path / "x.csv"), core=5))
    with pytest.raises(DataError, match="No event is left"):
        run(tmp_path / "run", recipe, Runtime(quiet=True))
    assert not list((tmp_path / "run").iterdir())


def test_run_makes_the_embedded_store_and_records_the_best_possible(tmp_path):
    data = {"store": {"users": 60, "items": 40}, "core": 0}
    recipe = Recipe.model_validate({"data": data})
    dataset = Dataset.load(run(tmp_path, recipe, Runtime(quiet=True, seed=1)))
    assert dataset.facts["format"] == "store"
    assert 0 < dataset.facts["best_possible"]["recall@10"] <= 1
    assert all(dataset.catalog.texts)


@pytest.mark.parametrize(
    ("name", "users", "items", "events"),
    [
        ("movietweetings-100k", 4333, 2414, 68055),
        ("amazon2014-beauty", 22363, 12101, 198502),
        ("ml-100k-multimodal", 943, 1349, 99287),
    ],
)
def test_real_sets_have_their_published_sizes(name, users, items, events):
    if not (REAL / name).is_dir():
        pytest.skip(f"{REAL / name} is not on this machine")
    prepared = prepare(open_source(DataConfig(path=str(REAL / name))), core=5)
    dataset = prepared.dataset
    sizes = (len(dataset.user_ids), len(dataset.catalog), len(dataset.interactions))
    assert sizes == (users, items, events)
    assert prepared.quarantine.is_empty()


def test_a_real_set_is_the_same_from_its_table_and_its_original_files(tmp_path):
    folder = REAL / "movietweetings-100k"
    if not folder.is_dir():
        pytest.skip(f"{folder} is not on this machine")
    for name in ("ratings.dat", "movies.dat"):
        packed = (folder / "originals" / f"{name}.xz").read_bytes()
        (tmp_path / name).write_bytes(lzma.decompress(packed))
    table, original = (
        prepare(open_source(DataConfig(path=str(path)))).dataset for path in (folder, tmp_path)
    )
    # The two hold the same rows in another order, so users are numbered differently.
    assert sorted(table.user_ids) == sorted(original.user_ids)
    assert table.catalog.table.equals(original.catalog.table)
    assert sorted(zip(read_back(table), table.part.tolist(), strict=True)) == sorted(
        zip(read_back(original), original.part.tolist(), strict=True)
    )

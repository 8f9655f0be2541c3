import gzip
import json
import logging

import polars as pl
import pytest

from genrec.config import ItemColumns
from genrec.data.catalog import Catalog
from genrec.data.new_items import IN_CATALOGUE, TWICE, read_new_items
from genrec.errors import DataError


@pytest.fixture
def catalog():
    return Catalog(
        pl.DataFrame(
            {
                "item_id": ["a", "b"],
                "title": ["Lamp", "Mug"],
                "text": ["Lamp, home", "Mug, kitchen"],
                "genres": ["home", "kitchen"],
                "year": [1999, 2001],
            }
        )
    )


def read(path, catalog, text_columns=("title", "genres"), **columns):
    return read_new_items(path, catalog, ItemColumns(**columns), text_columns=text_columns)


def test_new_items_look_like_those_of_the_catalogue(catalog, tmp_path):
    path = tmp_path / "new.csv"
    path.write_text("year,item_id,title,genres,price\n2003, c ,Chair &amp; Co,home|wood,9\n")
    new = read(path, catalog)
    assert new.table.schema == catalog.table.schema
    assert new.table.rows() == [
        ("c", "Chair & Co", "Chair & Co, home, wood", "home|wood", 2003),
    ]
    assert new.ids == ["c"]
    assert new.rows.to_list() == [2]
    assert new.refused.is_empty()
    assert pl.concat([catalog.table, new.table]).height == 3


@pytest.mark.parametrize("layout", ["csv", "tsv", "csv.gz", "jsonl", "parquet"])
def test_every_row_that_is_not_taken_is_named_with_its_number(catalog, tmp_path, layout):
    rows = [("c", "Chair"), ("b", "Mug again"), ("", "Nobody"), ("c", "Chair again"), ("d", "Door")]
    path = tmp_path / f"new.{layout}"
    table = pl.DataFrame(rows, schema=["item_id", "title"], orient="row")
    if layout == "parquet":
        table.write_parquet(path)
    elif layout == "jsonl":
        path.write_text("".join(json.dumps({"item_id": i, "title": t}) + "\n" for i, t in rows))
    else:
        text = table.write_csv(separator="\t" if layout == "tsv" else ",", quote_style="never")
        path.write_bytes(gzip.compress(text.encode()) if layout.endswith("gz") else text.encode())
    new = read(path, catalog)
    # Rows of a text file with a header are counted from 1 with the header.
    first = 1 if layout in ("jsonl", "parquet") else 2
    assert new.ids == ["c", "d"]
    assert new.rows.to_list() == [first, first + 4]
    assert new.refused.sort("row").rows() == [
        (str(path), first + 1, IN_CATALOGUE, "b"),
        (str(path), first + 2, "item_id is missing", ""),
        (str(path), first + 3, TWICE, "c"),
    ]


def test_rows_that_cannot_be_cut_into_fields_are_kept_apart(catalog, tmp_path):
    path = tmp_path / "new.csv"
    path.write_text("item_id,title\nc,Chair\nd,Door,wide\n")
    new = read(path, catalog)
    assert new.ids == ["c"]
    assert new.refused["row"].to_list() == [3]
    path = tmp_path / "new.jsonl"
    path.write_text('{"item_id": "c", "title": "Chair"}\nnot json\n')
    new = read(path, catalog)
    assert new.refused["reason"].to_list() == ["is not a JSON object"]


def test_items_refused_later_join_the_others(catalog, tmp_path):
    path = tmp_path / "new.csv"
    path.write_text("item_id,title\nc,Chair\nb,Mug\nd,Door\ne,Egg\n")
    new = read(path, catalog).refuse([0, 2], "full")
    assert new.ids == ["d"]
    assert new.rows.to_list() == [4]
    assert [row[1:] for row in new.refused.rows()] == [
        (3, IN_CATALOGUE, "b"), (2, "full", "c"), (5, "full", "e"),
    ]  # fmt: skip
    assert new.refuse([], "full").ids == new.ids


def test_some_items_are_taken_in_the_order_asked_for(catalog, tmp_path):
    path = tmp_path / "new.csv"
    path.write_text("item_id,title\nc,Chair\nb,Mug\nd,Door\ne,Egg\n")
    new = read(path, catalog)
    some = new.take([2, 0])
    assert some.ids == ["e", "c"]
    assert some.rows.to_list() == [5, 2]
    assert some.refused.equals(new.refused)
    assert new.take([]).ids == []


def test_the_text_is_made_of_the_columns_of_the_catalogue(catalog, tmp_path, caplog):
    path = tmp_path / "new.csv"
    path.write_text("item_id,title,genres,description\nc,Chair,home,Four legs\n")
    assert read(path, catalog).table["text"].to_list() == ["Chair, home"]
    assert read(path, catalog, text_columns=None).table["text"].to_list() == [
        "Chair, home, Four legs"
    ]
    assert read(path, catalog, text=["description"]).table["text"].to_list() == ["Four legs"]
    assert read(path, catalog, text_columns=()).table["text"].to_list() == [""]
    with caplog.at_level(logging.WARNING):
        read(path, catalog, text_columns=("title", "brand"))
    assert "has no column brand: the texts of its items say less" in caplog.text
    with pytest.raises(DataError, match=r"none of the columns .* made from \(brand, tags\)"):
        read(path, catalog, text_columns=("brand", "tags"))


def test_a_title_under_another_name_is_found(catalog, tmp_path):
    path = tmp_path / "new.csv"
    path.write_text("movieId,movie_title,genres\n7,Chair,home\n")
    new = read(path, catalog)
    assert new.table.rows() == [("7", "Chair", "Chair, home", "home", None)]


def test_columns_of_other_types_are_brought_into_line(catalog, tmp_path, caplog):
    path = tmp_path / "new.parquet"
    pl.DataFrame(
        {
            "item_id": [7, 8],
            "title": ["Chair", "Door"],
            "genres": [["home", "wood"], None],
            "year": ["1999", "soon"],
        }
    ).write_parquet(path)
    with caplog.at_level(logging.WARNING):
        new = read(path, catalog)
    assert new.ids == ["7", "8"]
    assert new.table["genres"].to_list() == ["home, wood", ""]
    assert new.table["year"].to_list() == [1999, None]
    assert "1 values of column year are not Int64" in caplog.text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("item_id,title\na,Lamp\nb,Mug\n", r"no new item: item_id is in the catalogue.*\(2 rows\)"),
        ("item_id,title\n,Lamp\n", r"no new item: item_id is missing \(1 rows\)"),
        ("item_id,title\n", "no rows below it"),
        ("name,title\nx,Lamp\n", "has no column 'item_id'"),
        ("", "is empty"),
    ],
)
def test_a_file_without_a_new_item_says_why(catalog, tmp_path, text, message):
    path = tmp_path / "new.csv"
    path.write_text(text)
    with pytest.raises(DataError, match=message):
        read(path, catalog)


def test_a_file_that_cannot_be_read_is_refused(catalog, tmp_path):
    with pytest.raises(DataError, match="does not exist"):
        read(tmp_path / "new.csv", catalog)
    (tmp_path / "new.xlsx").write_text("1::Lamp::home\n")
    with pytest.raises(DataError, match="expected Parquet"):
        read(tmp_path / "new.xlsx", catalog)
    pl.DataFrame({"item_id": [], "title": []}).write_parquet(tmp_path / "none.parquet")
    with pytest.raises(DataError, match="no new item: it has no rows"):
        read(tmp_path / "none.parquet", catalog)
    pl.DataFrame({"item_id": [[1]], "title": ["a"]}).write_parquet(tmp_path / "new.parquet")
    with pytest.raises(DataError, match="the item id column is of type"):
        read(tmp_path / "new.parquet", catalog)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("movies.dat", "c::Chair (2003)::home|wood\n"),
        ("u.item", "c|Chair (2003)|2003||url|" + "|".join("0" * 19) + "\n"),
        ("shop.item", "item_id:token\ttitle:token_seq\tgenres:token_seq\nc\tChair (2003)\thome\n"),
        ("meta_shop.jsonl", '{"parent_asin": "c", "title": "Chair (2003)"}\n'),
    ],
)
def test_item_files_of_every_layout_of_the_data_stage_are_read(catalog, tmp_path, name, text):
    path = tmp_path / name
    path.write_text(text)
    new = read(path, catalog)
    assert new.table["item_id"].to_list() == ["c"]
    assert new.table["title"].to_list() == ["Chair (2003)"]


def test_lists_in_lists_become_one_text(catalog, tmp_path):
    path = tmp_path / "new.parquet"
    genres = [[["home", "wood"], [], ["chairs", None]], None]
    pl.DataFrame(
        {"item_id": ["c", "d"], "title": ["Chair", "Door"], "genres": genres}
    ).write_parquet(path)
    new = read(path, catalog)
    assert new.table["text"].to_list() == ["Chair, home, wood, chairs", "Door"]


def test_lists_of_records_are_refused(catalog, tmp_path):
    path = tmp_path / "new.parquet"
    pl.DataFrame({"item_id": ["c"], "title": ["C"], "genres": [[{"a": 1}]]}).write_parquet(path)
    with pytest.raises(DataError, match="'genres' is of type List.Struct.*has no text"):
        read(path, catalog)

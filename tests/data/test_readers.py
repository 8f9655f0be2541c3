import gzip
import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from genrec.config import DataConfig
from genrec.data.detect import detect, open_source
from genrec.data.source import Source
from genrec.data.validate import CheckedEvents, check
from genrec.errors import DataError

EVENTS = [("u1", "007", 4.0, 100), ("u2", "010", 3.0, 90), ("u1", "010", 5.0, 200)]


def open_path(path: Path, **settings) -> Source:
    return open_source(DataConfig.model_validate({"path": str(path), **settings}))


def rows_of(checked: CheckedEvents) -> list[tuple[Any, ...]]:
    """Read the arrays back as outside ids, seconds and weights."""
    users, items = checked.user_ids.to_list(), checked.item_ids.to_list()
    scale = 1 if checked.time_unit == "position" else 1_000_000
    return [
        (users[u], items[i], float(w), int(t) // scale)
        for u, i, w, t in zip(checked.user, checked.item, checked.weight, checked.time, strict=True)
    ]


def read_rows(path: Path, **settings) -> list[tuple[Any, ...]]:
    return rows_of(check(open_path(path, **settings), 0.5))


def frame() -> pl.DataFrame:
    return pl.DataFrame(EVENTS, schema=["user_id", "item_id", "weight", "timestamp"], orient="row")


def write_lines(path: Path, records: list[dict[str, Any]]) -> Path:
    text = "".join(json.dumps(record) + "\n" for record in records)
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(text.encode()))
    else:
        path.write_text(text)
    return path


@pytest.mark.parametrize("suffix", ["parquet", "csv", "tsv", "jsonl", "csv.gz", "jsonl.gz"])
def test_all_table_kinds_give_the_same_events(tmp_path, suffix):
    path = tmp_path / f"interactions.{suffix}"
    if suffix == "parquet":
        frame().write_parquet(path)
    elif "jsonl" in suffix:
        write_lines(path, frame().to_dicts())
    else:
        text = frame().write_csv(separator="\t" if "tsv" in suffix else ",").encode()
        path.write_bytes(gzip.compress(text) if suffix.endswith("gz") else text)
    assert detect(path) == "table"
    assert read_rows(path) == EVENTS
    assert read_rows(tmp_path) == EVENTS


def test_parts_of_one_table_are_read_in_name_order(tmp_path):
    frame()[2:].write_parquet(tmp_path / "part-1.parquet")
    frame()[:2].write_parquet(tmp_path / "part-0.parquet")
    assert read_rows(tmp_path) == EVENTS


def test_columns_can_be_named_and_usual_names_are_found(tmp_path):
    path = tmp_path / "x.csv"
    path.write_text("when,who,what\n100,u1,007\n")
    named = {"user_id": "who", "item_id": "what", "timestamp": "when"}
    assert read_rows(path, columns=named) == [("u1", "007", 1.0, 100)]
    path.write_text("userId,movieId,rating,timestamp\nu1,007,4.0,100\n")
    source = open_path(path)
    assert rows_of(check(source, 0.5)) == EVENTS[:1]
    assert any("movieId" in note for note in source.notes)


def test_no_time_column_keeps_the_input_order(tmp_path):
    path = tmp_path / "x.csv"
    path.write_text("user_id,item_id\nb,1\na,2\nb,3\n")
    checked = check(open_path(path, columns={"timestamp": None}), 0.5)
    assert checked.time_unit == "position"
    assert checked.time.tolist() == [0, 1, 2]


def test_quoted_fields_may_hold_separators_and_line_breaks(tmp_path):
    path = tmp_path / "x.csv"
    path.write_text(
        'user_id,item_id,review,timestamp\n"u,1",a,"good, and\nshort",5\nu2,b,"say ""hi""",6\n'
    )
    assert read_rows(path) == [("u,1", "a", 1.0, 5), ("u2", "b", 1.0, 6)]


def test_movielens_double_colons_keep_leading_zeros_and_odd_titles(tmp_path):
    (tmp_path / "ratings.dat").write_text("u1::007::4::100\nu2::010::3::90\nu1::010::5::200\n")
    (tmp_path / "movies.dat").write_bytes(
        "007::Caf\xe9 &amp; Bar (1990)::Crime|Drama\n010::A::B (1991)::Comedy\n".encode("latin-1")
    )
    source = open_path(tmp_path)
    assert source.format == "movielens"
    assert rows_of(check(source, 0.5)) == EVENTS
    assert source.items is not None
    assert source.items.table.rows() == [
        ("007", "Caf\xe9 &amp; Bar (1990)", "Crime|Drama"),
        ("010", "A::B (1991)", "Comedy"),
    ]


def test_movielens_100k_tabs_and_genre_flags(tmp_path):
    (tmp_path / "u.data").write_text("u1\t007\t4\t100\nu2\t010\t3\t90\nu1\t010\t5\t200\n")
    flags = ["0"] * 19
    flags[1] = flags[18] = "1"  # Action and Western
    (tmp_path / "u.item").write_text("007|First (1995)|01-Jan-1995||url|" + "|".join(flags) + "\n")
    source = open_path(tmp_path)
    assert rows_of(check(source, 0.5)) == EVENTS
    assert source.items is not None
    assert source.items.table["genres"].to_list() == ["Action, Western"]


def amazon_old(user: str, item: str, weight: float, time: int) -> dict[str, Any]:
    return {"reviewerID": user, "asin": item, "overall": weight, "unixReviewTime": time,
            "reviewText": "fine, {really}"}  # fmt: skip


def test_amazon_2018_reviews_and_metadata(tmp_path):
    write_lines(tmp_path / "Video_Games.json.gz", [amazon_old(*event) for event in EVENTS])
    meta = {"asin": "007", "title": "T", "category": ["A", "B"], "also_buy": ["010"],
            "description": ["long", "text"]}  # fmt: skip
    write_lines(tmp_path / "meta_Video_Games.json.gz", [meta])
    source = open_path(tmp_path)
    assert source.format == "amazon"
    assert rows_of(check(source, 0.5)) == EVENTS
    assert source.items is not None
    assert source.items.table.to_dicts() == [
        {"item_id": "007", "title": "T", "category": "A, B", "description": "long, text"}
    ]


def test_amazon_2014_lines_are_python_literals_and_nothing_is_executed(tmp_path):
    lines = [repr(amazon_old(*event)) for event in EVENTS]
    lines.append(f"{{'reviewerID': open({str(tmp_path / 'made')!r}, 'w'), 'asin': 'x'}}")
    (tmp_path / "reviews_Toys.json").write_text("\n".join(lines) + "\n")
    (tmp_path / "meta_Toys.json").write_text(
        "{'asin': '007', 'title': \"It's\", 'categories': [['Toys', 'Games'], ['Toys']]}\n"
    )
    source = open_path(tmp_path)
    checked = check(source, 0.5)
    assert rows_of(checked) == EVENTS
    assert checked.quarantine.select("row", "reason").rows() == [(4, "is not a JSON object")]
    assert not (tmp_path / "made").exists()
    assert source.items is not None
    assert source.items.table["categories"].to_list() == ["Toys, Games, Toys"]
    assert source.items.table["title"].to_list() == ["It's"]


def test_amazon_2023_uses_the_parent_product_and_milliseconds(tmp_path):
    records = [
        {"user_id": user, "asin": "variant", "parent_asin": item, "rating": weight,
         "timestamp": 1_600_000_000_000 + time}
        for user, item, weight, time in EVENTS
    ]  # fmt: skip
    write_lines(tmp_path / "Toys.jsonl.gz", records)
    write_lines(tmp_path / "meta_Toys.jsonl.gz", [{"parent_asin": "007", "title": "T"}])
    source = open_path(tmp_path)
    checked = check(source, 0.5)
    assert source.format == "amazon"
    assert checked.time_unit == "milliseconds"
    assert checked.time.tolist() == [(1_600_000_000_000 + event[3]) * 1000 for event in EVENTS]
    assert rows_of(checked)[0][:3] == ("u1", "007", 4.0)
    assert source.items is not None
    assert source.items.table["item_id"].to_list() == ["007"]


@pytest.mark.parametrize("user_first", [True, False])
def test_amazon_rating_files_tell_users_from_products(tmp_path, user_first):
    rows = [("A2VNYWOPJ13AFP", "B000000001"), ("A1GI0U4ZRJA8WN", "B000000002")]
    lines = [
        f"{user},{item},5.0,1400000000" if user_first else f"{item},{user},5.0,1400000000"
        for user, item in rows
    ]
    path = tmp_path / "Toys.csv"
    path.write_text("\n".join(lines) + "\n")
    assert detect(path) == "amazon"
    assert [row[:2] for row in read_rows(path)] == rows


def test_recbole_atomic_files(tmp_path):
    (tmp_path / "toy.inter").write_text(
        "user_id:token\titem_id:token\trating:float\ttimestamp:float\n"
        "u1\t007\t4.0\t100\nu2\t010\t3.0\t90\nu1\t010\t5.0\t200\n"
    )
    (tmp_path / "toy.item").write_text(
        'item_id:token\tmovie_title:token_seq\tclass:token_seq\n007\tThe "Big One\tAction War\n'
    )
    source = open_path(tmp_path)
    assert source.format == "recbole"
    assert rows_of(check(source, 0.5)) == EVENTS
    assert source.items is not None
    assert source.items.title == "movie_title"
    assert source.items.table["movie_title"].to_list() == ['The "Big One']


def test_recbole_header_without_types_is_refused(tmp_path):
    (tmp_path / "toy.inter").write_text("user_id\titem_id\nu1\t007\n")
    with pytest.raises(DataError, match="NAME:TYPE"):
        open_path(tmp_path)


def test_sequences_take_the_position_as_time(tmp_path):
    table = pl.DataFrame({"user_id": [7, 8, 9], "item_ids": [[3, 1], [], [1, 2, None]]})
    table.write_parquet(tmp_path / "sequences.parquet")
    pl.DataFrame({"item_id": [1, 2, 3], "title": ["a", "b", "c"]}).write_parquet(
        tmp_path / "items.parquet"
    )
    source = open_path(tmp_path)
    checked = check(source, 0.5)
    assert source.format == "sequences"
    expected = [("7", "3", 1.0, 0), ("7", "1", 1.0, 1), ("9", "1", 1.0, 0), ("9", "2", 1.0, 1)]
    assert rows_of(checked) == expected
    assert checked.quarantine.select("row", "reason").rows() == [
        (2, "item_ids is empty"),
        (3, "item_id is missing"),
    ]


def test_other_files_in_the_folder_do_not_disturb(tmp_path):
    frame().write_csv(tmp_path / "ratings.csv")
    (tmp_path / "about.json").write_text('{\n  "name": "a set"\n}\n')
    (tmp_path / "README.txt").write_text("Read me, please\n")
    assert read_rows(tmp_path) == EVENTS


def test_unknown_format_content_names_what_was_found(tmp_path):
    (tmp_path / "notes.docx").write_text("x")
    with pytest.raises(DataError, match="notes.docx"):
        detect(tmp_path)
    with pytest.raises(DataError, match="does not exist"):
        open_path(tmp_path / "nothing.csv")
    with pytest.raises(DataError, match="data.path is not set"):
        open_source(DataConfig(format="table"))

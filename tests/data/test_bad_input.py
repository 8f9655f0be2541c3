import gzip
import io
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from genrec.config import DataConfig
from genrec.data.detect import open_source
from genrec.data.source import Source, one_block
from genrec.data.validate import CheckedEvents, check
from genrec.errors import DataError

HEADER = "user_id,item_id,timestamp,weight\n"


def check_file(path: Path, limit: float = 0.9, **settings) -> CheckedEvents:
    return check(open_source(DataConfig.model_validate({"path": str(path), **settings})), limit)


def check_csv(folder: Path, body: str | bytes, limit: float = 0.9) -> CheckedEvents:
    path = folder / "events.csv"
    path.write_bytes(body if isinstance(body, bytes) else body.encode())
    return check_file(path, limit)


def check_frame(limit: float = 0.9, **columns) -> CheckedEvents:
    table = pl.DataFrame(columns)
    return check(Source("table", "memory", lambda: one_block("memory", table)), limit)


def reasons(checked: CheckedEvents) -> list[tuple[int, str]]:
    return checked.quarantine.select("row", "reason").rows()


def test_every_bad_row_is_quarantined_with_its_line_and_reason(tmp_path):
    body = HEADER + "\n".join(
        [
            "u1,i1,100,5",
            "u1,i2,100",  # line 3
            "u1,i3,100,5,extra",  # line 4
            ",i4,100,5",  # line 5
            "u1,NaN,100,5",  # line 6
            "u1,i6,yesterday,5",  # line 7
            "u1,i7,,5",  # line 8
            "u1,i8,100,good",  # line 9
            "",  # line 10: empty, no event
            "u1,i9,-5,5",  # line 11
            "u1,i10,100,",  # line 12
            "u2,i11,101,4",
        ]
    )
    checked = check_csv(tmp_path, body)
    assert checked.rows_read == 11
    assert checked.empty_lines == 1
    assert len(checked.user) == 2
    assert sorted(reasons(checked)) == [
        (3, "has 3 fields, expected 4"),
        (4, "has 5 fields, expected 4"),
        (5, "user_id is missing"),
        (6, "item_id is a word for nothing (nan, null, none)"),
        (7, "timestamp is neither a number nor an ISO date"),
        (8, "timestamp is missing"),
        (9, "weight is not a number"),
        (11, "timestamp is before 1970"),
        (12, "weight is missing"),
    ]
    assert set(checked.quarantine["file"]) == {str(tmp_path / "events.csv")}
    text = dict(checked.quarantine.select("row", "text").rows())
    assert text[3] == "u1,i2,100"
    assert text[7] == "u1 | i6 | yesterday | 5"


def test_row_numbers_hold_across_blocks(tmp_path, monkeypatch):
    monkeypatch.setattr("genrec.data.text_blocks._BLOCK_BYTES", 1 << 12)
    bad = {50, 51, 700, 1999}
    lines = ["u1" if n in bad else f"u{n % 7},i{n % 11},{n},1" for n in range(2000)]
    checked = check_csv(tmp_path, HEADER + "\n".join(lines) + "\n")
    assert {row for row, _ in reasons(checked)} == {n + 2 for n in bad}
    kept = [n for n in range(2000) if n not in bad]
    assert (checked.time // 1_000_000).tolist() == kept
    assert [checked.user_ids[int(u)] for u in checked.user] == [f"u{n % 7}" for n in kept]


def test_double_colon_and_json_rows_that_do_not_fit(tmp_path):
    path = tmp_path / "ratings.dat"
    path.write_text("u1::a::5::10\nu1::b::5\n\nu1::c::5::12::9\nu2::d::5::13\n")
    assert reasons(check_file(path)) == [
        (2, "has 3 fields, expected 4"),
        (4, "has 5 fields, expected 4"),
    ]
    path = tmp_path / "events.jsonl"
    path.write_text(
        '{"user_id": "u", "item_id": 1, "timestamp": 5}\n{"user_id": \n\n[1, 2]\n'
        '{"other": 1}\n{"user_id": null, "item_id": 2, "timestamp": 6}\n'
    )
    checked = check_file(path)
    assert sorted(reasons(checked)) == [
        (2, "is not a JSON object"),
        (4, "is not a JSON object"),
        (5, "user_id is missing"),
        (6, "user_id is missing"),
    ]
    assert len(checked.user) == 1


def test_too_many_bad_rows_stop_with_the_top_reasons(tmp_path):
    body = HEADER + "u1,i1,5,1\n,i2,5,1\n,i3,5,1\n"
    assert len(check_csv(tmp_path, body, limit=0.7).user) == 1
    with pytest.raises(DataError, match=r"2 of 3 rows \(67%\).*user_id is missing \(2 rows\)"):
        check_csv(tmp_path, body, limit=0.5)
    with pytest.raises(DataError, match="1 of 1 rows"):
        check_csv(tmp_path, HEADER + ",i1,5,1\n", limit=1.0)


def test_byte_order_mark_and_windows_line_ends_are_no_part_of_the_data(tmp_path):
    checked = check_csv(tmp_path, b"\xef\xbb\xbf" + HEADER.encode() + b"u1,i1,5,1\r\nu2,i2,6,2\r\n")
    assert checked.user_ids.to_list() == ["u1", "u2"]
    assert checked.weight.tolist() == [1.0, 2.0]
    path = tmp_path / "ratings.dat"
    path.write_bytes(b"\xef\xbb\xbfu1::a::5::10\r\n")
    assert check_file(path).user_ids.to_list() == ["u1"]


def test_bytes_that_are_not_utf8_lose_only_their_row(tmp_path):
    checked = check_csv(tmp_path, HEADER.encode() + b"u\xe9,i1,5,1\nu2,i2,6,2\n")
    assert reasons(checked) == [(2, "user_id is not UTF-8 text")]
    assert checked.user_ids.to_list() == ["u2"]


@pytest.mark.parametrize(
    ("written", "unit"),
    [
        ([1_400_000_000, 1_400_000_001], "seconds"),
        ([1_400_000_000_000, 1_400_000_001_000], "milliseconds"),
        ([1_400_000_000_000_000, 1_400_000_001_000_000], "microseconds"),
        ([1_400_000_000_000_000_000, 1_400_000_001_000_000_000], "nanoseconds"),
        ([1_400_000_000.0, 1_400_000_001.0], "seconds"),
        (["1400000000", "1.400000001e9"], "seconds"),
        (["1400000000000", " 1400000001000 "], "milliseconds"),
        (["2014-05-13T16:53:20Z", "2014-05-13 16:53:21"], "dates"),
        (["2014-05-13T18:53:20+02:00", "2014-05-13 16:53:21.000"], "dates"),
    ],
)
def test_times_in_every_form_mean_the_same_instants(written, unit):
    checked = check_frame(user_id=["a", "b"], item_id=["x", "y"], timestamp=written)
    assert checked.time_unit == unit
    assert checked.time.tolist() == [1_400_000_000_000_000, 1_400_000_001_000_000]


def test_datetimes_of_parquet_and_days():
    zone = (
        pl.Series(["2014-05-13 18:53:20"]).str.to_datetime().dt.replace_time_zone("Europe/Berlin")
    )
    checked = check_frame(user_id=["a"], item_id=["x"], timestamp=zone)
    assert checked.time.tolist() == [1_400_000_000_000_000]
    checked = check_frame(
        user_id=["a", "b"], item_id=["x", "y"], timestamp=["1970-01-02", "1970/01/03"]
    )
    assert checked.time.tolist() == [86_400_000_000, 172_800_000_000]


def test_impossible_times_are_set_aside_and_do_not_change_the_unit():
    times = [1_400_000_000] * 5 + [1_400_000_000_000, -1]
    checked = check_frame(user_id=["a"] * 7, item_id=["x"] * 7, timestamp=times)
    assert checked.time_unit == "seconds"
    assert reasons(checked) == [
        (6, "timestamp is after the year 2100"),
        (7, "timestamp is before 1970"),
    ]
    assert len(checked.time) == 5


def test_missing_and_wrong_numbers_in_parquet_columns():
    checked = check_frame(
        user_id=[1.0, float("nan"), None, 1.5, 4.0],
        item_id=pl.Series(["x", "x", "x", "x", ""], dtype=pl.Categorical),
        timestamp=[1.0, 2.0, 3.0, 4.0, 5.0],
    )
    assert checked.user_ids.to_list() == ["1"]
    assert reasons(checked) == [
        (2, "user_id is missing"),
        (3, "user_id is missing"),
        (4, "user_id is not a whole number"),
        (5, "item_id is missing"),
    ]
    weights = [1.0, float("nan"), float("inf"), None]
    checked = check_frame(user_id=[1] * 4, item_id=[1] * 4, timestamp=[1] * 4, weight=weights)
    assert [row for row, _ in reasons(checked)] == [2, 3, 4]


def test_column_types_that_cannot_hold_ids_or_times_are_named():
    with pytest.raises(DataError, match=r"user_id.*List"):
        check_frame(user_id=[[1]], item_id=[1], timestamp=[1])
    with pytest.raises(DataError, match=r"timestamp.*Boolean"):
        check_frame(user_id=[1], item_id=[1], timestamp=[True])


def test_absent_columns_name_what_is_there_and_the_way_out(tmp_path):
    with pytest.raises(DataError) as caught:
        check_csv(tmp_path, "costumer,item_id,timestamp\nu,i,5\n")
    assert "'costumer', 'item_id', 'timestamp'" in str(caught.value)
    assert "--set data.columns.user_id=" in str(caught.value)
    with pytest.raises(DataError) as caught:
        check_csv(tmp_path, "customer,sku,bought_at\nu,i,5\n")
    for role in ("user_id", "item_id", "timestamp"):
        assert f"no column '{role}'" in str(caught.value)
        assert f"--set data.columns.{role}=" in str(caught.value)
    with pytest.raises(DataError, match="--set data.columns.timestamp=null"):
        check_csv(tmp_path, "user_id,item_id\nu,i\n")
    with pytest.raises(DataError, match="Only one column was found.*data.separator"):
        check_csv(tmp_path, "user_id#item_id#timestamp\nu#i#5\n")
    with pytest.raises(DataError, match="needs a header line"):
        check_csv(tmp_path, "1,2,3,4\n5,6,7,8\n")
    with pytest.raises(DataError, match="more than once"):
        check_csv(tmp_path, "user_id,user_id,item_id,timestamp\nu,u,i,5\n")


def test_nearest_column_is_offered(tmp_path):
    path = tmp_path / "events.csv"
    path.write_text("customer,item_id,timestamp\nu,i,5\n")
    with pytest.raises(DataError, match="nearest name is 'customer'"):
        check_file(path, columns={"user_id": "costumer"})


def test_empty_files_and_files_without_rows(tmp_path):
    for body, message in [("", "is empty"), ("\n \n", "white space"), (HEADER, "no rows")]:
        with pytest.raises(DataError, match=message):
            check_csv(tmp_path, body)
    path = tmp_path / "x.parquet"
    pl.DataFrame(schema={"user_id": pl.String, "item_id": pl.String, "timestamp": pl.Int64}
                 ).write_parquet(path)  # fmt: skip
    with pytest.raises(DataError, match="no rows"):
        check_file(path)


DAMAGED = {
    "a.parquet": {
        "cut off": lambda csv, parquet: parquet[:-2000],
        "footer overwritten": lambda csv, parquet: parquet[:-300] + b"\xff" * 290 + parquet[-10:],
        "csv inside": lambda csv, parquet: csv,
    },
    "a.csv": {
        "parquet inside": lambda csv, parquet: parquet,
        "utf-16": lambda csv, parquet: csv.decode().encode("utf-16"),
        "zip": lambda csv, parquet: b"PK\x03\x04" + csv,
    },
    "a.csv.gz": {
        "cut off": lambda csv, parquet: gzip.compress(csv)[:-2000],
        "bytes overwritten": lambda csv, parquet: gzip.compress(csv)[:900] + b"\0" * 5000,
        "not zipped": lambda csv, parquet: csv,
    },
    "a.xlsx": {"spreadsheet": lambda csv, parquet: b"anything"},
    "a.json": {"array": lambda csv, parquet: b'[\n{"user_id": 1}\n]'},
}


@pytest.mark.parametrize(
    ("name", "kind"), [(name, kind) for name, kinds in DAMAGED.items() for kind in kinds]
)
def test_damaged_and_wrongly_named_files_are_data_errors_that_name_the_file(tmp_path, name, kind):
    times = np.random.default_rng(0).integers(1, 10**9, 20_000)
    users, items = np.arange(20_000) % 97, np.arange(20_000) % 89
    frame = pl.DataFrame({"user_id": users, "item_id": items, "timestamp": times})
    whole = io.BytesIO()
    frame.write_parquet(whole)
    path = tmp_path / name
    path.write_bytes(DAMAGED[name][kind](frame.write_csv().encode(), whole.getvalue()))
    with pytest.raises(DataError) as caught:
        check_file(path)
    assert str(path) in str(caught.value)


def test_unclosed_quote_is_reported_and_not_swallowed(tmp_path):
    checked = check_csv(tmp_path, HEADER + 'u1,i1,5,1\n"u2,i2,6,1\nu3,i3,7,1\n')
    assert len(checked.user) == 1
    assert [row for row, _ in reasons(checked)] == [3]
    assert "never closed" in checked.quarantine["reason"][0]


def test_a_quote_that_swallows_many_lines_stops_the_reading(tmp_path):
    lines = "".join(f"u{n},i{n},{n},1\n" for n in range(400))
    with pytest.raises(DataError, match="row 2 a quoted value runs over 400 lines"):
        check_csv(tmp_path, HEADER + '"' + lines + 'u",i,5,1\n' + lines)
    with pytest.raises(DataError, match="row 402 a quoted value runs over 399 lines"):
        check_csv(tmp_path, HEADER + lines + '"' + lines.rstrip())


def test_random_damage_never_gives_anything_but_a_data_error(tmp_path):
    rng = np.random.default_rng(5)
    clean = (HEADER + "".join(f"u{n % 9},i{n % 13},{1000 + n},3\n" for n in range(300))).encode()
    for trial in range(60):
        data = bytearray(clean)
        for place in rng.integers(0, len(data), 20):
            data[place] = rng.integers(0, 256)
        start, end = sorted(rng.integers(0, len(data), 2))
        body = bytes(data[:start] + data[end:]) if trial % 2 else bytes(data)
        try:
            checked = check_csv(tmp_path, body, limit=0.9)
        except DataError:
            continue
        assert len(checked.user) + checked.quarantine.height == checked.rows_read

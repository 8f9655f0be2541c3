import json
import pickle

import numpy as np
import polars as pl
import pytest
from safetensors.numpy import load_file, save_file

from genrec.errors import DataError
from genrec.semantic_ids.item_index import ItemIndex
from genrec.tokenization.exchange import export_index, import_index

IDS = ["b7", "a1", "ü,3", "10"]
CODES = np.array([[3, 0, 12], [0, 5, 1], [3, 0, 12], [2, 2, 0]], dtype=np.int32)
FILES = {"lcrec": "index.json", "pid2sid": "sids.parquet", "grid": "codes.npy"}


@pytest.fixture
def index():
    return ItemIndex(CODES, (4, 6, 13), {}, shared=True)


@pytest.mark.parametrize(
    ("format", "name"), [*FILES.items(), ("grid", "codes.safetensors"), ("lcrec", "new/x.json")]
)
def test_what_is_written_is_read_again(index, tmp_path, format, name):
    path = export_index(index, IDS, tmp_path / name, format)
    assert [file.name for file in path.parent.iterdir()] == [path.name]
    found = import_index(path, format, IDS)
    proposal = found.complete()
    np.testing.assert_array_equal(proposal.codes, CODES)
    assert proposal.codes.dtype == np.int32
    assert proposal.level_sizes == (4, 6, 13)
    assert proposal.quantizer is None
    assert proposal.facts == {"method": "imported", "format": format, "file": path.name}
    assert found.rows.tolist() == [0, 1, 2, 3]
    assert found.missing == found.extra == ()


def test_an_lcrec_file_is_what_lc_rec_writes(index, tmp_path):
    by_id = json.loads(export_index(index, IDS, tmp_path / "a.json", "lcrec").read_text())
    assert by_id["a1"] == ["<a_0>", "<b_5>", "<c_1>"]
    assert list(by_id) == IDS
    path = export_index(index, IDS, tmp_path / "b.json", "lcrec", keyed_by="row")
    by_row = json.loads(path.read_text())
    assert by_row == {str(row): by_id[item_id] for row, item_id in enumerate(IDS)}
    found = import_index(path, "lcrec", IDS, keyed_by="row")
    np.testing.assert_array_equal(found.complete().codes, CODES)


def test_a_pid2sid_file_has_ids_and_lists(index, tmp_path):
    table = pl.read_parquet(export_index(index, IDS, tmp_path / "a.parquet", "pid2sid"))
    assert table["item_id"].to_list() == IDS
    assert table["sid"].to_list() == CODES.tolist()
    assert table["sid"].dtype == pl.List(pl.Int32)


def test_a_grid_file_has_levels_down_and_items_across(index, tmp_path):
    array = np.load(export_index(index, IDS, tmp_path / "a.npy", "grid"))
    np.testing.assert_array_equal(array, CODES.T)
    path = export_index(index, IDS, tmp_path / "a.safetensors", "grid")
    np.testing.assert_array_equal(load_file(path)["codes"], CODES.T)


@pytest.mark.parametrize("turned", [False, True])
def test_a_grid_file_may_lie_either_way(tmp_path, turned):
    np.save(tmp_path / "a.npy", CODES if turned else CODES.T)
    save_file(
        {"any_name": np.ascontiguousarray(CODES if turned else CODES.T, dtype=np.int16)},
        tmp_path / "a.safetensors",
    )
    for name in ("a.npy", "a.safetensors"):
        found = import_index(tmp_path / name, "grid", IDS)
        np.testing.assert_array_equal(found.complete().codes, CODES)


def test_whole_numbers_are_read_as_ids(tmp_path):
    pl.DataFrame({"item_id": [7, 5], "sid": [[0, 1], [2, 3]]}).write_parquet(tmp_path / "a.parquet")
    found = import_index(tmp_path / "a.parquet", "pid2sid", ["5", "7"])
    assert found.complete().codes.tolist() == [[2, 3], [0, 1]]


def test_items_that_are_missing_or_extra_are_named(index, tmp_path):
    path = export_index(index, IDS, tmp_path / "a.json", "lcrec")
    found = import_index(path, "lcrec", ["new", "10", "b7", "newer"])
    assert found.rows.tolist() == [1, 2]
    np.testing.assert_array_equal(found.proposal.codes, CODES[[3, 0]])
    # Level sizes are those of the whole file: the model of it has all these codes.
    assert found.proposal.level_sizes == (4, 6, 13)
    assert found.missing == ("new", "newer")
    assert found.extra == ("a1", "ü,3")
    with pytest.raises(DataError, match="2 of 4 items of the catalogue have no codes.*'new', 'new"):
        found.complete()


def test_level_sizes_may_be_given(index, tmp_path):
    path = export_index(index, IDS, tmp_path / "a.json", "lcrec")
    found = import_index(path, "lcrec", IDS, level_sizes=[256, 256, 13])
    assert found.proposal.level_sizes == (256, 256, 13)
    for sizes in ([256, 256, 12], [256, 256]):
        with pytest.raises(DataError, match=r"codes up to \[3, 5, 12\]"):
            import_index(path, "lcrec", IDS, level_sizes=sizes)


@pytest.mark.parametrize("format", FILES)
def test_the_file_of_another_catalogue_is_refused(index, tmp_path, format):
    path = export_index(index, IDS, tmp_path / FILES[format], format)
    with pytest.raises(DataError, match="is of another catalogue"):
        import_index(path, format, ["x", "y"])


def test_rows_taken_for_ids_and_ids_taken_for_rows_are_pointed_out(index, tmp_path):
    path = export_index(index, IDS, tmp_path / "a.json", "lcrec", keyed_by="row")
    with pytest.raises(DataError, match="none of its 4 items, as '0', '1'.*keyed_by='row'"):
        import_index(path, "lcrec", IDS)
    path = export_index(index, IDS, tmp_path / "b.json", "lcrec")
    with pytest.raises(DataError, match="keyed_by='item_id'"):
        import_index(path, "lcrec", IDS, keyed_by="row")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is not JSON"),
        ('{"a": ["<a_1>"', "is not JSON"),
        ("[" * 100_000, "is not JSON"),
        ('[["<a_1>"]]', "holds a JSON list"),
        ('"a"', "holds a JSON str"),
        ("{}", "holds no item"),
        ('{"a": "<a_1><b_2>"}', "item 'a' has '<a_1><b_2>', expected a list of texts"),
        ('{"a": [1, 2]}', "item 'a' has .*expected a list of texts"),
        ('{"a": {"b": ["<a_1>"]}}', "item 'a' has .*expected a list of texts"),
        ('{"a": null}', "item 'a' has 'None', expected a list of texts"),
        ('{"a": []}', "item 'a' has no codes"),
        ('{"a": ["<a_1>"], "b": ["<a_1>", "<b_2>"]}', "'a' has 1 codes and item 'b' 2"),
        ('{"a": ["<a_1>"], "b": ["<a_2>"], "a": ["<a_3>"]}', "1 items more than once, as 'a'"),
        ('{"a": ["<a_1>", "<b_2>"], "b": ["<a_1>", "<c_2>"]}', "'b' has '<c_2>' at level 1, exp"),
        ('{"a": ["<b_1>", "<a_2>"]}', "2 codes cannot be read. Item 'a' has '<b_1>' at level 0"),
        ('{"a": ["a_1"]}', "has 'a_1' at level 0, expected <a_NUMBER>"),
        ('{"a": ["<a_-1>"]}', "has '<a_-1>' at level 0"),
        ('{"a": ["<a_1> "]}', "has '<a_1> ' at level 0"),
        ('{"a": ["<a_99999999999>"]}', "has '<a_99999999999>' at level 0"),
        ('{"a": ["<a_4294967296>"]}', "has '<a_4294967296>' at level 0"),
        (json.dumps({"a": ["<a_0>"] * 27}), "27 codes an item"),
        (json.dumps({"a": ["\ud800"]}), "half a character .*ud800"),
        (
            '{"a": ["<a_2>"], "b": ["<a_65536>"]}',
            "item 'b' has code 65536 at level 0; with 2 items",
        ),
    ],
)
def test_a_bad_lcrec_file_is_refused(tmp_path, text, message):
    path = tmp_path / "index.json"
    path.write_text(text)
    with pytest.raises(DataError, match=message):
        import_index(path, "lcrec", ["a", "b"])


def test_an_lcrec_file_in_another_encoding_is_refused(tmp_path):
    path = tmp_path / "index.json"
    path.write_bytes('{"ü": ["<a_1>"]}'.encode("latin-1"))
    with pytest.raises(DataError, match="in UTF-8"):
        import_index(path, "lcrec", ["ü"])
    path.write_bytes('{"ü": ["<a_1>"]}'.encode("utf-8-sig"))
    assert import_index(path, "lcrec", ["ü"]).complete().codes.tolist() == [[1]]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"pid": ["a"], "sid": [[1]]}, "has the columns pid, sid; expected item_id and sid"),
        ({"item_id": ["a"], "sid": ["<a_1>"]}, "column 'sid' is String"),
        ({"item_id": ["a"], "sid": [[0.5]]}, r"column 'sid' is List\(Float64\)"),
        ({"item_id": ["a"], "sid": [[1, -1]]}, "Item 'a' has -1 at level 1"),
        ({"item_id": ["a"], "sid": [[1, None]]}, "Item 'a' has -1 at level 1"),
        ({"item_id": ["a"], "sid": [[2**31]]}, "Item 'a' has 2147483648 at level 0"),
        ({"item_id": ["a", "b"], "sid": [[1], [1, 2]]}, "'a' has 1 codes and item 'b' 2"),
        ({"item_id": ["a", "b"], "sid": [[1], None]}, "'a' has 1 codes and item 'b' 0"),
        ({"item_id": ["a", "a"], "sid": [[1], [2]]}, "1 items more than once, as 'a'"),
        ({"item_id": ["a", None], "sid": [[1], [2]]}, "row 2 cannot be used: item_id is missing"),
        ({"item_id": [[1]], "sid": [[1]]}, "column item_id is of type"),
    ],
)
def test_a_bad_pid2sid_file_is_refused(tmp_path, columns, message):
    pl.DataFrame(columns).write_parquet(tmp_path / "a.parquet")
    with pytest.raises(DataError, match=message):
        import_index(tmp_path / "a.parquet", "pid2sid", ["a", "b"])


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (CODES.astype(np.float32), "holds float32 of shape"),
        (CODES[0], "expected a table of whole numbers"),
        (CODES - 1, "Item 'row 0' has -1 at level 1"),
        (np.zeros((0, 4), dtype=np.int64), "has no codes"),
        (CODES[:2], r"its shape is \(2, 3\), and this one has 4 items"),
    ],
)
def test_a_bad_grid_file_is_refused(tmp_path, array, message):
    np.save(tmp_path / "a.npy", array)
    save_file({"codes": np.ascontiguousarray(array)}, tmp_path / "a.safetensors")
    for name in ("a.npy", "a.safetensors"):
        with pytest.raises(DataError, match=message):
            import_index(tmp_path / name, "grid", IDS)


def test_pickles_are_never_read(tmp_path):
    np.save(tmp_path / "a.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    (tmp_path / "b.npy").write_bytes(pickle.dumps(CODES))
    (tmp_path / "c.safetensors").write_bytes(pickle.dumps(CODES))
    (tmp_path / "d.pt").write_bytes(pickle.dumps(CODES))
    np.savez(tmp_path / "e.npz", a=CODES)
    (tmp_path / "e.npz").rename(tmp_path / "e.npy")
    save_file({"a": CODES, "b": CODES}, tmp_path / "f.safetensors")
    for name, message in {
        "a.npy": "cannot be read",
        "b.npy": "cannot be read",
        "c.safetensors": "is not a safetensors file",
        "d.pt": "A .pt or .pkl file can run code",
        "e.npy": "holds several arrays",
        "f.safetensors": "holds the arrays a, b",
    }.items():
        with pytest.raises(DataError, match=message):
            import_index(tmp_path / name, "grid", IDS)


@pytest.mark.parametrize("format", FILES)
def test_a_file_that_is_not_there_or_not_of_its_kind_is_refused(tmp_path, format):
    path = tmp_path / FILES[format]
    with pytest.raises(DataError, match="is not a file"):
        import_index(path, format, IDS)
    path.write_bytes(b"\x00\x01 nothing")
    with pytest.raises(DataError):
        import_index(path, format, IDS)


def test_what_cannot_be_written_leaves_the_old_file(index, tmp_path):
    path = tmp_path / "codes.pt"
    path.write_text("old")
    with pytest.raises(DataError, match=".safetensors or .npy, not in '.pt'"):
        export_index(index, IDS, path, "grid")
    path = path.rename(tmp_path / "codes.json")
    with pytest.raises(DataError, match="3 item ids for 4 rows"):
        export_index(index, IDS[:3], path, "lcrec")
    wide = ItemIndex(np.zeros((1, 27), dtype=np.int32), (1,) * 27, {})
    with pytest.raises(DataError, match="letters for 26"):
        export_index(wide, ["a"], path, "lcrec")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("format", ["lcrec", "pid2sid"])
def test_codes_keyed_by_row_come_back_by_row(tmp_path, caplog, format):
    """With ids that are numbers too, names are told apart by what the caller says alone."""
    index = ItemIndex(np.array([[0, 1], [1, 0], [2, 2]], np.int32), (3, 3), {})
    ids = ["2", "0", "1"]
    path = export_index(index, ids, tmp_path / FILES[format], format, keyed_by="row")
    found = import_index(path, format, ids, keyed_by="row")
    np.testing.assert_array_equal(found.complete().codes, index.codes)
    caplog.clear()
    assert import_index(path, format, ids).complete().codes.tolist() != index.codes.tolist()
    assert "its names are taken for item ids, but each is also a row" in caplog.text
    caplog.clear()
    import_index(path, format, ["0", "1", "2"])
    assert not caplog.text


def test_a_suffix_of_another_format_is_refused(index, tmp_path):
    path = export_index(index, IDS, tmp_path / "codes.parquet", "pid2sid")
    with pytest.raises(DataError, match="say --format pid2sid"):
        import_index(path, "lcrec", IDS)
    with pytest.raises(DataError, match=r"lcrec file ends in \.json"):
        export_index(index, IDS, tmp_path / "codes.npy", "lcrec")


def test_an_export_that_cannot_be_written_leaves_nothing_behind(index, tmp_path):
    (tmp_path / "a.json").mkdir()
    with pytest.raises(DataError, match="is a folder"):
        export_index(index, IDS, tmp_path / "a.json", "lcrec")
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]

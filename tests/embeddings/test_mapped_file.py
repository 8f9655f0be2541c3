import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from genrec.embeddings import mapped_file
from genrec.errors import DataError


@pytest.mark.parametrize("shape", [(7, 3), (1, 1), (0, 4), (5, 0)])
def test_what_is_written_is_what_the_library_reads(tmp_path, monkeypatch, shape):
    monkeypatch.setattr(mapped_file, "BLOCK_BYTES", 40)
    table = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    path = tmp_path / "deep" / "a.safetensors"
    mapped_file.write(path, "vectors", table)
    np.testing.assert_array_equal(load_file(path)["vectors"], table)
    np.testing.assert_array_equal(mapped_file.mapped(path, "vectors"), table)


def test_what_the_library_writes_is_mapped(tmp_path):
    path = tmp_path / "a.safetensors"
    arrays = {
        "one": np.arange(6, dtype=np.int64).reshape(2, 3),
        "two": np.linspace(0, 1, 8, dtype=np.float16).reshape(4, 2),
    }
    save_file(arrays, path)
    for name, array in arrays.items():
        found = mapped_file.mapped(path, name)
        assert isinstance(found, np.memmap)
        np.testing.assert_array_equal(found, array)


def test_the_blocks_cover_every_row_once(monkeypatch):
    monkeypatch.setattr(mapped_file, "BLOCK_BYTES", 24)
    table = np.zeros((10, 2), dtype=np.float32)
    rows = np.concatenate([np.arange(10)[block] for block in mapped_file.row_blocks(table)])
    assert rows.tolist() == list(range(10))
    assert len(mapped_file.row_blocks(table)) == 4


def test_files_that_hold_something_else_are_refused(tmp_path):
    path = tmp_path / "a.safetensors"
    path.write_bytes(b"\xff" * 100)
    with pytest.raises(DataError, match="is not a safetensors file"):
        mapped_file.mapped(path, "vectors")
    save_file({"other": np.zeros((2, 2), dtype=np.float32)}, path)
    with pytest.raises(DataError, match="holds other, expected 'vectors'"):
        mapped_file.mapped(path, "vectors")
    # A length that reaches beyond the end of the file.
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(DataError, match="is not a safetensors file"):
        mapped_file.mapped(path, "other")


def test_a_table_that_was_made_in_a_file_is_not_written_twice(tmp_path):
    table = mapped_file.create(tmp_path / "made.safetensors", "vectors", (3, 2))
    table[:] = [[1, 2], [3, 4], [5, 6]]
    mapped_file.write(tmp_path / "kept.safetensors", "vectors", table)
    assert (tmp_path / "kept.safetensors").stat().st_nlink == 2
    # Made anew, the first file leaves the one that was kept alone.
    mapped_file.create(tmp_path / "made.safetensors", "vectors", (3, 2))
    found = load_file(tmp_path / "kept.safetensors")["vectors"]
    assert found.tolist() == [[1, 2], [3, 4], [5, 6]]
    assert load_file(tmp_path / "made.safetensors")["vectors"].tolist() == [[0, 0]] * 3


def test_what_is_changed_after_reading_stays_in_memory(tmp_path):
    path = tmp_path / "a.safetensors"
    mapped_file.write(path, "vectors", np.ones((2, 2), dtype=np.float32))
    opened = mapped_file.mapped(path, "vectors")
    opened[0] = 7
    mapped_file.write(tmp_path / "b.safetensors", "vectors", opened)
    assert load_file(path)["vectors"].tolist() == [[1, 1], [1, 1]]
    assert load_file(tmp_path / "b.safetensors")["vectors"].tolist() == [[7, 7], [1, 1]]

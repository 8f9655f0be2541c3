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

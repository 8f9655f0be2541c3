import json
import os
import re

import numpy as np
import polars as pl
import pytest
from safetensors.numpy import save_file

from genrec.embeddings.image_vectors_file import read_vectors
from genrec.errors import DataError

VECTORS = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)


def write(path, ids=("0", "1", "2", "3"), vectors=VECTORS):
    if path.suffix == ".npy":
        np.save(path, vectors)
    elif path.suffix == ".parquet":
        pl.DataFrame({"item_id": list(ids), "vector": vectors.tolist()}).write_parquet(path)
    else:
        save_file({"vectors": vectors}, path, {"item_ids": json.dumps(list(ids))})
    return path


@pytest.mark.parametrize("name", ["v.npy", "v.parquet", "v.safetensors"])
def test_items_get_their_vectors_by_id(tmp_path, name):
    table, there = read_vectors(write(tmp_path / name), ["2", "9", "0"])
    np.testing.assert_array_equal(table, [VECTORS[2], [0, 0, 0], VECTORS[0]])
    assert there.tolist() == [True, False, True]


def test_half_precision_is_read_and_a_zero_row_is_no_image(tmp_path):
    vectors = VECTORS.astype(np.float16)
    vectors[0] = 0
    table, there = read_vectors(write(tmp_path / "v.npy", vectors=vectors), ["0", "1"])
    assert table.dtype == np.float32
    assert there.tolist() == [False, True]


def test_files_that_do_not_fit_are_refused(tmp_path):
    def read(path, ids=("0",)):
        return read_vectors(path, list(ids))

    with pytest.raises(DataError, match="not there or not one of"):
        read(tmp_path / "v.npy")
    with pytest.raises(DataError, match=r"none of the catalogue \(such as \['x'\]\)"):
        read(write(tmp_path / "v.npy"), ["x"])
    with pytest.raises(DataError, match="each item needs one"):
        read(write(tmp_path / "v.parquet", ["0", "1", "1", "2"]))
    with pytest.raises(DataError, match="no item_ids in its metadata"):
        save_file({"vectors": VECTORS}, tmp_path / "bare.safetensors")
        read(tmp_path / "bare.safetensors")
    with pytest.raises(DataError, match="of shape"):
        read(write(tmp_path / "flat.npy", vectors=VECTORS[0]))
    with pytest.raises(DataError, match="int64 of shape"):
        np.save(tmp_path / "whole.npy", np.ones((2, 2), dtype=np.int64))
        read(tmp_path / "whole.npy")
    broken = VECTORS.copy()
    broken[1, 2] = np.nan
    with pytest.raises(DataError, match="infinite values for 1 items, first '1'"):
        read(write(tmp_path / "nan.npy", vectors=broken), ["0", "1"])


class Trap:
    """Makes a folder when it is unpickled."""

    def __init__(self, folder):
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (str(self.folder),)


def test_pickles_and_rubbish_are_not_read(tmp_path):
    sprung = tmp_path.parent / f"{tmp_path.name} sprung"
    trap = np.asarray([Trap(sprung)], dtype=object)
    np.save(tmp_path / "objects.npy", trap, allow_pickle=True)
    (tmp_path / "cut.npy").write_bytes(write(tmp_path / "v.npy").read_bytes()[:130])
    (tmp_path / "rubbish.parquet").write_bytes(b"PAR1 nothing")
    (tmp_path / "rubbish.safetensors").write_bytes(b"nothing")
    ragged = pl.DataFrame({"item_id": ["0", "1"], "vector": [[1.0], [1.0, 2.0]]})
    ragged.write_parquet(tmp_path / "ragged.parquet")
    for path in sorted(tmp_path.iterdir()):
        if path.name != "v.npy":
            with pytest.raises(DataError, match=re.escape(path.name)):
                read_vectors(path, ["0"])
    assert not sprung.exists()

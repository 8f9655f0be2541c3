"""What items that came after the training are read as."""

import numpy as np
import pytest

from genrec.model.bridge import Bridge, item_table
from genrec.model.soft_tokens import SoftTokens


def test_the_vector_of_a_later_item_is_the_mean_of_those_that_begin_alike():
    vectors = np.asarray([[1.0], [2.0], [4.0], [8.0]], dtype=np.float32)
    old_codes = np.asarray([[0, 0, 0], [0, 0, 1], [0, 1, 0], [1, 0, 0]], dtype=np.int32)
    codes = np.asarray([[0, 0, 2], [0, 2, 0], [2, 0, 0], [1, 0, 0]], dtype=np.int32)
    soft = SoftTokens(10, {"items": item_table(vectors, 4, beside=np.arange(4), size=0.0)})
    bridge = Bridge(soft, None, np.arange(4))
    tokens = codes.astype(np.int64) + 20
    wider = bridge.for_items(np.asarray([-1, -1, -1, 3]), old_codes, codes, tokens)
    table = wider.soft.source("items")
    means = [(1 + 2) / 2, (1 + 2 + 4) / 3, (1 + 2 + 4 + 8) / 4, 8]
    assert table.vectors[:, 0].tolist() == pytest.approx(means)
    assert table.beside.tolist() == tokens[:, -1].tolist()
    assert wider.rows.tolist() == [-1, -1, -1, 3]

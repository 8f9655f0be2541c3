import numpy as np
import pytest

from genrec.tokenization.code_tree import CodeTree


@pytest.mark.parametrize("seed", range(5))
def test_nodes_are_the_sorted_distinct_prefixes(seed):
    rng = np.random.default_rng(seed)
    sizes = (3, 4, 2)
    codes = rng.integers(0, sizes, size=(20, 3)).astype(np.int32)
    tree = CodeTree.of(codes, sizes)
    assert tree.levels == 3
    above = [()]
    for level in range(3):
        prefixes = [tuple(row[: level + 1]) for row in codes.tolist()]
        distinct = sorted(set(prefixes))
        assert tree.size(level) == len(distinct)
        assert [distinct[node] for node in tree.node[:, level]] == prefixes
        assert [above[node] for node in tree.parent[level]] == [row[:-1] for row in distinct]
        assert tree.code[level].tolist() == [row[-1] for row in distinct]
        assert tree.items_below(level).tolist() == [prefixes.count(row) for row in distinct]
        above = distinct
    assert tree.size(-1) == 1
    assert tree.items_below(-1).tolist() == [20]

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from genrec.decoding import sorted_tuples as module
from genrec.decoding.sorted_tuples import sorted_tuples
from genrec.decoding.trie import PrefixTrie
from genrec.errors import ArtifactError
from genrec.semantic_ids.item_index import ItemIndex
from tests.decoding.test_rules import random_catalogue


@settings(max_examples=150, deadline=None)
@given(
    st.integers(0, 10**6),
    st.integers(1, 60),
    st.lists(st.integers(1, 5), min_size=1, max_size=5),
    st.booleans(),
)
def test_tuples_are_sorted_as_python_sorts_them(seed, items, level_sizes, packed):
    rng = np.random.default_rng(seed)
    codes = np.stack([rng.integers(0, size, items) for size in level_sizes], 1).astype(np.int32)
    counts = rng.integers(0, 3, items)
    with pytest.MonkeyPatch.context() as patch:
        if not packed:
            patch.setattr(module, "_BITS", 1)
        order, first = sorted_tuples(codes, level_sizes, counts)
    want = sorted(range(items), key=lambda row: (*codes[row].tolist(), -counts[row], row))
    assert order.tolist() == want
    for level, new in enumerate(first):
        prefixes = [tuple(codes[row, : level + 1]) for row in want]
        assert new.tolist() == [
            place == 0 or prefixes[place] != prefixes[place - 1] for place in range(items)
        ]


def test_codes_that_fill_all_bits_are_sorted():
    codes = np.array([[2**31 - 1, 2**30], [0, 5], [2**31 - 1, 3]], dtype=np.int32)
    order, _ = sorted_tuples(codes, (2**31, 2**31), np.zeros(3, dtype=np.int64))
    assert order.tolist() == [1, 2, 0]


@pytest.mark.parametrize("shared", [False, True])
def test_leaves_and_nodes_of_every_item(shared):
    index = random_catalogue(np.random.default_rng(4), 60, (3, 4, 5), shared, True)
    trie = PrefixTrie.from_index(index)
    every = torch.arange(len(index))
    leaves = trie.leaf_of_item[every]
    assert trie.item_of_leaf[leaves].tolist() == every.tolist()
    for level in range(3):
        nodes = trie.nodes_of_leaves(level, leaves)
        assert trie.levels[level].code[nodes].tolist() == index.codes[:, level].tolist()
        start = trie.leaf_start[level]
        assert ((start[nodes] <= leaves) & (leaves < start[nodes + 1])).all()
        assert start[-1] == len(index)


@pytest.mark.parametrize("shared", [False, True])
def test_what_is_saved_is_opened_without_being_read(tmp_path, shared):
    index = random_catalogue(np.random.default_rng(4), 60, (3, 300, 5), shared, True)
    trie = PrefixTrie.from_index(index)
    trie.save(tmp_path)
    opened = PrefixTrie.load(tmp_path)
    assert (opened.sharing is None) == (trie.sharing is None)
    assert torch.equal(opened.item_of_leaf, trie.item_of_leaf)
    for one, other in zip(opened.steps, trie.steps, strict=True):
        assert torch.equal(one.code, other.code)
        assert one.code.dtype == other.code.dtype
        assert torch.equal(one.child_start, other.child_start)
        assert one.widest == other.widest


def test_a_file_that_is_no_trie_is_refused(tmp_path):
    (tmp_path / "trie.safetensors").write_bytes(b"half")
    with pytest.raises(ArtifactError, match="is no trie"):
        PrefixTrie.load(tmp_path)
    with pytest.raises(ArtifactError, match="is no trie"):
        PrefixTrie.load(tmp_path / "absent")


def test_an_item_takes_less_than_ten_bytes():
    rng = np.random.default_rng(0)
    numbers = rng.choice(256**3, 100_000, replace=False)
    codes = np.stack([numbers >> 16, (numbers >> 8) & 255, numbers & 255], axis=1)
    trie = PrefixTrie.from_index(ItemIndex(codes.astype(np.int32), (256,) * 3, {}))
    arrays = [array for step in trie.steps for array in (step.code, step.child_start)]
    assert sum(array.nbytes for array in [*arrays, trie.item_of_leaf]) < 10 * len(codes)


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 10**6), st.booleans(), st.one_of(st.none(), st.integers(1, 3)))
def test_children_side_by_side_are_those_of_each_parent(seed, shared, most):
    rng = np.random.default_rng(seed)
    trie = PrefixTrie.from_index(random_catalogue(rng, 40, (3, 4, 5), shared, True))
    for level in range(1, len(trie.steps)):
        parents = torch.from_numpy(rng.integers(0, len(trie.steps[level - 1]), (3, 4)))
        alive = torch.from_numpy(rng.random((3, 4)) < 0.7)
        found = [way(level, parents, alive, most) for way in (trie.below, trie.padded)]
        children, there = trie.children(level, parents, most)
        for request in range(3):
            want = [
                (parent, child)
                for parent in range(4)
                for child in children[request, parent][there[request, parent]].tolist()
                if alive[request, parent]
            ]
            for nodes, place, real in found:
                kept = real[request]
                got = zip(place[request][kept], nodes[request][kept], strict=True)
                assert [(int(parent), int(child)) for parent, child in got] == want

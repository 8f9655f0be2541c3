import logging

import faiss
import numpy as np
import pytest
from scipy.linalg import subspace_angles
from scipy.sparse.csgraph import connected_components
from sklearn.cluster import SpectralClustering
from sklearn.metrics import adjusted_rand_score
from threadpoolctl import threadpool_limits

from genrec.data.histories import from_lists
from genrec.errors import DataError
from genrec.tokenization import classic_collaborative
from genrec.tokenization.classic_collaborative import (
    Baskets,
    CollaborativeIndexer,
    leading_vectors,
)
from genrec.tokenization.indexer import ItemTables


def tables(n, sequences):
    ids = [f"id{row}" for row in range(n)]
    return ItemTables(ids, ids, sequences=from_lists(sequences))


def paths(n, sequences, *, clusters, leaf_items, seed=0):
    indexer = CollaborativeIndexer(clusters, leaf_items)
    return indexer.paths(tables(n, sequences), seed)[0]


def planted(blocks, size, *, users=15, stray=0.1, skew=0.0, seed=0):
    """Users who take 8 items of one block, and now and then one of another.

    Item j of a block is taken ``(j + 1) ** -skew`` as often as its first.

    Returns:
        The sequences and the block of each item.
    """
    rng = np.random.default_rng(seed)
    block = np.arange(blocks * size) % blocks
    weight = np.arange(1, size + 1) ** -skew
    sequences = []
    for user in range(users * blocks):
        inside = np.flatnonzero(block == user % blocks)
        own = rng.choice(inside, size=8, replace=False, p=weight / weight.sum())
        other = rng.choice(len(block), size=8)
        sequences.append(np.where(rng.random(8) < stray, other, own).tolist())
    return sequences, block


def counts(n, sequences):
    """How many users have both of two items, one user at a time."""
    table = np.zeros((n, n))
    for sequence in sequences:
        for i in set(sequence):
            for j in set(sequence) - {i}:
                table[i, j] += 1
    return table


def normalised(table):
    scale = 1 / np.sqrt(table.sum(axis=1))
    return table * scale[:, None] * scale


def leaves_of(paths):
    return np.unique(paths, axis=0, return_inverse=True)[1]


def test_products_with_the_affinity_are_those_with_the_counted_matrix():
    sequences, _ = planted(3, 10, stray=0.3)
    sequences += [[5], [], [4, 4, 9, 4]]
    baskets = Baskets.of(from_lists(sequences), np.arange(30))
    x = np.random.default_rng(0).standard_normal((30, 4))
    expected = normalised(counts(30, sequences))
    np.testing.assert_allclose(baskets.affinity() @ x, expected @ x, atol=1e-12)
    np.testing.assert_allclose(baskets.affinity() @ x[:, 0], expected @ x[:, 0], atol=1e-12)
    some = np.array([2, 3, 5, 8, 11, 14, 17, 20, 23, 26, 29])
    part = counts(30, sequences)[np.ix_(some, some)]
    assert part.sum(axis=1).all()
    np.testing.assert_allclose(
        baskets.take(some).affinity() @ x[:11], normalised(part) @ x[:11], atol=1e-12
    )


def test_items_are_placed_where_they_belong():
    sequences = [[0, 1], [1, 2, 3]]
    place = np.array([2, 0, 3, 1])
    table = (Baskets.of(from_lists(sequences), place).table.T @ np.eye(2)) > 0
    assert table[place].tolist() == [[True, False], [True, True], [False, True], [False, True]]


@pytest.mark.parametrize("size", [20, 100])
def test_leading_vectors_are_those_of_the_whole_matrix(size):
    # 80 items are computed directly, 400 are not.
    sequences, _ = planted(4, size, users=3 * size, stray=0.3)
    baskets = Baskets.of(from_lists(sequences), np.arange(4 * size))
    values, vectors = np.linalg.eigh(normalised(counts(4 * size, sequences)))
    found = leading_vectors(baskets.affinity(), 4, seed=0)
    assert np.degrees(subspace_angles(found, vectors[:, -4:])).max() < 0.1
    quotients = np.einsum("ij,ij->j", found, baskets.affinity() @ found)
    np.testing.assert_allclose(quotients, values[:-5:-1], atol=1e-6)


@pytest.mark.parametrize("size", [20, 100])
def test_planted_clusters_are_found(size):
    sequences, block = planted(4, size, users=3 * size)
    found = paths(4 * size, sequences, clusters=4, leaf_items=2 * size)
    assert found[:, 1:].max() == -1
    assert adjusted_rand_score(block, found[:, 0]) == 1
    other = SpectralClustering(4, affinity="precomputed", random_state=0)
    assert adjusted_rand_score(other.fit_predict(counts(4 * size, sequences)), found[:, 0]) == 1


def test_popular_items_are_no_cluster_of_their_own():
    sequences, block = planted(4, 60, users=400, skew=1.0)
    found = paths(240, sequences, clusters=4, leaf_items=150)
    assert adjusted_rand_score(block, found[:, 0]) == 1


def test_clusters_of_clusters_are_found():
    rng = np.random.default_rng(1)
    region, town = np.divmod(np.arange(360) % 9, 3)
    sequences = []
    for user in range(900):
        far, near = divmod(user % 9, 3)
        inside = np.flatnonzero((region == far) & (town == near))
        around = np.flatnonzero(region == far)
        sequences.append([*rng.choice(inside, 7, False), *rng.choice(around, 3, False)])
        sequences[-1] += rng.choice(360, 1).tolist() if user % 2 else []
    found = paths(360, sequences, clusters=3, leaf_items=50)
    assert adjusted_rand_score(region, found[:, 0]) == 1
    assert adjusted_rand_score(region * 3 + town, found[:, 0] * 3 + found[:, 1]) == 1
    assert found[:, 2:].max() == -1


@pytest.mark.parametrize(("clusters", "leaf_items"), [(2, 30), (5, 10), (10, 100), (400, 3)])
def test_leaves_and_branches_are_no_larger_than_asked(clusters, leaf_items):
    sequences, _ = planted(6, 50, users=30, stray=0.3)
    found = paths(310, sequences, clusters=clusters, leaf_items=leaf_items)
    assert np.bincount(leaves_of(found)).max() <= leaf_items
    assert found[:, 0].max() < clusters + 1
    assert found[:, 1:].max() < clusters
    over = found < 0
    assert (over[:, 1:] >= over[:, :-1]).all()


def test_the_children_of_a_cluster_are_numbered_by_size():
    sequences, _ = planted(5, 40, users=40, stray=0.2)
    found = paths(230, sequences, clusters=4, leaf_items=20)
    for depth in range(found.shape[1] - 1):
        for parent in np.unique(found[:, :depth], axis=0):
            inside = (found[:, :depth] == parent).all(axis=1) & (found[:, depth] >= 0)
            inside &= (depth > 0) | np.isin(np.arange(230), np.concatenate(sequences))
            sizes = np.bincount(found[inside, depth]).tolist()
            assert sizes == sorted(sizes, reverse=True)
            assert 0 not in sizes


def test_islands_stay_whole():
    rng = np.random.default_rng(4)
    size = rng.integers(1, 12, size=150)
    island = rng.permutation(np.repeat(np.arange(150), size))
    sequences = [np.flatnonzero(island == number).tolist() for number in range(150)]
    found = paths(len(island), sequences, clusters=5, leaf_items=20)
    leaf = leaves_of(found)
    for number in range(150):
        assert len(set(leaf[island == number])) == 1
    # As few leaves as islands that stay whole allow, give or take.
    assert np.bincount(leaf).max() <= 20
    assert len(np.unique(leaf)) < 2.5 * len(island) / 20


def test_small_components_stand_in_line_by_size():
    # A clique of 12 and 9 pairs, 30 items to be cut at 15: the clique begins at 0, the pairs at
    # 12, 14, 16 and so on, so the first two of them are in its part.
    sequences = [[item, item + 1] for item in range(0, 18, 2)] + [list(range(18, 30))]
    found = paths(30, sequences, clusters=4, leaf_items=20)
    assert np.bincount(found[:, 0]).tolist() == [16, 14]
    assert set(found[18:, 0]) == {0}


def test_the_smallest_cluster_that_is_too_large_is_cut():
    found = paths(3, [[0, 1], [1, 2]], clusters=5, leaf_items=2)
    assert np.bincount(leaves_of(found)).max() == 2


def test_a_large_component_and_islands_share_the_clusters():
    sequences, block = planted(3, 40, users=60)
    n = 120 + 60
    sequences += [[item, item + 1] for item in range(120, n, 2)]
    found = paths(n, sequences, clusters=5, leaf_items=50)
    # 180 items: one component of 120 and 30 of 2. Shares of 5: 1 + 1, then 2, 3 for the component,
    # and the next to the 60 items in pairs, which need no third.
    assert adjusted_rand_score(block, found[:120, 0]) == 1
    assert not set(found[:120, 0]) & set(found[120:, 0])
    assert len(set(found[120:, 0])) == 2
    np.testing.assert_array_equal(found[120::2], found[121::2])


def test_more_large_components_than_clusters_are_put_together():
    sequences = []
    for block in range(7):
        items = np.arange(block * 12, block * 12 + 12)
        sequences += [[*pair] for pair in zip(items, items[1:], strict=False)]
    found = paths(84, sequences, clusters=3, leaf_items=10)
    component = connected_components(counts(84, sequences), directed=False)[1]
    for block in range(7):
        assert len(set(found[component == block, 0])) == 1
    assert sorted(np.bincount(found[:, 0])) == [24, 24, 36]
    assert np.bincount(leaves_of(found)).max() <= 10


def test_items_that_nobody_takes_are_a_branch_of_their_own():
    sequences, _ = planted(4, 30, users=40)
    found = paths(300, sequences, clusters=4, leaf_items=25)
    seen = np.isin(np.arange(300), np.concatenate(sequences))
    assert seen.sum() == 120
    assert set(found[~seen, 0]) == {found[:, 0].max()}
    assert not (found[seen, 0] == found[:, 0].max()).any()
    sizes = np.bincount(leaves_of(found[~seen]))
    # 180 in parts of 45, and these in parts of at most 25.
    assert sizes.max() <= 25
    assert len(sizes) == 8


def test_a_small_catalogue_is_one_leaf():
    proposal = CollaborativeIndexer(4, 10).propose(tables(10, [list(range(10))]), seed=0)
    assert sorted(proposal.codes[:, 0]) == list(range(10))
    assert proposal.level_sizes == (10,)
    assert proposal.facts["leaves"] == 1


def test_the_last_code_numbers_the_items_of_a_leaf_by_seed():
    sequences, _ = planted(4, 30, users=40)
    given_tables = tables(120, sequences)
    proposal = CollaborativeIndexer(4, 40).propose(given_tables, seed=0)
    for leaf in range(4):
        last = proposal.codes[proposal.codes[:, 0] == leaf, -1]
        assert sorted(last) == list(range(30))
        assert last.tolist() != list(range(30))
    assert proposal.level_sizes == (4, 30)
    other = CollaborativeIndexer(4, 40).propose(given_tables, seed=1)
    assert (proposal.codes[:, -1] != other.codes[:, -1]).any()


def test_an_item_taken_twice_by_a_user_counts_once():
    sequences, _ = planted(3, 40, stray=0.3)
    repeated = [[*sequence, *sequence[:3]] for sequence in sequences]
    np.testing.assert_array_equal(
        paths(120, sequences, clusters=3, leaf_items=20),
        paths(120, repeated, clusters=3, leaf_items=20),
    )


@pytest.mark.parametrize("n", [60, 400])
@pytest.mark.parametrize("graph", ["complete", "star", "ring", "twins"])
def test_graphs_with_equal_eigenvalues_are_cut(n, graph, caplog):
    sequences = {
        "complete": [list(range(n))],
        "star": [[0, item] for item in range(1, n)],
        "ring": [[item, (item + 1) % n] for item in range(n)],
        "twins": [[item, n // 2 + other] for item in range(8) for other in range(n // 2)],
    }[graph]
    once, again = (paths(n, sequences, clusters=5, leaf_items=25) for _ in range(2))
    np.testing.assert_array_equal(once, again)
    assert np.bincount(leaves_of(once)).max() <= 25
    assert not caplog.records


def test_without_eigenvectors_the_items_are_cut_in_line(monkeypatch, caplog):
    monkeypatch.setattr(classic_collaborative, "MOST_ITERATIONS", 1)
    rng = np.random.default_rng(0)
    chain = rng.permutation(400)
    sequences = [[int(a), int(b)] for a, b in zip(chain, chain[1:], strict=False)]
    with caplog.at_level(logging.WARNING):
        found = paths(400, sequences, clusters=4, leaf_items=100)
    assert "400 items: no 4 eigenvectors after 1 iterations" in caplog.text
    # The line of a chain is the chain itself, from one end or the other.
    parts = found[chain, 0].reshape(4, 100)
    assert (parts == parts[:, :1]).all()
    assert sorted(parts[:, 0]) == [0, 1, 2, 3]


def test_leaves_too_large_for_eight_codes_are_told(caplog):
    items = 2**8 * 2 + 1
    with caplog.at_level(logging.WARNING):
        proposal = CollaborativeIndexer(2, 2).propose(tables(items, [[0]]), seed=0)
    assert "more than leaf_items 2: an ID has at most 8 codes" in caplog.text
    assert proposal.codes.shape == (items, 8)
    assert len(np.unique(proposal.codes, axis=0)) == items


def test_the_number_of_threads_changes_nothing(monkeypatch):
    # A large matrix as a whole is where more threads would round differently.
    monkeypatch.setattr(classic_collaborative, "DENSE_ITEMS", 600)
    vectors = []

    def noted(*arguments):
        vectors.append(leading_vectors(*arguments))
        return vectors[-1]

    monkeypatch.setattr(classic_collaborative, "leading_vectors", noted)
    sequences, _ = planted(8, 60, users=60, stray=0.4)
    before = faiss.omp_get_max_threads()
    results = []
    for threads in (1, 4):
        faiss.omp_set_num_threads(threads)
        with threadpool_limits(threads):
            results.append(paths(480, sequences, clusters=6, leaf_items=30))
    faiss.omp_set_num_threads(before)
    np.testing.assert_array_equal(*results)
    half = len(vectors) // 2
    for one, four in zip(vectors[:half], vectors[half:], strict=True):
        np.testing.assert_array_equal(one, four)


def test_sequences_without_events_are_refused():
    with pytest.raises(DataError, match="hold no event"):
        CollaborativeIndexer().propose(tables(3, [[], []]), seed=0)

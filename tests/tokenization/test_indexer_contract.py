"""What every way to index items promises, whatever its method."""

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from genrec.data.histories import from_lists
from genrec.errors import DataError
from genrec.tokenization.classic_collaborative import CollaborativeIndexer
from genrec.tokenization.classic_hybrid import HybridIndexer
from genrec.tokenization.classic_numbers import (
    IndependentIndexer,
    RandomIndexer,
    SequentialIndexer,
)
from genrec.tokenization.classic_semantic import SemanticIndexer
from genrec.tokenization.classic_title import TitleIndexer
from genrec.tokenization.indexer import Indexer, ItemTables
from genrec.tokenization.product import ProductQuantizer
from genrec.tokenization.residual_kmeans import ResidualKMeans
from genrec.tokenization.rq_vae import RqVae
from genrec.tokenization.vector_indexer import VectorIndexer

TABLES = ("vectors", "collaborative", "sequences", "categories")


@dataclass(frozen=True)
class Method:
    """One way to make an indexer, and what it promises beyond the role.

    Attributes:
        make: Makes a fresh one; small, so that few items already fill several levels.
        unique: Every item gets a tuple of its own.
        by_id: Items in another order get the same codes.
    """

    make: Callable[[], Indexer]
    unique: bool = True
    by_id: bool = True


SMALL: dict[str, Any] = {
    "hidden": [8],
    "dimensions": 4,
    "epochs": 2,
    "batch_size": 16,
    "minimum_usage": 0.0,
}
LETTER: dict[str, Any] = {
    "collaborative_weight": 0.1,
    "diversity_weight": 0.1,
    "diversity_clusters": 2,
}


def vectors(build, *, collaborative=False):
    """A quantizer as indexer: items may collide, and k-means starts from rows drawn by number."""
    return Method(
        lambda: VectorIndexer("quantizer", build, collaborative=collaborative),
        unique=False,
        by_id=False,
    )


METHODS = {
    "random": Method(lambda: RandomIndexer(7)),
    "independent": Method(IndependentIndexer),
    "sequential": Method(lambda: SequentialIndexer(7)),
    "title": Method(lambda: TitleIndexer(3), unique=False),
    "collaborative": Method(lambda: CollaborativeIndexer(3, 8)),
    "semantic": Method(SemanticIndexer),
    "hybrid_collaborative": Method(lambda: HybridIndexer(CollaborativeIndexer(3, 8))),
    "hybrid_semantic": Method(lambda: HybridIndexer(SemanticIndexer())),
    "residual_kmeans": vectors(lambda seed: ResidualKMeans(2, 5, seed=seed)),
    "balanced": vectors(lambda seed: ResidualKMeans(2, 5, balanced=True, seed=seed)),
    "normalised": vectors(lambda seed: ResidualKMeans(2, 5, normalise_residuals=True, seed=seed)),
    "product": vectors(lambda seed: ProductQuantizer(2, 5, seed=seed)),
    "rq_vae": vectors(lambda seed: RqVae(2, 5, **SMALL, seed=seed)),
    "letter": vectors(lambda seed: RqVae(2, 5, **SMALL, **LETTER, seed=seed), collaborative=True),
}


@pytest.fixture(params=METHODS)
def method(request):
    return METHODS[request.param]


def every_table(n, seed=0):
    """Items with all tables; some are never taken, some have no category, titles repeat."""
    rng = np.random.default_rng(seed)
    ids = [f"id{number}" for number in rng.permutation(n)]
    users = [rng.integers(0, max(1, n * 4 // 5), size=rng.integers(0, 6)) for _ in range(2 * n)]
    return ItemTables(
        ids,
        [f"title {rng.integers(0, 5)} {' word' * rng.integers(0, 3)}" for _ in range(n)],
        vectors=rng.standard_normal((n, 6)).astype(np.float32),
        collaborative=rng.standard_normal((n, 4)).astype(np.float32),
        sequences=from_lists([*users, np.zeros(1, dtype=np.int32)]),
        categories=[tuple("abcdefghij"[: rng.integers(row > 0, 3)]) or () for row in range(n - 1)]
        + [("z", "y")],
    )


def needed_only(tables, indexer):
    """Take away all tables but those that the indexer says it needs."""
    return replace(tables, **{name: None for name in TABLES if name not in indexer.needs})


def propose(method, tables, seed=3):
    indexer = method.make()
    return indexer.propose(needed_only(tables, indexer), seed)


def reordered(tables, order):
    """The same items in other rows: new row i is old row ``order[i]``."""
    row = np.argsort(order)
    old = tables.sequences
    return ItemTables(
        [tables.item_ids[i] for i in order],
        [tables.titles[i] for i in order],
        vectors=tables.vectors[order],
        collaborative=tables.collaborative[order],
        sequences=replace(old, items=row[old.items].astype(np.int32)),
        categories=[tables.categories[i] for i in order],
    )


def check(proposal, n, method):
    assert proposal.codes.dtype == np.int32
    assert proposal.codes.shape == (n, len(proposal.level_sizes))
    assert all(type(size) is int for size in proposal.level_sizes)
    assert 1 <= len(proposal.level_sizes) <= 8
    assert (proposal.codes >= 0).all()
    assert (proposal.codes < np.array(proposal.level_sizes)).all()
    json.dumps(proposal.facts)
    if method.unique:
        assert len(np.unique(proposal.codes, axis=0)) == n


@pytest.mark.parametrize("n", [1, 2, 3, 150])
def test_codes_are_in_range_and_read_only_what_is_needed(method, n):
    check(propose(method, every_table(n)), n, method)


def test_names_and_needs_are_known(method):
    indexer = method.make()
    assert indexer.name.isidentifier()
    assert indexer.needs <= set(TABLES)


def test_no_level_is_larger_than_its_codes_need(method):
    proposal = propose(method, every_table(150))
    if proposal.quantizer is None:
        assert tuple(proposal.codes.max(axis=0) + 1) == proposal.level_sizes


def test_the_same_seed_gives_the_same_codes(method):
    first, second = (propose(method, every_table(150)) for _ in range(2))
    np.testing.assert_array_equal(first.codes, second.codes)
    assert first.level_sizes == second.level_sizes
    assert first.facts == second.facts
    # An indexer that is used again remembers nothing.
    indexer = method.make()
    tables = needed_only(every_table(150), indexer)
    indexer.propose(needed_only(every_table(90, seed=1), indexer), 8)
    np.testing.assert_array_equal(indexer.propose(tables, 3).codes, first.codes)


@settings(max_examples=10, deadline=None)
@given(st.integers(1, 150), st.integers(0, 2**32 - 1))
@pytest.mark.parametrize("name", [name for name, method in METHODS.items() if method.by_id])
def test_items_in_another_order_get_the_same_codes(name, n, seed):
    tables = every_table(n, seed)
    order = np.random.default_rng(seed).permutation(n)
    straight = propose(METHODS[name], tables)
    shuffled = propose(METHODS[name], reordered(tables, order))
    np.testing.assert_array_equal(shuffled.codes, straight.codes[order])
    assert shuffled.level_sizes == straight.level_sizes


def test_a_missing_table_is_named(method):
    indexer = method.make()
    for name in indexer.needs:
        with pytest.raises(DataError, match=f"needs {name}, and none were given"):
            indexer.propose(replace(every_table(20), **{name: None}), 3)


def test_a_table_of_another_catalogue_is_refused(method):
    indexer = method.make()
    for name in indexer.needs - {"sequences"}:
        table = getattr(every_table(20), name)[:-1]
        with pytest.raises(DataError, match=f"{name} has 19 rows for 20 items"):
            indexer.propose(replace(every_table(20), **{name: table}), 3)


def test_an_empty_catalogue_is_refused(method):
    empty = replace(every_table(1), item_ids=[], titles=[])
    with pytest.raises(DataError, match="there is no item to index"):
        method.make().propose(empty, 3)


def test_sequences_and_categories_that_hold_nothing_are_refused(method):
    indexer = method.make()
    nothing = {"sequences": from_lists([]), "categories": [()] * 20}
    for name in indexer.needs & set(nothing):
        with pytest.raises(DataError):
            indexer.propose(replace(every_table(20), **{name: nothing[name]}), 3)


def test_thousands_of_items_alike_are_told_apart_where_promised(method):
    n = 3000
    alike = ItemTables(
        [f"id{row}" for row in range(n)],
        ["the same title"] * n,
        vectors=np.ones((n, 4), dtype=np.float32),
        collaborative=np.ones((n, 4), dtype=np.float32),
        sequences=from_lists([[row] for row in range(n)]),
        categories=[("all", "the same")] * n,
    )
    check(propose(method, alike), n, method)


def test_the_tables_are_left_as_they_are(method):
    tables, before = every_table(60), every_table(60)
    method.make().propose(tables, 3)
    assert tables.item_ids == before.item_ids
    assert tables.titles == before.titles
    assert tables.categories == before.categories
    np.testing.assert_array_equal(tables.vectors, before.vectors)
    np.testing.assert_array_equal(tables.collaborative, before.collaborative)
    np.testing.assert_array_equal(tables.sequences.items, before.sequences.items)
    np.testing.assert_array_equal(tables.sequences.offsets, before.sequences.offsets)

"""Collaborative indexing: items that the same users take share their first codes.

Hua, Xu, Ge, Zhang, "How to Index Item IDs for Recommendation Foundation Models", SIGIR-AP 2023,
collaborative indexing (CID), as in OpenP5: with C[i, j] the number of users who have both items in
their training sequences, whatever lies between, spectral clustering cuts the items into N clusters,
and each cluster with more than k items again. What is ours:

- The code of a cluster is its number among the children of its parent, largest first, so the first
  children of all parents of a level share one code. OpenP5 hands out tokens in order, and starts
  again after some.
- Few graphs hang together, and parts of them less. Components with more than k items are clustered
  by themselves, each into a share of the N clusters that goes by its size; the smaller ones are put
  together whole, the largest first.
- Items that no user has in the training part are the last child of the root, cut like the others.
- The number within a leaf goes by an order shuffled by seed, and is in the same level for all.
- An ID has at most 8 codes: a leaf in the last level of clusters may have more than k items.

Clusters are those of Ng, Jordan, Weiss, "On Spectral Clustering: Analysis and an Algorithm", 2001:
the eigenvectors of ``D^-1/2 C D^-1/2``, D the row sums of C, with the t largest eigenvalues (of the
normalised Laplacian the t smallest) give every item t numbers, which are scaled to length 1 and
clustered by k-means; OpenP5 reads clusters from a QR factorisation, which can leave most items in
one. C is never made: with B the users' baskets it is ``B^T B`` less its diagonal, so a
product with C costs as much as there are events.
"""

import logging
import warnings
from collections import deque
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import Progress
from scipy import sparse
from scipy.linalg import eigh
from scipy.sparse.csgraph import connected_components, reverse_cuthill_mckee
from scipy.sparse.linalg import LinearOperator, lobpcg
from threadpoolctl import threadpool_limits

from genrec.data.histories import Histories
from genrec.tokenization.classic_numbers import shuffled_places, training_sequences
from genrec.tokenization.indexer import ItemTables, Need, Proposal
from genrec.tokenization.ragged import MOST_LEVELS, OVER, Ints, count_within, pad_and_close
from genrec.tokenization.residual_kmeans import ResidualKMeans

logger = logging.getLogger(__name__)

Floats = NDArray[np.float64]

# Up to so many items the eigenvectors are computed directly, which is exact and as fast.
DENSE_ITEMS = 256
# Error allowed in |Mv - wv| for eigenvectors v of length 1 and eigenvalues w of at most 1.
TOLERANCE = 1e-4
MOST_ITERATIONS = 500
RESTARTS = 3


class CollaborativeIndexer:
    """Clusters within clusters are the first codes, the number within the last is the last (CID).

    The same tables and seed give the same codes, whatever the rows of the items and the number of
    threads. An item that is not in the tables gets no codes. See the head of the file.
    """

    name = "collaborative"
    needs: frozenset[Need] = frozenset({"sequences"})

    def __init__(self, clusters: int = 10, leaf_items: int = 100, *, quiet: bool = True) -> None:
        """Set the shape of the tree.

        Args:
            clusters: N, most clusters that a cluster is cut into.
            leaf_items: k, most items of a cluster that is not cut.
            quiet: No progress bar.
        """
        self.clusters = clusters
        self.leaf_items = leaf_items
        self.quiet = quiet

    def propose(self, tables: ItemTables, seed: int) -> Proposal:
        """Give every item a tuple of its own; see ``Indexer.propose``."""
        paths, facts = self.paths(tables, seed)
        place = shuffled_places(tables.item_ids, seed)
        codes, sizes = pad_and_close(paths, count_within(paths, place))
        return Proposal(codes, sizes, None, facts)

    def paths(self, tables: ItemTables, seed: int) -> tuple[Ints, dict[str, Any]]:
        """Return the codes of the clusters, without the number within the leaf.

        Returns:
            int64[n, L], ``ragged.OVER`` where a path is over; and facts.

        Raises:
            DataError: When the training sequences hold no event.
        """
        sequences = training_sequences(tables)
        # From here on items are known by place, not row, so another order of rows changes nothing.
        place = shuffled_places(tables.item_ids, seed)
        seen = np.zeros(len(place), dtype=bool)
        seen[place[sequences.items]] = True
        paths = np.full((len(place), MOST_LEVELS - 1), OVER, dtype=np.int64)
        leaves = []
        with Progress(console=Console(stderr=True), disable=self.quiet) as progress:
            task = progress.add_task("clusters of items", total=len(place))
            waiting = deque([(np.arange(len(place)), Baskets.of(sequences, place), 0)])
            while waiting:
                items, baskets, depth = waiting.popleft()
                parts = self._split(baskets, seed) if depth else self._root(baskets, seen, seed)
                if len(parts) < 2 or depth == paths.shape[1]:
                    leaves.append(len(items))
                    progress.advance(task, len(items))
                    continue
                for code, part in enumerate(parts):
                    paths[items[part], depth] = code
                    waiting.append((items[part], baskets.take(part), depth + 1))
        if max(leaves) > self.leaf_items:
            logger.warning(
                "the largest of %d clusters has %d items, more than leaf_items %d: an ID has at "
                "most %d codes; more index.classic.clusters make smaller ones.",
                len(leaves), max(leaves), self.leaf_items, MOST_LEVELS,
            )  # fmt: skip
        facts = {
            "clusters": self.clusters,
            "leaf_items": self.leaf_items,
            "leaves": len(leaves),
            "largest_leaf": max(leaves),
            "unseen_items": int((~seen).sum()),
        }
        return paths[place], facts

    def _root(self, baskets: "Baskets", seen: NDArray[np.bool_], seed: int) -> list[Ints]:
        """Return the parts of the items that are seen and, as one part, the others."""
        known = np.flatnonzero(seen)
        parts = [known[part] for part in self._split(baskets.take(known), seed)]
        return parts if seen.all() else [*parts, np.flatnonzero(~seen)]

    def _split(self, baskets: "Baskets", seed: int) -> list[Ints]:
        """Return the items of each of at most N parts, the largest first; one when m <= k."""
        if len(baskets) <= self.leaf_items:
            return [np.arange(len(baskets))]
        component = baskets.components()
        size = np.bincount(component)
        large = np.flatnonzero(size > self.leaf_items)
        rest = np.flatnonzero(size[component] <= self.leaf_items)
        if len(large) + (len(rest) > 0) > self.clusters:
            large, rest = large[:0], np.arange(len(baskets))
        groups = [np.flatnonzero(component == one) for one in large]
        most = [max(2, len(group) // 2) for group in groups]
        most.append(-(-len(rest) // self.leaf_items))
        shares = _shares([*size[large], len(rest)], most, self.clusters)
        parts = []
        for group, share in zip(groups, shares, strict=False):
            label = _cluster(baskets.take(group), share, seed) if share > 1 else 0 * group
            parts += [group[label == number] for number in np.unique(label)]
        label = _pack(component[rest], shares[-1])
        parts += [rest[label == number] for number in np.unique(label)]
        return sorted(parts, key=lambda part: (-len(part), part[0]))


@dataclass(frozen=True)
class Baskets:
    """Which of m items each user has, sparse float64[users, m]; only users with two or more."""

    table: Any

    def __len__(self) -> int:
        return int(self.table.shape[1])

    @classmethod
    def of(cls, sequences: Histories, place: Ints) -> "Baskets":
        """Make the baskets of all users; item i becomes column ``place[i]``."""
        user = np.repeat(np.arange(len(sequences)), sequences.lengths)
        table = sparse.csc_array(
            (np.ones(len(user)), (user, place[sequences.items])), shape=(len(sequences), len(place))
        )
        table.data[:] = 1
        return cls(table).take(np.arange(len(place)))

    def take(self, items: Ints) -> "Baskets":
        """Return the baskets of these items only."""
        table = self.table[:, items]
        several = np.bincount(table.indices, minlength=table.shape[0]) > 1
        return Baskets(table.tocsr()[several].tocsc())

    def graph(self) -> sparse.csr_array:
        """Return the graph of items and, behind them, users."""
        return sparse.block_array([[None, self.table.T], [self.table, None]], format="csr")

    def components(self) -> Ints:
        """Return the connected component of each item, int64[m], numbered by their first items."""
        component: Ints = connected_components(self.graph(), directed=False)[1].astype(np.int64)
        return component[: len(self)]

    def in_line(self) -> Ints:
        """Return all items in an order in which neighbours are near (Cuthill and McKee's)."""
        order: Ints = reverse_cuthill_mckee(self.graph(), symmetric_mode=True).astype(np.int64)
        return order[order < len(self)]

    def affinity(self) -> LinearOperator:
        """Return ``D^-1/2 C D^-1/2``, [m, m]; every item needs a neighbour."""
        rows, columns = self.table.tocsr(), self.table.T.tocsr()
        own = self.table.sum(axis=0)[:, None]
        scale = (columns @ (rows @ np.ones((len(self), 1))) - own) ** -0.5

        def product(x: Floats) -> Floats:
            scaled = scale * x.reshape(len(self), -1)
            affine: Floats = scale * (columns @ (rows @ scaled) - own * scaled)
            return affine

        shape = (len(self), len(self))
        return LinearOperator(shape, matvec=product, matmat=product, dtype=np.float64)


def _cluster(baskets: Baskets, clusters: int, seed: int) -> Ints:
    """Cluster the m items of one component, int64[m].

    When the eigenvectors are not found in ``MOST_ITERATIONS``, which is logged, the items are put
    in line, neighbours near each other, and cut into parts of one size.
    """
    # Sums split over threads would round differently; k-means sees to that by itself.
    with threadpool_limits(limits=1, user_api="blas"):
        vectors = leading_vectors(baskets.affinity(), clusters, seed)
    if vectors is None:
        logger.warning(
            "%d items: no %d eigenvectors after %d iterations, so the items are not clustered "
            "but put in line, neighbours near each other, and cut into parts of one size.",
            len(baskets), clusters, MOST_ITERATIONS,
        )  # fmt: skip
        label = np.empty(len(baskets), dtype=np.int64)
        label[baskets.in_line()] = np.arange(len(baskets)) * clusters // len(baskets)
        return label
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    x = (vectors / np.maximum(length, np.finfo(np.float64).tiny)).astype(np.float32)
    kmeans = ResidualKMeans(1, clusters, restarts=RESTARTS, seed=seed).fit(x)
    return kmeans.encode(x).codes[:, 0].astype(np.int64)


def leading_vectors(matrix: LinearOperator, count: int, seed: int) -> Floats | None:
    """Return the eigenvectors with the largest eigenvalues, or ``None`` if they are not found.

    Args:
        matrix: Symmetric, [m, m].
        count: Number of eigenvectors, at most m.
        seed: Seed of the first guess.

    Returns:
        float64[m, count], the largest eigenvalue first.
    """
    m = matrix.shape[0]
    # LOBPCG, too, would turn to the whole matrix where there are less than 5 rows a vector.
    if m <= max(DENSE_ITEMS, 5 * count):
        vectors: Floats = eigh(matrix @ np.eye(m), subset_by_index=(m - count, m - 1))[1]
        return vectors[:, ::-1]
    guess = np.random.default_rng(seed).standard_normal((m, count))
    with warnings.catch_warnings():
        # It warns when it is not exact enough, which is measured below.
        warnings.simplefilter("ignore", UserWarning)
        values, vectors = lobpcg(
            matrix, guess, largest=True, tol=TOLERANCE / 10, maxiter=MOST_ITERATIONS
        )
    error = np.linalg.norm(matrix @ vectors - vectors * values, axis=0)
    return vectors if (error <= TOLERANCE).all() else None


def _shares(sizes: list[int], most: list[int], total: int) -> Ints:
    """Share out clusters: one a group, each further one where there are most items a cluster.

    Args:
        sizes: Items of each group.
        most: Most clusters of each group.
        total: Clusters to share out; fewer are when all groups have their most.
    """
    shares = np.minimum(sizes, 1)
    for _ in range(total - shares.sum()):
        crowding = np.where(shares < most, np.divide(sizes, np.maximum(shares, 1)), 0)
        if not crowding.any():
            break
        shares[crowding.argmax()] += 1
    return shares


def _pack(component: Ints, parts: int) -> Ints:
    """Put whole components in line, the largest first, and cut the line into parts of one size.

    Args:
        component: int64[m], component of each item.
        parts: Number of parts.

    Returns:
        int64[m], the part in which the item's component begins.
    """
    _, component, size = np.unique(component, return_inverse=True, return_counts=True)
    order = np.argsort(-size, kind="stable")
    begin = np.empty(len(size), dtype=np.int64)
    begin[order] = np.cumsum(size[order]) - size[order]
    part: Ints = (begin * parts // max(len(component), 1))[component]
    return part

"""The embedded store: a generated catalogue and users whose next item follows known rules.

Because the rules are known (see ``synthetic_rules``), so is the true chance of every next item,
and with it the best recall any recommender can reach.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import polars as pl
from numpy.typing import NDArray

from genrec.data.synthetic_catalog import generate_catalog
from genrec.data.synthetic_rules import Rules
from genrec.errors import DataError

SHORTEST = 5
MEAN_LENGTH = 11
LONGEST = 40
CUTOFFS = (1, 5, 10, 20, 50)

FIRST_SECOND = 1_672_531_200  # 2023-01-01 UTC
START_WINDOW = 400 * 86_400
LONGEST_GAP = 14 * 86_400
_BLOCK_CELLS = 4_000_000  # probabilities held at once: 32 MB


@dataclass(frozen=True)
class Store:
    """A generated shop: items, purchases and the rules that made them.

    Attributes:
        items: One row an item, in catalogue order: ``item_id``, ``title``, ``text``, ``brand``,
            ``department``, ``category``, ``tier``, ``colour`` (strings) and ``price`` (float).
        interactions: One row a purchase: ``user_id``, ``item_id`` (strings), ``timestamp``
            (int64, seconds since 1970) and ``weight`` (float, always 1), sorted by user, then
            time.
        rules: The true next-item probabilities.
    """

    items: pl.DataFrame
    interactions: pl.DataFrame
    rules: Rules

    @cached_property
    def item_rows(self) -> dict[str, int]:
        """Outside id -> row of ``items``."""
        return {item_id: row for row, item_id in enumerate(self.items["item_id"].to_list())}

    @cached_property
    def sequences(self) -> dict[str, NDArray[np.int64]]:
        """Outside user id -> rows of the items bought, oldest first."""
        grouped = self.interactions.group_by("user_id", maintain_order=True).agg("item_id")
        return {
            user_id: self.rows(item_ids)
            for user_id, item_ids in zip(grouped["user_id"], grouped["item_id"], strict=True)
        }

    def rows(self, item_ids: Sequence[str]) -> NDArray[np.int64]:
        """Return the rows of outside ids, int64[n].

        Raises:
            DataError: When an id is not of this store.
        """
        unknown = [item_id for item_id in item_ids if item_id not in self.item_rows]
        if unknown:
            raise DataError(
                f"{len(unknown)} items are not of this store, first {unknown[0]!r}; its ids run "
                f"from {self.items['item_id'][0]} to {self.items['item_id'][-1]}."
            )
        return np.asarray([self.item_rows[item_id] for item_id in item_ids], dtype=np.int64)

    def oracle_ranking(self, history: Sequence[str]) -> list[tuple[str, float]]:
        """Rank the items a user does not have yet by their true chance of coming next.

        Args:
            history: Outside ids of the user's items, oldest first; may be empty.

        Returns:
            Item id and probability, best first, ties in catalogue order; they sum to 1.

        Raises:
            DataError: When the history names an item that is not of this store.
        """
        rows = self.rows(history)
        chances = self.rules.probabilities(rows[None])[0]
        order = np.argsort(-chances, kind="stable")
        item_ids = self.items["item_id"].to_list()
        return [(item_ids[row], float(chances[row])) for row in order if chances[row] > 0]


def generate_store(users: int, items: int, seed: int) -> Store:
    """Generate a store; the same arguments give the same store.

    Args:
        users: How many users; each buys 5 to 40 items, about 11 on average.
        items: How many items, at least 20; 1,500 for 3,000 users make about 22 purchases each.
        seed: Seed of every random number.

    Raises:
        DataError: With fewer than 1 user or 20 items.
    """
    if users < 1:
        raise DataError(f"a store with {users} users was asked for; it needs at least 1.")
    generator = np.random.default_rng(seed)
    table, attributes = generate_catalog(items, generator)
    rules = Rules(attributes)
    lengths = _draw_lengths(users, items, generator)
    sequences = _draw_sequences(rules, lengths, generator)
    starts = FIRST_SECOND + generator.integers(START_WINDOW, size=users)
    gaps = generator.integers(60, LONGEST_GAP, size=sequences.shape)
    times = starts[:, None] + np.cumsum(gaps, axis=1)
    bought = np.arange(sequences.shape[1]) < lengths[:, None]
    user_ids = np.asarray([f"U{user:05d}" for user in range(users)])
    item_ids = np.asarray(table["item_id"].to_list())
    interactions = pl.DataFrame(
        {
            "user_id": np.repeat(user_ids, lengths).tolist(),
            "item_id": item_ids[sequences[bought]].tolist(),
            "timestamp": times[bought].astype(np.int64),
            "weight": np.ones(int(lengths.sum())),
        }
    )
    return Store(items=table, interactions=interactions, rules=rules)


def _draw_lengths(users: int, items: int, generator: np.random.Generator) -> NDArray[np.int64]:
    """Draw how much each user buys: at least SHORTEST, then a falling chance of one more."""
    longest = min(LONGEST, items // 2)
    more = 1 - 1 / (MEAN_LENGTH - SHORTEST + 1)
    chances = np.cumprod(np.full(longest - SHORTEST + 1, more))
    return generator.choice(
        np.arange(SHORTEST, longest + 1), size=users, p=chances / chances.sum()
    ).astype(np.int64)


def _draw_sequences(
    rules: Rules, lengths: NDArray[np.int64], generator: np.random.Generator
) -> NDArray[np.int64]:
    """Let all users shop step by step; rows past a user's length stay 0."""
    sequences = np.zeros((len(lengths), int(lengths.max())), dtype=np.int64)
    for step in range(sequences.shape[1]):
        shopping = np.flatnonzero(lengths > step)
        sequences[shopping, step] = rules.draw(sequences[shopping, :step], generator)
    return sequences


def _blocks(rows: int, columns: int) -> Iterator[slice]:
    """Cut rows into slices whose table of so many columns stays small in memory."""
    height = max(1, _BLOCK_CELLS // columns)
    for start in range(0, rows, height):
        yield slice(start, start + height)


def best_possible(
    store: Store,
    user_ids: Sequence[str],
    target_ids: Sequence[str],
    kept_item_ids: Sequence[str],
    cutoffs: Sequence[int] = CUTOFFS,
) -> dict[str, float]:
    """Return the best metrics any recommender can reach on these test events.

    The ranking is by true probability given everything the user bought before the event, among
    the kept items that the user does not have. When filters dropped items it knows more than a
    recommender can, so it stays an upper bound.

    Args:
        store: The store the events come from.
        user_ids: Outside user id of each test event.
        target_ids: Outside id of the item bought in each test event.
        kept_item_ids: Outside ids of the final catalogue.
        cutoffs: List lengths k.

    Returns:
        ``recall@k``, ``ndcg@k`` and ``mrr@k`` of that ranking on these very events, and
        ``expected_recall@k`` and so on: its mean over all that could have happened instead.
        Luck can lift a model above the first by a little, never above the second on average.

    Raises:
        DataError: When there is no event, or one is not of this store or its item was dropped.
    """
    kept = np.zeros(store.items.height, dtype=bool)
    kept[store.rows(kept_item_ids)] = True
    targets = store.rows(target_ids)
    if len(targets) == 0 or not kept[targets].all():
        raise DataError(
            f"best_possible needs test events of kept items; got {len(targets)} events, "
            f"{int((~kept[targets]).sum())} of dropped items."
        )
    prefixes = _histories_before(store, user_ids, targets)
    most = min(max(cutoffs), int(kept.sum()))
    ranks = np.empty(len(targets), dtype=np.int64)
    top = np.zeros(most)
    by_length: dict[int, list[int]] = {}
    for event, prefix in enumerate(prefixes):
        by_length.setdefault(len(prefix), []).append(event)
    for events in by_length.values():
        for block in _blocks(len(events), store.items.height):
            chosen = np.asarray(events[block])
            chances = store.rules.probabilities(np.stack([prefixes[event] for event in chosen]))
            chances[:, ~kept] = 0
            chances /= chances.sum(axis=1, keepdims=True)
            ranks[chosen] = _ranks(chances, targets[chosen])
            best = -np.partition(-chances, most - 1, axis=1)[:, :most]
            top += -np.sort(-best, axis=1).sum(axis=0)
    return _metrics(ranks, top / len(targets), cutoffs)


def _histories_before(
    store: Store, user_ids: Sequence[str], targets: NDArray[np.int64]
) -> list[NDArray[np.int64]]:
    """Return what each user bought before the target."""
    prefixes = []
    for user_id, target in zip(user_ids, targets, strict=True):
        sequence = store.sequences.get(user_id, np.zeros(0, dtype=np.int64))
        found = np.flatnonzero(sequence == target)
        if len(found) == 0:
            raise DataError(
                f"user {user_id!r} never buys {store.items['item_id'][int(target)]} in this "
                "store; give events of the store itself."
            )
        prefixes.append(sequence[: found[0]])
    return prefixes


def _ranks(chances: NDArray[np.float64], targets: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the rank of each target from 1, by chance, ties in catalogue order."""
    own = np.take_along_axis(chances, targets[:, None], axis=1)
    ahead = (chances > own).sum(axis=1)
    columns = np.arange(chances.shape[1])
    level = ((chances == own) & (columns < targets[:, None])).sum(axis=1)
    ranks: NDArray[np.int64] = 1 + ahead + level
    return ranks


def _metrics(
    ranks: NDArray[np.int64], top: NDArray[np.float64], cutoffs: Sequence[int]
) -> dict[str, float]:
    """Turn ranks, and the mean chance of each place of the list, into metrics."""
    place = np.arange(1, len(top) + 1)
    metrics: dict[str, float] = {}
    for name, gain, expected in (
        ("recall", np.ones(len(ranks)), np.ones(len(top))),
        ("ndcg", 1 / np.log2(ranks + 1), 1 / np.log2(place + 1)),
        ("mrr", 1 / ranks, 1 / place),
    ):
        for k in cutoffs:
            metrics[f"{name}@{k}"] = float(np.where(ranks <= k, gain, 0).mean())
            metrics[f"expected_{name}@{k}"] = float((top * expected)[:k].sum())
    return metrics

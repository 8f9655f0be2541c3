"""A forecast: how well could a generative model recommend with these codes?"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track

from genrec.cf.popularity import Popularity
from genrec.cf.transition import Transition
from genrec.data.histories import Histories
from genrec.errors import DataError
from genrec.evaluation.metrics import ndcg, recall, target_ranks
from genrec.tokenization.code_transitions import CodeTransitions
from genrec.tokenization.code_tree import CodeTree
from genrec.tokenization.item_pairs import ItemPairs

CUTOFF = 10
# Weight of the item before the last; about what makes held-out training pairs most likely.
SECOND_SHARE = 0.35
# Chances worked out in all, unless that makes too few users.
CHANCES = 2**26
FEWEST_USERS = 200
# Chances held at once (8 bytes each, a few tables of them).
CHANCES_AT_ONCE = 2**22

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


def forecast(
    codes: NDArray[np.int32],
    level_sizes: Sequence[int],
    sequences: Histories,
    validation: Histories,
    item_counts: NDArray[np.int64],
    *,
    seed: int,
    users: int = 4000,
    quiet: bool = True,
) -> dict[str, Any]:
    """Predict recall and NDCG of recommendations with these codes, before any model is trained.

    Ranks all items for a sample of validation users with ``CodeTransitions``: the chance of a
    tuple after the user's last item (weight 0.65), and two places later, after the item before
    it (0.35). Items of the history are left out. Items with the same tuple, or the same chance,
    are ranked by popularity, then by row. A hit is the item itself, never its codes.

    The figures are for comparing indices of one dataset. A trained model reads the whole history
    and the texts, so its own figures differ. Differences of recall below two standard errors say
    nothing; ``bits`` tells indices apart sooner. Even codes without meaning do well where the
    same items follow each other again and again, so ``bits_shuffled`` tells what the meaning adds.

    Args:
        codes: int32[n, L] of the index; tuples may be shared.
        level_sizes: Number of codes of each level.
        sequences: The users' training items, oldest first; all that is learned from.
        validation: Validation examples: histories and the item that came next.
        item_counts: int64[n], training events of each item.
        seed: Draws the users.
        users: Most users to look at. Items are ranked for fewer of them where the catalogue is
            large: users times items stay below 67 million, or there are 200 users.
        quiet: No progress bar.

    Returns:
        Plain values: ``users`` (number ranked for); ``recall@10`` and ``ndcg@10``, each with its
        standard error (``recall@10_error``, ``ndcg@10_error``); ``bits_users`` (number looked
        at) and ``bits``, their mean of ``-log2(chance of the item that came next)``, lower is
        better; ``bits_shuffled``, the same for the same tuples handed out to the items at random;
        and ``transition``, recall and NDCG on the users ranked for with plain counts of which
        item followed which, the yardstick.

    Raises:
        DataError: When there is no validation example, or the tables are not of one catalogue.
    """
    _check(codes, validation, item_counts)
    generator = np.random.default_rng(seed)
    chosen = generator.choice(len(validation), size=min(users, len(validation)), replace=False)
    sample = validation.take(chosen)
    ranked = sample.take(np.arange(min(len(sample), max(FEWEST_USERS, CHANCES // len(codes)))))
    popularity = Popularity(item_counts)
    model = _Model.fit(codes, level_sizes, sequences, popularity)
    shuffled = generator.permutation(codes)
    without_meaning = _Model.fit(shuffled, level_sizes, sequences, popularity)
    return {
        "users": len(ranked),
        **_figures(_ranks(model, ranked, quiet)),
        "bits_users": len(sample),
        "bits": model.bits(sample),
        "bits_shuffled": without_meaning.bits(sample),
        "transition": _figures(_transition_ranks(sequences, ranked, popularity)),
    }


def _check(codes: NDArray[np.int32], validation: Histories, counts: NDArray[np.int64]) -> None:
    if not len(validation):
        raise DataError("there is no validation example to forecast for; split the data first.")
    if len(counts) != len(codes):
        raise DataError(f"item_counts has {len(counts)} rows for {len(codes)} items.")
    for name, rows in (("targets", validation.target), ("histories", validation.items)):
        if len(rows) and (rows.min() < 0 or rows.max() >= len(codes)):
            raise DataError(
                f"the {name} of the validation examples name rows {rows.min()} to {rows.max()}, "
                f"but there are {len(codes)} items; codes and examples must be of one dataset."
            )


@dataclass(frozen=True)
class _Model:
    """Two next-code models, of the last item and of the one before it, and popularity."""

    tree: CodeTree
    last: CodeTransitions
    second: CodeTransitions
    popularity: Popularity

    @classmethod
    def fit(
        cls,
        codes: NDArray[np.int32],
        level_sizes: Sequence[int],
        sequences: Histories,
        popularity: Popularity,
    ) -> Self:
        tree = CodeTree.of(codes, level_sizes)
        last, second = (
            CodeTransitions.fit(tree, ItemPairs.of(sequences, len(codes), gap=gap))
            for gap in (1, 2)
        )
        return cls(tree, last, second, popularity)

    def chances(self, block: Histories) -> Floats:
        """Return the chance of each tuple after each history, float64[r, tuples]."""
        last, second = (_item_before(block, places) for places in (1, 2))
        share = np.where(second >= 0, SECOND_SHARE, 0.0)[:, None]
        chance = self.last.chances(last)
        chance *= 1 - share
        chance += self.second.chances(second) * share
        return chance

    def bits(self, sample: Histories) -> float:
        """Return the mean bits of the targets.

        An item's share of its tuple is its share of the tuple's training events, with one added
        to each item.
        """
        last, second = (_item_before(sample, places) for places in (1, 2))
        target = sample.target.astype(np.int64)
        share = np.where(second >= 0, SECOND_SHARE, 0.0)
        chance = self.last.chances_of(last, target) * (1 - share)
        chance += self.second.chances_of(second, target) * share
        events, number = self.popularity.counts + 1.0, self.tree.node[:, -1]
        chance *= (events / np.bincount(number, weights=events)[number])[target]
        return round(float(-np.log2(chance).mean()), 3)


def _ranks(model: _Model, sample: Histories, quiet: bool) -> Ints:
    """Return the place of each target among all items, from 1; 0 where the history has it."""
    place = np.empty(len(model.tree.node), dtype=np.int64)
    place[model.popularity.order] = np.arange(len(place))
    rows = max(1, CHANCES_AT_ONCE // len(place))
    ranks = []
    for start in track(
        range(0, len(sample), rows), "forecast", console=Console(stderr=True), disable=quiet
    ):
        block = sample.take(np.arange(start, min(start + rows, len(sample))))
        chance = model.chances(block)[:, model.tree.node[:, -1]]
        ranks.append(_target_places(chance, block, place))
    return np.concatenate(ranks)


def _item_before(block: Histories, places: int) -> Ints:
    """Return the item so many places before the target, int64[r]; -1 where there is none."""
    there = block.lengths >= places
    items = np.full(len(block), -1, dtype=np.int64)
    items[there] = block.items[block.offsets[1:][there] - places]
    return items


def _target_places(chance: Floats, block: Histories, place: Ints) -> Ints:
    """Return the rank of each target by chance float64[r, n], equal ones by place int64[n]."""
    rows = np.arange(len(block))
    target = block.target
    chance[np.repeat(rows, block.lengths), block.items] = -1.0
    own = chance[rows, target]
    ahead = chance > own[:, None]
    ahead |= (chance == own[:, None]) & (place < place[target][:, None])
    return np.where(own >= 0, ahead.sum(axis=1) + 1, 0)


def _transition_ranks(sequences: Histories, sample: Histories, popularity: Popularity) -> Ints:
    histories = [sample[row] for row in range(len(sample))]
    lists = Transition.count(sequences, popularity).rank(histories, CUTOFF, exclude=histories)
    lengths = [len(ranking.items) for ranking in lists]
    return target_ranks(
        sample.target,
        np.repeat(np.arange(len(sample)), lengths),
        np.concatenate([ranking.items for ranking in lists]),
        np.concatenate([np.arange(1, length + 1, dtype=np.int32) for length in lengths]),
    )


def _figures(ranks: Ints) -> dict[str, float]:
    """Return recall and NDCG with their standard errors."""
    figures: dict[str, float] = {}
    for name, metric in (("recall", recall), ("ndcg", ndcg)):
        values = metric(ranks, CUTOFF)
        error = values.std(ddof=1) / np.sqrt(len(values)) if len(values) > 1 else 0.0
        figures[f"{name}@{CUTOFF}"] = round(float(values.mean()), 4)
        figures[f"{name}@{CUTOFF}_error"] = round(float(error), 4)
    return figures

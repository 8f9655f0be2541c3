"""New items in an index that a model was trained on: the nearest free tuple, and nothing moves.

The quantizer stays as it is. Every new item is encoded; if its tuple is taken it gets the nearest
free one under the same prefix (all codes but the last), and when that prefix is full the nearest
free one under the prefixes around it, ever more of them until one is found. Of two new items that
want the same place the nearer gets it, as in ``collisions``. Ties go to the smaller item id, then
to the smaller codes, so the order of the items plays no part.

A new item only gets codes that the model has learned, those that some item with training events
carries in the index it was trained on: the token of any other code was never a target, so its row
in the model is what it was at the start, and an item behind it could not be ranked. Tuples of
known codes may be new; that is what the model makes of codes it knows.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from genrec.errors import ConfigError, DataError
from genrec.semantic_ids.item_index import ItemIndex
from genrec.tokenization.collisions import Ints, dense_ids, position_in_group, ranks
from genrec.tokenization.free_tuples import Matched, Matching
from genrec.tokenization.quantizer import Quantizer
from genrec.tokenization.tuple_space import UNLIMITED, TupleSpace

NO_FREE_TUPLE = "every tuple of codes that the model knows is taken by a nearer item"


@dataclass(frozen=True)
class Refused:
    """A new item that got no codes: its row, its id and why."""

    row: int
    item_id: str
    reason: str


@dataclass(frozen=True)
class Added:
    """What became of new items.

    Attributes:
        rows: int64[a], rows of the new items that got codes, ascending.
        codes: int32[a, L], the codes of each.
        moved: bool[a], true where the first codes of an item were taken, so it got others.
        distance: float64[a], squared distance between an item and what its codes stand for;
            infinite for a code that stands for no vector.
        own_distance: float64[a], squared distance to what it would have got if it were alone.
        refused: The others, by row.
    """

    rows: Ints
    codes: NDArray[np.int32]
    moved: NDArray[np.bool_]
    distance: NDArray[np.float64]
    own_distance: NDArray[np.float64]
    refused: tuple[Refused, ...]


def codes_in_use(
    index: ItemIndex, item_counts: NDArray[np.integer] | None = None
) -> list[NDArray[np.bool_]]:
    """Return for each level bool[K_l], true for the codes that some item carries.

    Args:
        index: The codes.
        item_counts: int[n], training events of each item: items without any are passed over, for
            no model learned their codes. None takes all items, as when no item has any.
    """
    rows = np.ones(len(index), dtype=bool)
    if item_counts is not None and (np.asarray(item_counts) > 0).any():
        rows = np.asarray(item_counts) > 0
    return [
        np.bincount(codes[rows], minlength=size) > 0
        for codes, size in zip(index.codes.T, index.level_sizes, strict=True)
    ]


def add_items(
    index: ItemIndex,
    quantizer: Quantizer | None,
    x_new: NDArray[np.float32],
    new_ids: Sequence[str],
    existing_ids: Sequence[str],
    *,
    codes_known: Sequence[NDArray[np.bool_]],
    quiet: bool = True,
) -> Added:
    """Give codes to new items without changing those of any item that is there.

    In an index with one level more than the quantizer has, that level counts the items of a
    tuple: a new item gets the smallest digit that is free, nearer items first, and another tuple
    where none is. In a shared index every item keeps its nearest tuple.

    Args:
        index: The items that are there.
        quantizer: What made their codes; None when the method has none.
        x_new: float32[m, d], vectors of the new items, in the space the quantizer learned from.
        new_ids: Outside id of each new item; they break ties.
        existing_ids: Outside id of each item of the index.
        codes_known: For each level of the index bool[K_l], the codes that new items may get (see
            ``codes_in_use``).
        quiet: No progress bar.

    Raises:
        ConfigError: When the index was made without a quantizer, or by another one.
        DataError: When an id is there twice, ids and vectors differ in number, a level has no
            known code or the vectors cannot be used.
    """
    quantizer = usable_quantizer(index, quantizer)
    _check_ids(index, new_ids, existing_ids)
    _check_known(index, codes_known)
    rank = ranks(new_ids, len(x_new))
    levels = len(quantizer.level_sizes)
    digits = codes_known[levels] if index.levels > levels else np.ones(1, dtype=bool)
    places = UNLIMITED if index.shared else int(digits.sum())
    space = TupleSpace(quantizer, index, codes_known[:levels], places)
    matched = Matching(space, x_new, rank).run(quiet)
    rows = np.flatnonzero(matched.placed)
    codes = matched.codes[rows]
    if index.levels > levels:
        codes = _with_digits(index, matched, rank, digits)
    return Added(
        rows=rows,
        codes=codes,
        moved=(matched.codes != matched.own_codes).any(axis=1)[rows],
        distance=matched.distance[rows],
        own_distance=matched.own_distance[rows],
        refused=tuple(
            Refused(row, new_ids[row], NO_FREE_TUPLE)
            for row in np.flatnonzero(~matched.placed).tolist()
        ),
    )


def usable_quantizer(index: ItemIndex, quantizer: Quantizer | None) -> Quantizer:
    """Return the quantizer of an index.

    Raises:
        ConfigError: When there is none, or it has other levels than the index.
    """
    method = index.facts.get("method", "unknown")
    if quantizer is None and method == "imported":
        raise ConfigError(
            "the index was read from a file, and what made its codes is not here. Let the program "
            "that made them encode the new items, and import the codes of the whole catalogue."
        )
    if quantizer is None:
        raise ConfigError(
            f"the index was made by method {method!r}, which names a whole catalogue at once and "
            "cannot encode an item that comes later. Put the new items into the data, and make "
            "the index and the model again."
        )
    sizes = tuple(quantizer.level_sizes)
    if index.level_sizes[: len(sizes)] != sizes or index.levels > len(sizes) + 1:
        raise ConfigError(
            f"the index has level sizes {index.level_sizes}, the quantizer {sizes}; they do not "
            "belong together. Make the index again."
        )
    return quantizer


def _check_ids(index: ItemIndex, new_ids: Sequence[str], existing_ids: Sequence[str]) -> None:
    if len(existing_ids) != len(index):
        raise DataError(f"there are {len(existing_ids)} item ids for {len(index)} rows of codes.")
    known = set(existing_ids)
    twice = [item_id for item_id in new_ids if item_id in known]
    if twice:
        raise DataError(
            f"{len(twice)} of {len(new_ids)} new items are in the index already, as "
            f"{twice[0]!r}; leave them out."
        )


def _check_known(index: ItemIndex, codes_known: Sequence[NDArray[np.bool_]]) -> None:
    sizes = tuple(len(known) for known in codes_known)
    if sizes != index.level_sizes or not all(known.any() for known in codes_known):
        raise DataError(
            f"codes_known is for levels of {sizes} codes, expected {index.level_sizes} with at "
            "least one known code a level."
        )


def _with_digits(
    index: ItemIndex, matched: Matched, rank: Ints, digits: NDArray[np.bool_]
) -> NDArray[np.int32]:
    """Append to each placed item the smallest free digit of its tuple, nearer items first."""
    rows = np.flatnonzero(matched.placed)
    codes = matched.codes[rows]
    group = dense_ids(codes)
    position = position_in_group(group, matched.distance[rows], rank[rows])
    tuples = np.unique(group, return_index=True)[1]
    # The items that are there, by tuple without the digit.
    there = ItemIndex(index.codes[:, :-1], index.level_sizes[:-1], {}, shared=True)
    holders, offsets = there.rows_of(codes[tuples])
    free = np.tile(digits, (len(tuples), 1))
    free[np.repeat(np.arange(len(tuples)), np.diff(offsets)), index.codes[holders, -1]] = False
    # The p-th free digit is the first up to which p + 1 are free.
    nth = np.cumsum(free, axis=1)[group] == position[:, None] + 1
    return np.column_stack([codes, nth.argmax(axis=1)]).astype(np.int32)

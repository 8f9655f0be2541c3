"""Numbers as IDs: random, one code an item, and in the order of the training sequences.

Hua, Xu, Ge, Zhang, "How to Index Item IDs for Recommendation Foundation Models", SIGIR-AP 2023:
random, independent and sequential indexing. The paper writes numbers as text, which the tokenizer
of its language model cuts into pieces; here each digit is a code, so close numbers share all codes
but the last, as pieces do in the paper.

None of them can give codes to an item that is not in the tables.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from genrec.data.histories import Histories
from genrec.errors import DataError
from genrec.tokenization.collisions import ranks
from genrec.tokenization.indexer import ItemTables, Need, Proposal

Ints = NDArray[np.int64]


class RandomIndexer:
    """Every item gets a random number of its own, written in digits (RID).

    The number depends on the seed, on the item's id and on the other ids, not on rows.
    """

    name = "random"
    needs: frozenset[Need] = frozenset()

    def __init__(self, digit_base: int = 100) -> None:
        """Set the size of a digit.

        Args:
            digit_base: Codes of a level; the first has no more than it needs.
        """
        self.digit_base = digit_base

    def propose(self, tables: ItemTables, seed: int) -> Proposal:
        """Give every item a tuple of its own; see ``Indexer.propose``."""
        tables.require()
        codes, sizes = digits(shuffled_places(tables.item_ids, seed), self.digit_base)
        return Proposal(codes, sizes, None, {"digit_base": self.digit_base})


class IndependentIndexer:
    """Every item gets one code of its own, so one new token (IID), in the order of item ids.

    Rows and seed play no part.
    """

    name = "independent"
    needs: frozenset[Need] = frozenset()

    def propose(self, tables: ItemTables, seed: int) -> Proposal:
        """Give every item a code of its own; see ``Indexer.propose``."""
        tables.require()
        place = ranks(tables.item_ids, len(tables))
        return Proposal(place.astype(np.int32)[:, None], (len(tables),), None)


class SequentialIndexer:
    """Items are numbered as they first appear in the training sequences, user after user (SID).

    Items that one user takes one after the other often get close numbers, so they share all digits
    but the last. Users come in the order of the table; items that nobody takes in the training
    part are numbered after all others, in the order of their ids. Rows and seed play no part.
    """

    name = "sequential"
    needs: frozenset[Need] = frozenset({"sequences"})

    def __init__(self, digit_base: int = 100) -> None:
        """Set the size of a digit.

        Args:
            digit_base: Codes of a level; the first has no more than it needs.
        """
        self.digit_base = digit_base

    def propose(self, tables: ItemTables, seed: int) -> Proposal:
        """Give every item a tuple of its own; see ``Indexer.propose``."""
        sequences = training_sequences(tables)
        seen, first = np.unique(sequences.items, return_index=True)
        appears = np.full(len(tables), len(sequences.items))
        appears[seen] = first
        order = np.lexsort((ranks(tables.item_ids, len(tables)), appears))
        number = np.empty(len(tables), dtype=np.int64)
        number[order] = np.arange(len(tables))
        codes, sizes = digits(number, self.digit_base)
        facts = {"digit_base": self.digit_base, "unseen_items": len(tables) - len(seen)}
        return Proposal(codes, sizes, None, facts)


def digits(numbers: Ints, base: int) -> tuple[NDArray[np.int32], tuple[int, ...]]:
    """Write the numbers 0 to n - 1 in digits, the most significant first.

    Args:
        numbers: int64[n], each of 0 to n - 1 once.
        base: Values of a digit.

    Returns:
        int32[n, L], with as many digits as n - 1 needs, and the number of values of each digit:
        ``base``, but for the first only those that occur.

    Example:
        >>> codes, sizes = digits(np.array([0, 24, 7, *range(1, 7), *range(8, 24)]), 10)
        >>> codes[:3].tolist(), sizes
        ([[0, 0], [2, 4], [0, 7]], (3, 10))
    """
    n = len(numbers)
    power = 1
    columns = [numbers % base]
    while power * base < n:
        power *= base
        columns.append(numbers // power % base)
    codes = np.stack(columns[::-1], axis=1).astype(np.int32)
    return codes, (-(-n // power), *[base] * (len(columns) - 1))


def shuffled_places(item_ids: Sequence[str], seed: int) -> Ints:
    """Give every item a place in a random order, int64[n], by its id, whatever its row.

    Raises:
        DataError: When an id occurs twice.
    """
    order = np.random.default_rng(seed).permutation(len(item_ids))
    place: Ints = order[ranks(item_ids, len(item_ids))]
    return place


def training_sequences(tables: ItemTables) -> Histories:
    """Return the users' training items.

    Raises:
        DataError: When the table is missing, empty or names rows that are not there.
    """
    tables.require("sequences")
    sequences = tables.sequences
    if sequences is None or not len(sequences.items):
        raise DataError(
            "the training sequences hold no event, so they give items no order and no likeness; "
            "this way to index items needs some."
        )
    lowest, highest = int(sequences.items.min()), int(sequences.items.max())
    if lowest < 0 or highest >= len(tables):
        raise DataError(
            f"the training sequences name rows {lowest} to {highest}, expected 0 to "
            f"{len(tables) - 1}; sequences and items are not of the same dataset."
        )
    return sequences

"""Groups of items that a model names for a history: what it learns from when it is rewarded.

Beam search over the catalogue gives the items: all of them are real and no two are equal, which
drawing at random would give for a strong model only (MiniOneRec, arXiv 2510.24431).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from genrec.decoding.ranker import GenerativeRanker
from genrec.decoding.rules import RowRules
from genrec.semantic_ids.item_index import ItemIndex


@dataclass(frozen=True)
class Groups:
    """The items named for each of B histories.

    Attributes:
        items: int64[B, G], catalogue rows, best first; -1 where there are no more.
        hits: bool[B, G], true for items with the codes of the true item: the model cannot tell
            items with equal codes apart.
        hints: int64[B], codes of the true item that were given away.
    """

    items: NDArray[np.int64]
    hits: NDArray[np.bool_]
    hints: NDArray[np.int64]

    @property
    def real(self) -> NDArray[np.bool_]:
        """Where there is an item, bool[B, G]."""
        return self.items >= 0


def draw_groups(
    ranker: GenerativeRanker,
    histories: Sequence[NDArray[np.int32]],
    targets: NDArray[np.int64],
    size: int,
    *,
    hint_codes: int = 0,
    exclude_seen: bool = True,
) -> Groups:
    """Let a model name items for histories.

    Where none of them is the true one, the search is done again among the items that begin with
    its first code, then its first two codes, and so on: hints, without which a hard history
    teaches nothing.

    Args:
        ranker: Searches with the model as it is now.
        histories: Catalogue rows, oldest first.
        targets: int64[B], the item that was chosen next.
        size: Items in a group.
        hint_codes: Most codes that are given away; one is always left to the model.
        exclude_seen: Name no item of the history.
    """
    index = ranker.model.index
    none = np.zeros(0, dtype=np.int32)
    seen = [history if exclude_seen else none for history in histories]
    items = np.full((len(histories), size), -1, dtype=np.int64)
    hits = np.zeros(items.shape, dtype=bool)
    hints = np.zeros(len(histories), dtype=np.int64)
    wanted = list(range(len(histories)))
    for given in range(min(hint_codes, index.levels - 1) + 1):
        rules = [
            RowRules(excluded=seen[row], allowed=_beginning_alike(index, targets[row], given))
            for row in wanted
        ]
        answers = ranker.rank([histories[row] for row in wanted], size, rules=rules)
        for row, answer in zip(wanted, answers, strict=True):
            items[row, : len(answer)] = answer.items
            items[row, len(answer) :] = -1
            same = index.codes[items[row]] == index.codes[targets[row]]
            hits[row] = same.all(1) & (items[row] >= 0)
            hints[row] = given
        wanted = [row for row in wanted if not hits[row].any()]
        if not wanted:
            break
    return Groups(items, hits, hints)


def _beginning_alike(index: ItemIndex, row: np.int64, codes: int) -> NDArray[np.int64] | None:
    """Return the rows whose first codes are those of a row; None for all rows."""
    if codes == 0:
        return None
    return np.flatnonzero((index.codes[:, :codes] == index.codes[row, :codes]).all(1))

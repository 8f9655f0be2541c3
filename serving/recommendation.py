"""The answer to a history: items to show, and everything worth knowing about them."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class RecommendedItem:
    """One item of a list: its outside id, its score, its rank from 1 and what to show people."""

    item_id: str
    score: float
    rank: int
    title: str


@dataclass(frozen=True)
class Recommendation:
    """The answer to one history.

    Attributes:
        items: Best first; all in the catalogue, none twice.
        unknown_items: Ids of the history that the catalogue does not have, each once.
        fallback: None when the model answered; else what answered in its place, and why.
        shortfall: None when there are k items; else why there are fewer.
        rules: The rules that were kept to, in words.
        score: What the scores are: ``level`` or ``exact`` logarithms of probabilities (see
            ``CodeHead``), ``sum`` of those of both sides (see ``HybridRanker``), or ``count``.
        history_read: Items of the history that were read, the newest ones.
    """

    items: list[RecommendedItem]
    unknown_items: list[str]
    fallback: str | None
    shortfall: str | None
    rules: list[str] = field(default_factory=list)
    score: str = "level"
    history_read: int = 0


def popular_instead(history: Sequence[str], known: Sequence[int] | NDArray[np.int32]) -> str | None:
    """Say that popularity answers, and why; None where the model does.

    Args:
        history: Item ids that were sent.
        known: Rows of those that the catalogue has.
    """
    if len(known):
        return None
    return f"popularity: the history {'holds no known item' if len(history) else 'is empty'}"

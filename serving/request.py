"""What a recommender may be asked, checked before anything is looked up."""

from collections.abc import Mapping, Sequence
from reprlib import repr as shortened
from typing import Any

import numpy as np

from genrec.errors import RequestError
from genrec.serving.rules import Rules

_EXAMPLE = '[["ID1", "ID2"]]'


def check_request(histories: Sequence[Sequence[str]], k: int) -> None:
    """Check histories and k.

    Args:
        histories: Item ids of each user, oldest first.
        k: Number of items wanted.

    Raises:
        RequestError: When k is no whole number from 1, or a history is no list of texts.
    """
    if isinstance(k, bool) or not isinstance(k, int | np.integer):
        raise RequestError(f"k must be a whole number, got {shortened(k)}.")
    if k < 1:
        raise RequestError(f"k must be at least 1, got {k}.")
    check_lists(histories)


def check_lists(
    lists: Sequence[Sequence[str]], one: str = "history", several: str = "histories"
) -> None:
    """Check lists of item ids, one a user.

    Args:
        lists: Histories, or what stands beside them.
        one: What errors call one of them.
        several: What errors call all of them.

    Raises:
        RequestError: When one is no list of texts.
    """
    wanted = f"{several} must be a list of lists of item ids, got"
    if isinstance(lists, str):
        raise RequestError(f"{wanted} the text {shortened(lists)}; write {_EXAMPLE}.")
    if not _is_list(lists):
        raise RequestError(f"{wanted} {_kind(lists)}; write {_EXAMPLE}.")
    for number, each in enumerate(lists):
        if isinstance(each, str) or not _is_list(each):
            found = f"the text {shortened(each)}" if isinstance(each, str) else _kind(each)
            raise RequestError(
                f"{one} {number} is {found}, expected a list of item ids; one user is {_EXAMPLE}."
            )
        for item_id in each:
            if not isinstance(item_id, str):
                raise RequestError(
                    f"{one} {number} holds {shortened(item_id)} of type "
                    f"{type(item_id).__name__}; item ids are texts, use str(id)."
                )


def rules_of_each(
    rules: Rules | Sequence[Rules] | None, histories: int, exclude_seen: bool
) -> list[Rules]:
    """Return the rules of each history.

    Args:
        rules: One for all, one a history, or None.
        histories: Number of histories.
        exclude_seen: What takes the place of rules where there are none.

    Raises:
        RequestError: When they are no ``Rules``, or not one a history.
    """
    if rules is None:
        return [Rules(exclude_seen=exclude_seen)] * histories
    if isinstance(rules, Rules):
        return [rules] * histories
    if not _is_list(rules) or not all(isinstance(each, Rules) for each in rules):
        raise RequestError(
            f"rules is {shortened(rules)}, expected Rules(deny=[...], ...) or a list with one a "
            "history."
        )
    if len(rules) != histories:
        raise RequestError(
            f"there are {len(rules)} rules for {histories} histories; give one each."
        )
    return list(rules)


def _is_list(value: Any) -> bool:  # noqa: ANN401 - anything may be given
    """Tell a sequence, arrays and data frame columns included, from what has no order or end."""
    ordered = hasattr(value, "__len__") and hasattr(value, "__getitem__")
    return ordered and not isinstance(value, Mapping)


def _kind(value: Any) -> str:  # noqa: ANN401 - anything may be given
    return f"{shortened(value)} of type {type(value).__name__}"

"""What a list may hold, in the words of those who ask: ids and attributes, not rows."""

import hashlib
import json
from collections import OrderedDict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from reprlib import repr as shortened
from typing import Any

import numpy as np
from numpy.typing import NDArray

from genrec.data.catalog import Catalog
from genrec.decoding.attribute_filter import matching, plain_numbers
from genrec.decoding.item_mask import ItemMask
from genrec.decoding.rules import Bound, RowRules
from genrec.decoding.trie import PrefixTrie
from genrec.errors import RequestError

FIRST_CODE = "first_code"
LARGEST_BOOST = 1000.0
# Answers to attribute rules that are kept; each holds some bytes an item.
KEPT = 32


@dataclass(frozen=True)
class Rules:
    """What a list may hold and would rather hold; the search itself keeps to it.

    Attributes:
        exclude_seen: Never recommend an item of the history.
        deny: Ids that must not be returned; unknown ones are harmless.
        allow: The only ids that may be returned; None allows all, an empty list nothing.
        where: An expression over item attributes; see ``genrec.decoding.attribute_filter``.
        named: Names of sets of items, such as ``in_stock``, all of which must hold an item.
        at_most: Attribute -> items with the same value in one list; ``first_code`` bounds the
            items of one first code, which spreads a list over interests.
        boosts: Id -> what is added to its score, a logarithm of probability: 0.7 doubles it.

    Raises:
        RequestError: When an entry is of another kind, such as one id in place of a list.
    """

    exclude_seen: bool = True
    deny: Sequence[str] = ()
    allow: Sequence[str] | None = None
    where: Mapping[str, Any] | None = None
    named: Sequence[str] = ()
    at_most: Mapping[str, int] = field(default_factory=dict)
    boosts: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not isinstance(self.exclude_seen, bool):
            raise RequestError(
                f"exclude_seen is {shortened(self.exclude_seen)}, expected true or false."
            )
        for name in ("deny", "allow", "named"):
            value = getattr(self, name)
            if name == "allow" and value is None:
                continue
            _require_list_of_texts(name, value)
        for name in ("where", "at_most", "boosts"):
            value = getattr(self, name)
            if name == "where" and value is None:
                continue
            if not isinstance(value, Mapping):
                raise RequestError(f"{name} is {shortened(value)}, expected a mapping.")
            _require_texts(f"{name} has the key", value)


def _require_list_of_texts(name: str, value: Any) -> None:  # noqa: ANN401 - anything may be given
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise RequestError(f"{name} is {shortened(value)}, expected a list of texts.")
    _require_texts(f"{name} holds", value)


def _require_texts(where: str, values: Iterable[Any]) -> None:
    for value in values:
        if not isinstance(value, str):
            raise RequestError(f"{where} {shortened(value)}, expected texts; use str(id).")


class RuleBook:
    """Turns rules into rows of one catalogue; keeps sets of items that many requests share.

    Args:
        catalog: The items.
        trie: Their codes.
    """

    def __init__(self, catalog: Catalog, trie: PrefixTrie) -> None:
        self.catalog, self.trie = catalog, trie
        self._named: dict[str, ItemMask] = {}
        self._answers: OrderedDict[str, ItemMask] = OrderedDict()
        self._groups: dict[str, NDArray[np.int64]] = {}

    def name(self, name: str, item_ids: Sequence[str]) -> list[str]:
        """Make a set of items that rules can name; it replaces one of the same name.

        Returns:
            The ids that the catalogue does not have; they are left out.

        Raises:
            RequestError: When the ids are no list of texts.
        """
        _require_list_of_texts("item_ids", item_ids)
        rows, unknown = self.catalog.rows(item_ids)
        flags = np.zeros(len(self.catalog), dtype=bool)
        flags[rows] = True
        self._named[name] = ItemMask.of(self.trie, flags)
        return unknown

    def change(self, name: str, item_ids: Sequence[str], inside: bool) -> list[str]:
        """Put items into a named set, or take them out; the next request keeps to it.

        A search that is going on may see the change half way: its list keeps to one of both and
        can be shorter than k.

        Returns:
            The ids that the catalogue does not have; they are left out.

        Raises:
            RequestError: When there is no set of this name, or the ids are no list of texts.
        """
        _require_list_of_texts("item_ids", item_ids)
        rows, unknown = self.catalog.rows(item_ids)
        self._set(name).set(np.asarray(rows, dtype=np.int64), inside)
        return unknown

    def digest(self, name: str) -> str:
        """Return what identifies the items that a named set holds now.

        Raises:
            RequestError: When there is no set of this name.
        """
        return hashlib.sha256(self._set(name).allowed.cpu().numpy().tobytes()).hexdigest()

    def compile(self, rules: Rules) -> RowRules:
        """Return rules by row; what a history adds to them is not in it yet.

        Args:
            rules: What was asked for.

        Raises:
            RequestError: When a rule names an attribute or a set that is not there, or holds a
                number that is out of bounds.
        """
        excluded = self.catalog.rows(rules.deny)[0]
        allowed = None if rules.allow is None else self.catalog.rows(rules.allow)[0]
        masks = [self._set(name) for name in rules.named]
        if rules.where is not None:
            masks.append(self._answer(rules.where))
        most = {name: _whole(name, number) for name, number in rules.at_most.items()}
        per_code = most.pop(FIRST_CODE, None)
        return RowRules(
            excluded=np.asarray(excluded, dtype=np.int64),
            allowed=None if allowed is None else np.asarray(allowed, dtype=np.int64),
            masks=tuple(masks),
            boosts=self._boosts(rules.boosts),
            most_per_code=per_code,
            bounds=tuple(Bound(self._groups_of(name), number) for name, number in most.items()),
        )

    def _set(self, name: str) -> ItemMask:
        if name not in self._named:
            known = ", ".join(sorted(self._named)) or "none yet"
            raise RequestError(
                f"there is no set of items called {shortened(name)}; there are: {known}."
            )
        return self._named[name]

    def _answer(self, where: Mapping[str, Any]) -> ItemMask:
        """Return the items an expression holds for; the same expression is answered once."""
        try:
            key = json.dumps(where, sort_keys=True)
        except (TypeError, ValueError, RecursionError) as error:
            raise RequestError(f"where is no JSON ({error}).") from error
        if key not in self._answers:
            flags = matching(self.catalog.table, where)
            self._answers[key] = ItemMask.of(self.trie, flags)
        self._answers.move_to_end(key)
        while len(self._answers) > KEPT:
            self._answers.popitem(last=False)
        return self._answers[key]

    def _groups_of(self, name: str) -> NDArray[np.int64]:
        """Return a number for each value of an attribute; -1 where it is missing."""
        if name not in self._groups:
            table = self.catalog.table
            if name not in table.columns:
                raise RequestError(
                    f"items have no attribute {shortened(name)}; at_most takes {FIRST_CODE} or one "
                    f"of {', '.join(table.columns)}."
                )
            values = plain_numbers(table.select(name))[name]
            groups = values.rank("dense").cast(int) if not values.dtype.is_nested() else None
            if groups is None:
                raise RequestError(
                    f"attribute {name!r} is {values.dtype}; at_most needs one value an item."
                )
            self._groups[name] = groups.fill_null(-1).to_numpy().astype(np.int64)
        return self._groups[name]

    def _boosts(self, boosts: Mapping[str, float]) -> dict[int, float]:
        rows = {}
        for item_id, value in boosts.items():
            number = isinstance(value, int | float) and not isinstance(value, bool)
            if not number or not abs(value) <= LARGEST_BOOST:
                raise RequestError(
                    f"the boost of {item_id!r} is {shortened(value)}, expected a number between "
                    f"-{LARGEST_BOOST:g} and {LARGEST_BOOST:g}."
                )
            for row in self.catalog.rows([item_id])[0]:
                rows[row] = float(value)
        return rows


def in_words(rules: Rules, compiled: RowRules) -> list[str]:
    """Return which rules are in force, for an answer; ids that name no item are counted.

    Args:
        rules: What was asked for.
        compiled: What ``RuleBook.compile`` made of it.
    """
    allowed = len(compiled.allowed) if compiled.allowed is not None else 0
    found = ["exclude_seen"] if rules.exclude_seen else []
    found += [f"deny ({_ids(rules.deny, len(compiled.excluded))})"] if rules.deny else []
    found += [f"allow ({_ids(rules.allow, allowed)})"] if rules.allow is not None else []
    found += ["where"] if rules.where is not None else []
    found += [f"named {name}" for name in rules.named]
    found += [f"at most {most} per {name}" for name, most in rules.at_most.items()]
    boosts = f"boosts ({_ids(rules.boosts, len(compiled.boosts))})"
    return [*found, boosts] if rules.boosts else found


def _ids(item_ids: Collection[str], known: int) -> str:
    unknown = len(item_ids) - known
    text = f"{len(item_ids)} ids"
    return f"{text}, {unknown} not in the catalogue" if unknown else text


def _whole(name: str, number: int) -> int:
    if isinstance(number, bool) or not isinstance(number, int) or number < 1:
        raise RequestError(
            f"at_most[{name!r}] is {shortened(number)}, expected a whole number from 1."
        )
    return number

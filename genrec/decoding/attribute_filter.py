"""Rules about item attributes: a small typed expression, read from JSON, answered for all items.

An expression is one of

- ``{"attribute": "price", "op": "<=", "value": 20}``; the operators are ``==``, ``!=``, ``<``,
  ``<=``, ``>``, ``>=``, ``in`` and ``not_in`` (value is a list), ``contains`` (a list holds the
  value, a text holds it as a part) and ``is_missing`` (value is true or false);
- ``{"all": [expression, ...]}``, ``{"any": [expression, ...]}``, ``{"not": expression}``.

What is missing satisfies nothing but ``is_missing``: an item without a price is neither cheap nor
dear, and neither is it when the rule is turned around.
"""

from collections.abc import Callable, Mapping
from reprlib import repr as shortened
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from genrec.errors import RequestError

MOST_PARTS = 100
DEEPEST = 10
# Numbers below it fit a 64-bit integer.
LARGEST_NUMBER = 2**63

_COMPARE: dict[str, Callable[[pl.Expr, Any], pl.Expr]] = {
    "==": lambda column, value: column == value,
    "!=": lambda column, value: column != value,
    "<": lambda column, value: column < value,
    "<=": lambda column, value: column <= value,
    ">": lambda column, value: column > value,
    ">=": lambda column, value: column >= value,
}
OPERATORS = (*_COMPARE, "in", "not_in", "contains", "is_missing")
_FORMS = "attribute with op and value, or all, any or not"


def matching(table: pl.DataFrame, expression: Mapping[str, Any]) -> NDArray[np.bool_]:
    """Return which items satisfy an expression, bool[n].

    Args:
        table: One row an item, one column an attribute.
        expression: See above.

    Raises:
        RequestError: When the expression is not one; the message names what is valid.

    Example:
        >>> table = pl.DataFrame({"price": [5.0, 30.0, None], "genre": ["tea", "tea", "cup"]})
        >>> cheap = {"attribute": "price", "op": "<=", "value": 20}
        >>> matching(table, cheap).tolist()
        [True, False, False]
        >>> matching(table, {"not": cheap}).tolist()
        [False, True, False]
        >>> cups = {"attribute": "genre", "op": "in", "value": ["cup"]}
        >>> matching(table, {"any": [cheap, cups]}).tolist()
        [True, False, True]
    """
    parts = [0]
    table = plain_numbers(table)
    condition = _read(expression, table.schema, parts, 0)
    try:
        answer = table.select(condition.fill_null(False).alias("answer"))["answer"]
    except pl.exceptions.PolarsError as error:
        raise RequestError(f"the rule cannot be answered for these items: {error}") from error
    flags: NDArray[np.bool_] = answer.to_numpy()
    return flags


def plain_numbers(table: pl.DataFrame) -> pl.DataFrame:
    """Return a table in which what is no number is missing, and decimals are floats."""
    return table.with_columns(
        pl.col(pl.Decimal).cast(pl.Float64), pl.col(pl.Float32, pl.Float64).fill_nan(None)
    )


def _read(expression: Any, schema: pl.Schema, parts: list[int], depth: int) -> pl.Expr:  # noqa: ANN401 - JSON
    parts[0] += 1
    if depth > DEEPEST or parts[0] > MOST_PARTS:
        raise RequestError(
            f"a rule has at most {MOST_PARTS} parts, {DEEPEST} of them inside each other."
        )
    if not isinstance(expression, Mapping):
        raise RequestError(f"a rule is an object ({_FORMS}), got {shortened(expression)}.")
    keys = set(expression)
    if keys == {"not"}:
        return ~_read(expression["not"], schema, parts, depth + 1)
    if keys in ({"all"}, {"any"}):
        [(name, inner)] = expression.items()
        if not isinstance(inner, list) or not inner:
            raise RequestError(
                f"{name!r} takes a list of rules, at least one, got {shortened(inner)}."
            )
        read = [_read(each, schema, parts, depth + 1) for each in inner]
        return pl.all_horizontal(read) if name == "all" else pl.any_horizontal(read)
    if keys != {"attribute", "op", "value"}:
        raise RequestError(f"a rule has {_FORMS}; got {_keys(keys)}.")
    return _compared(expression, schema)


def _keys(keys: set[Any]) -> str:
    named = [shortened(key) for key in sorted(map(str, keys))]
    return f"the keys {', '.join(named[:10])}" if named else "an object without keys"


def _compared(expression: Mapping[str, Any], schema: pl.Schema) -> pl.Expr:
    """Return the condition of one comparison."""
    name, operator, value = expression["attribute"], expression["op"], expression["value"]
    if not isinstance(name, str) or name not in schema:
        raise RequestError(
            f"items have no attribute {shortened(name)}; they have {', '.join(schema.names())}."
        )
    if operator not in OPERATORS:
        raise RequestError(
            f"{shortened(operator)} is no operator; use one of {', '.join(OPERATORS)}."
        )
    column, kind = pl.col(name), schema[name]
    if operator == "is_missing":
        if not isinstance(value, bool):
            raise RequestError(f"is_missing takes true or false, got {shortened(value)}.")
        return column.is_null() if value else column.is_not_null()
    if operator == "contains":
        return _contains(column, name, kind, value)
    if isinstance(kind, pl.List | pl.Array):
        raise RequestError(f"attribute {name!r} is a list; ask what it contains.")
    if operator in ("in", "not_in"):
        if not isinstance(value, list):
            raise RequestError(f"{operator} takes a list, got {shortened(value)}.")
        found = _is_in(column, kind, [_typed(name, kind, each) for each in value])
        # Whatever the list, nothing is known of what is missing.
        return pl.when(column.is_not_null()).then(found if operator == "in" else ~found)
    return _COMPARE[operator](column, pl.lit(_typed(name, kind, value)))


def _contains(column: pl.Expr, name: str, kind: pl.DataType, value: Any) -> pl.Expr:  # noqa: ANN401 - JSON
    if isinstance(kind, pl.List | pl.Array):
        wanted = _typed(name, kind.inner, value)
        lists = column.cast(pl.List(_wide(kind.inner)))
        if kind.inner.is_integer() and wanted != int(wanted):
            # No whole number is the wanted one; null where there is no list.
            return lists.list.len() < 0
        return lists.list.contains(pl.lit(wanted, dtype=_wide(kind.inner)))
    if kind == pl.String:
        return column.str.contains(_typed(name, kind, value), literal=True)
    raise RequestError(f"attribute {name!r} is {kind}, which contains nothing; compare it.")


def _is_in(column: pl.Expr, kind: Any, values: list[Any]) -> pl.Expr:  # noqa: ANN401 - polars types
    """Tell whether a column holds one of some values of its type."""
    if kind.is_integer():
        # Of fractions no whole number is one, and a series of whole numbers cannot hold them.
        values = [int(value) for value in values if value == int(value)]
    wanted = pl.Series(values, dtype=_wide(kind))
    return column.cast(_wide(kind)).is_in(wanted.implode())


def _wide(kind: Any) -> Any:  # noqa: ANN401 - polars types
    """Return a type that holds a column of this type and every value it is compared with."""
    if kind.is_integer():
        return pl.Int64
    return pl.Float64 if kind.is_float() else kind


def _typed(name: str, kind: Any, value: Any) -> Any:  # noqa: ANN401 - JSON and polars types
    """Return a value that a column of this type can be compared with."""
    fits = (
        (kind == pl.String and isinstance(value, str))
        or (kind == pl.Boolean and isinstance(value, bool))
        or (kind.is_numeric() and isinstance(value, int | float) and not isinstance(value, bool))
    )
    if not fits:
        raise RequestError(
            f"attribute {name!r} is {kind}, and {shortened(value)} is {type(value).__name__}; give "
            "a value of its type."
        )
    if isinstance(value, str):
        _require_whole_characters(name, value)
    elif not abs(value) < LARGEST_NUMBER:
        raise RequestError(
            f"attribute {name!r} is compared with {str(value)[:30]}, expected a number below "
            "9.2e18."
        )
    return value


def _require_whole_characters(name: str, text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise RequestError(
            f"the value for attribute {name!r} holds half a character, {text[error.start]!a}; send "
            "whole ones."
        ) from error

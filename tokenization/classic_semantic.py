"""Semantic indexing: the path in a category tree, then a counter."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import polars as pl

from genrec.data.catalog import Catalog
from genrec.errors import ConfigError, DataError
from genrec.tokenization.classic_numbers import shuffled_places
from genrec.tokenization.indexer import ItemTables, Need, Proposal
from genrec.tokenization.ragged import MOST_LEVELS, Ints, count_within, pad_and_close, to_table

CategoryPath = tuple[str, ...]

USUAL_COLUMNS = ("categories", "category", "genres", "attributes")
# What text is cut at; only where no row has either at commas, which names hold as well.
SEPARATORS = ("|", ">")


class SemanticIndexer:
    """An item's categories, coarse to fine, are its first codes; a counter is the last (SemID).

    Hua et al., "How to Index Item IDs for Recommendation Foundation Models", SIGIR-AP 2023,
    semantic indexing. The code of a category is its number among its parent's children, sorted by
    name: the same name under two parents is two categories. Unlike in the paper, where each has
    a token of its own, the first children of all parents of a level share one code.

    The counter tells the items of a category apart, in an order shuffled by seed, so that it
    holds nothing about when an item came; it is in the same level for all items. Items without
    a category have END in all levels before the counter, a branch of their own. Only the first 7
    categories of a path are read: with the counter, 8 codes.

    An item's categories decide its codes but the last, which depends on the ids of all items and
    on the seed; rows play no part. An item that is not in the tables gets no codes.
    """

    name = "semantic"
    needs: frozenset[Need] = frozenset({"categories"})

    def propose(self, tables: ItemTables, seed: int) -> Proposal:
        """Give every item a tuple of its own; see ``Indexer.propose``."""
        paths, facts = self.paths(tables, seed)
        place = shuffled_places(tables.item_ids, seed)
        codes, sizes = pad_and_close(paths, count_within(paths, place))
        return Proposal(codes, sizes, None, facts)

    def paths(self, tables: ItemTables, seed: int) -> tuple[Ints, dict[str, Any]]:
        """Return the codes of the categories, without counter.

        Returns:
            int64[n, L], ``ragged.OVER`` where a path is over; and facts.

        Raises:
            DataError: When no item has a category.
        """
        tables.require("categories")
        paths = [path[: MOST_LEVELS - 1] for path in tables.categories or ()]
        distinct = sorted(set(paths))
        if distinct == [()]:
            raise DataError(
                f"none of the {len(paths)} items has a category; index.classic.categories names "
                "the item column with the categories."
            )
        codes_of = _child_numbers(distinct)
        row = {path: number for number, path in enumerate(distinct)}
        table = to_table([codes_of[path] for path in distinct])
        facts = {
            "categories": len(codes_of) - 1,
            "items_without_category": paths.count(()),
            "paths_cut": sum(len(path) >= MOST_LEVELS for path in tables.categories or ()),
        }
        return table[[row[path] for path in paths]], facts


def _child_numbers(paths: Sequence[CategoryPath]) -> dict[CategoryPath, tuple[int, ...]]:
    """Return the codes of every node of the tree: the root ``()``, inner nodes and leaves."""
    nodes = {path[:depth] for path in paths for depth in range(1, len(path) + 1)}
    codes: dict[CategoryPath, tuple[int, ...]] = {(): ()}
    children: Counter[CategoryPath] = Counter()
    # Sorted, a parent comes before its children, and these in the order of their names.
    for node in sorted(nodes):
        parent = node[:-1]
        codes[node] = (*codes[parent], children[parent])
        children[parent] += 1
    return codes


def usual_column(catalog: Catalog) -> str | None:
    """Return the first column that usually holds categories and can be read; None without one."""
    return next(
        (
            name
            for name in USUAL_COLUMNS
            if name in catalog.table.columns and _readable(catalog.table[name].dtype)
        ),
        None,
    )


def _readable(kind: Any) -> bool:  # noqa: ANN401 - polars' types have no common base that is typed
    """Tell whether a column is text or lists of text, one in the other or not."""
    while isinstance(kind, pl.List | pl.Array):
        kind = kind.inner
    return not isinstance(kind, pl.Struct | pl.Object | pl.Binary)


def category_paths(catalog: Catalog, column: str | None) -> list[CategoryPath]:
    """Read the path of every item in the category tree from a column of the catalogue.

    A list is a path; of a list of lists the first that is not empty is taken. Text is cut at
    whichever of ``|`` and ``>`` more rows have, and at ``,`` when none has either. Blanks around
    names and empty names are dropped.

    Args:
        catalog: The items.
        column: Column to read; None takes the first of categories, category, genres and
            attributes that exists.

    Returns:
        One path an item, coarse to fine as the column has it; empty where the item has none.

    Raises:
        ConfigError: When the column is not there or holds records.
    """
    values = catalog.table[_column(catalog, column)]
    if not _readable(values.dtype):
        raise ConfigError(
            f"item column {values.name!r} is of type {values.dtype}, expected text or lists of "
            "text; set index.classic.categories to another column."
        )
    if isinstance(values.dtype, pl.List | pl.Array):
        return [_names(_first_path(value)) for value in values.to_list()]
    texts = values.cast(pl.String).fill_null("")
    rows = {mark: int(texts.str.contains(mark, literal=True).sum()) for mark in SEPARATORS}
    separator = max(SEPARATORS, key=lambda mark: rows[mark]) if any(rows.values()) else ","
    return [_names(text.split(separator)) for text in texts]


def _column(catalog: Catalog, column: str | None) -> str:
    """Return the column to read."""
    present = catalog.table.columns
    wanted = USUAL_COLUMNS if column is None else (column,)
    found = usual_column(catalog) if column is None else column
    if found in present:
        return found
    raise ConfigError(
        f"the items have no column {' or '.join(wanted)}, but {', '.join(present)}; set "
        "index.classic.categories to the one with the categories, or choose another index.method."
    )


def _first_path(value: list[Any] | None) -> list[Any]:
    """Return a list of names; of a list of lists the first that is not empty."""
    values = value or []
    nested = [inner for inner in values if isinstance(inner, list)]
    return next((inner for inner in nested if inner), []) if nested else values


def _names(parts: Sequence[Any]) -> CategoryPath:
    names = (str(part).strip() for part in parts if part is not None)
    return tuple(name for name in names if name)

"""Turn a raw item table into the catalogue: clean titles, one text, one row for each kept item."""

import html
from dataclasses import dataclass
from typing import Any

import polars as pl

from genrec.data.cleaning import clean_ids
from genrec.data.source import BROKEN_SCHEMA, Items
from genrec.errors import DataError

# Columns that make the text when the recipe names none. A column called text is taken alone: the
# source has decided already.
USUAL_TEXT = (
    "title", "brand", "categories", "category", "genres", "attributes", "description",
)  # fmt: skip


@dataclass(frozen=True)
class ItemTable:
    """Items of the source, cleaned, in file order.

    Attributes:
        table: ``item_id``, ``title``, ``text``, then the other columns of the source.
        text_columns: Columns the text was joined from.
        duplicates: Rows that were dropped because their id came before.
        broken: Rows that cannot be used: ``file``, ``row``, ``reason``, ``text``.
    """

    table: pl.DataFrame
    text_columns: tuple[str, ...]
    duplicates: int
    broken: pl.DataFrame


def clean_text(column: pl.Series) -> pl.Series:
    """Return a column as one line of text each: lists joined, entities decoded, spaces folded.

    Control characters count as spaces: a title is printed to terminals as it stands.
    """
    inner: Any = column.dtype
    while isinstance(inner, pl.List | pl.Array):
        inner = inner.inner
    if isinstance(inner, pl.Struct | pl.Object | pl.Binary):
        raise DataError(
            f"Item column {column.name!r} is of type {column.dtype}, which has no text; leave it "
            "out of data.item_columns."
        )
    column = _joined(column)
    text = column.cast(pl.String).fill_null("")
    marked = text.str.contains("&", literal=True)
    if marked.any():
        decoded = [html.unescape(value) for value in text.filter(marked).to_list()]
        text = text.scatter(marked.arg_true(), pl.Series(decoded, dtype=pl.String))
    return text.str.replace_all(r"[\s\p{Cc}]+", " ").str.strip_chars()


def _joined(column: pl.Series) -> pl.Series:
    """Return a column with the texts of each list joined by commas, lists in lists included."""
    if not isinstance(column.dtype, pl.List | pl.Array):
        return column
    rows = pl.int_range(len(column), eager=True)
    lists = column.cast(pl.List(column.dtype.inner))
    # One element a line; inner lists are joined first.
    parts = pl.DataFrame({"row": rows, "text": lists}).explode("text")
    texts = parts.with_columns(_joined(parts["text"]).cast(pl.String).alias("text")).drop_nulls()
    joined = texts.group_by("row", maintain_order=True).agg(pl.col("text").str.join(", "))
    whole = pl.DataFrame({"row": rows}).join(joined, on="row", how="left", maintain_order="left")
    return whole["text"].rename(column.name)


def _readable(column: pl.Series) -> pl.Series:
    """Return a text column cleaned; genres and categories joined by bars get commas."""
    text = clean_text(column)
    if column.name in ("genres", "categories", "category"):
        text = text.str.replace_all(r"\s*\|\s*", ", ")
    return text


def normalise_items(items: Items) -> ItemTable:
    """Clean a raw item table.

    Args:
        items: What the reader found.

    Raises:
        DataError: When no row has an id, or a text column holds no text.
    """
    raw, where = items.table, items.file or "the item table"
    rows = pl.int_range(1, raw.height + 1, eager=True) if items.rows is None else items.rows
    try:
        ids, reason = clean_ids(raw["item_id"], "item_id")
    except TypeError as error:
        raise DataError(f"{where}: the item id column is of type {error}.") from error
    usable = reason.is_null()
    broken = pl.DataFrame(
        {
            "file": [where] * int((~usable).sum()),
            "row": rows.filter(~usable),
            "reason": reason.filter(~usable),
            "text": ids.filter(~usable).fill_null(""),
        },
        schema=BROKEN_SCHEMA,
    )
    table = raw.with_columns(ids.alias("item_id")).filter(usable)
    if table.is_empty():
        raise DataError(f"{where} holds no item with an id; check data.item_columns.item_id.")
    unique = table.unique("item_id", keep="first", maintain_order=True)
    names = _text_columns(items, unique)
    texts = [_readable(unique[name]) for name in names]
    title = clean_text(unique[items.title]) if items.title in unique.columns else unique["item_id"]
    title = pl.select(pl.when(title != "").then(title).otherwise(unique["item_id"])).to_series()
    others = [name for name in unique.columns if name not in ("item_id", "title", "text")]
    joined = pl.select(
        pl.concat_list(texts).list.eval(pl.element().filter(pl.element() != "")).list.join(", ")
        if texts
        else pl.repeat("", unique.height)
    ).to_series()
    return ItemTable(
        table=pl.DataFrame(
            [unique["item_id"], title.alias("title"), joined.alias("text")]
        ).with_columns(unique[name] for name in others),
        text_columns=tuple(names),
        duplicates=table.height - unique.height,
        broken=pl.concat([items.broken, broken]),
    )


def _text_columns(items: Items, table: pl.DataFrame) -> list[str]:
    """Return the columns that make the text, the title first where it is one of them."""
    if items.text is not None:
        return list(items.text)
    if "text" in table.columns:
        return ["text"]
    usual = [items.title if name == "title" else name for name in USUAL_TEXT]
    return [name for name in usual if name is not None and name in table.columns]


def bare_items(item_ids: pl.Series) -> pl.DataFrame:
    """Return rows for items nothing is known of: the title is the id, the text is empty."""
    return pl.DataFrame({"item_id": item_ids, "title": item_ids}).with_columns(
        pl.lit("").alias("text")
    )


def catalogue_of(table: pl.DataFrame | None, kept_ids: pl.Series) -> tuple[pl.DataFrame, int]:
    """Return the catalogue of the kept items, and how many of them the item file does not have.

    Args:
        table: Cleaned items in file order, if the source has any.
        kept_ids: Ids of items with kept events, in order of first appearance.

    Returns:
        Items of the file first, in file order, then the unknown ones in order of appearance.
    """
    if table is None:
        return bare_items(kept_ids), len(kept_ids)
    known = table.join(pl.DataFrame({"item_id": kept_ids}), on="item_id", how="semi",
                       maintain_order="left")  # fmt: skip
    unknown = pl.DataFrame({"item_id": kept_ids}).join(
        table, on="item_id", how="anti", maintain_order="left"
    )["item_id"]
    return pl.concat([known, bare_items(unknown)], how="diagonal"), len(unknown)

"""Filter and sort checked events, and give users and items their final rows."""

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from genrec.data.catalog import Catalog
from genrec.data.filter import first_of_repeats, heavy_enough, in_core
from genrec.data.interactions import Interactions
from genrec.data.item_table import catalogue_of
from genrec.data.timestamps import MICROSECONDS
from genrec.data.validate import POSITION, CheckedEvents
from genrec.errors import DataError


@dataclass(frozen=True)
class KeptEvents:
    """Events left after the filters, sorted by user, time and input order.

    Numbers of users and items are those of ``CheckedEvents``.
    """

    user: NDArray[np.int32]
    item: NDArray[np.int32]
    time: NDArray[np.int64]
    weight: NDArray[np.float32]
    dropped: dict[str, int]


def keep_events(
    checked: CheckedEvents, minimum_weight: float | None, deduplicate: str, core: int
) -> KeptEvents:
    """Sort the events, then drop light ones, repeats and all outside the core, in this order."""
    order = pl.DataFrame({"user": checked.user, "time": checked.time}).select(
        pl.arg_sort_by("user", "time", maintain_order=True)
    )
    index = order.to_series().to_numpy().astype(np.int64)
    dropped: dict[str, int] = {}

    def drop(name: str, keep: NDArray[np.bool_]) -> None:
        nonlocal index
        dropped[name] = int((~keep).sum())
        index = index[keep]
        if len(index) == 0:
            raise DataError(
                f"No event is left after the filter {name}: {checked.rows_read} rows were read, "
                f"{dict(dropped)} were dropped. Use a smaller data.core (now {core}) or "
                f"data.minimum_weight (now {minimum_weight})."
            )

    drop("minimum_weight", heavy_enough(checked.weight[index], minimum_weight))
    drop("deduplicate", first_of_repeats(checked.user[index], checked.item[index], deduplicate))
    drop("core", in_core(checked.user[index], checked.item[index], core))
    return KeptEvents(
        checked.user[index],
        checked.item[index],
        checked.time[index],
        checked.weight[index],
        dropped,
    )


def _require_overlap(table: pl.DataFrame, item_ids: pl.Series, missing: int) -> None:
    """Stop when the item file and the interactions name their items differently."""
    if missing == len(item_ids):
        raise DataError(
            f"None of the {len(item_ids)} items of the interactions is in the item file: the "
            f"interactions say {item_ids[0]!r}, the item file {table['item_id'][0]!r}. Name the "
            "right column with --set data.item_columns.item_id=..., or another file with "
            "--set data.items_path=..."
        )


def number_events(kept: KeptEvents, checked: CheckedEvents, table: pl.DataFrame | None) -> tuple[
    Catalog, list[str], Interactions, int
]:  # fmt: skip
    """Give users and items their final rows: users by first appearance, items by the catalogue."""
    users = np.unique(kept.user)
    items = np.unique(kept.item)
    item_ids = checked.item_ids.gather(items)
    rows, missing = catalogue_of(table, item_ids)
    if table is not None:
        _require_overlap(table, item_ids, missing)
    place = pl.DataFrame({"item_id": item_ids}).join(
        rows.select("item_id").with_row_index("row"),
        on="item_id",
        how="left",
        maintain_order="left",
    )["row"]
    user_row = np.full(len(checked.user_ids), -1, dtype=np.int32)
    user_row[users] = np.arange(len(users), dtype=np.int32)
    item_row = np.full(len(checked.item_ids), -1, dtype=np.int32)
    item_row[items] = place.to_numpy()
    seconds = kept.time if checked.time_unit == POSITION else kept.time // MICROSECONDS
    events = Interactions(user_row[kept.user], item_row[kept.item], seconds, kept.weight)
    return Catalog(rows), checked.user_ids.gather(users).to_list(), events, missing

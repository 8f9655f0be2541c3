"""Check raw rows: ids, times and weights that can be used, and the rows that cannot, with why."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import polars as pl
from numpy.typing import NDArray

from genrec.data import timestamps
from genrec.data.cleaning import clean_ids, clean_weights
from genrec.data.factorize import Factorizer
from genrec.data.source import BROKEN_SCHEMA, Block, Source
from genrec.errors import DataError

Result = TypeVar("Result")
Number = TypeVar("Number", bound=np.generic)

# Unit of times when the source only has an order.
POSITION = "position"
_TEXT_KEPT = 200


@dataclass(frozen=True)
class CheckedEvents:
    """The rows that can be used, in input order, and the others.

    Attributes:
        user: int32[m], row in ``user_ids``.
        item: int32[m], row in ``item_ids``.
        time: int64[m], microseconds since 1970, or the position where the source has no times.
        weight: float32[m].
        user_ids: Outside ids in order of first appearance.
        item_ids: Outside ids in order of first appearance.
        quarantine: Columns ``file``, ``row``, ``reason``, ``text``.
        rows_read: Rows of the source, empty lines apart.
        empty_lines: Lines without any content, passed over.
        time_unit: How the times were written.
        has_weight: Whether the source has weights; ``weight`` is 1 where it has none.
    """

    user: NDArray[np.int32]
    item: NDArray[np.int32]
    time: NDArray[np.int64]
    weight: NDArray[np.float32]
    user_ids: pl.Series
    item_ids: pl.Series
    quarantine: pl.DataFrame
    rows_read: int
    empty_lines: int
    time_unit: str
    has_weight: bool


class Checker:
    """Takes blocks one after the other and keeps whole numbers instead of ids."""

    def __init__(self, has_time: bool) -> None:
        self._has_time = has_time
        self._users = Factorizer()
        self._items = Factorizer()
        self._numbers: list[NDArray[np.float64]] = []
        self._dates: list[NDArray[np.int64]] = []
        self._weights: list[NDArray[np.float32]] = []
        self._rows: list[NDArray[np.int64]] = []
        self._files: list[tuple[str, int]] = []
        self._quarantine: list[pl.DataFrame] = []
        self._has_weight = False
        self.rows_read = 0
        self.empty_lines = 0

    def add(self, block: Block) -> None:
        """Check one block.

        Raises:
            DataError: When a column is of a type that cannot hold what it should.
        """
        self.rows_read += block.table.height + block.broken.height
        self.empty_lines += block.empty
        if block.broken.height:
            self._quarantine.append(block.broken)
        table = block.table
        if table.is_empty():
            return
        users, user_reason = self._checked(block, "user_id", lambda c: clean_ids(c, "user_id"))
        items, item_reason = self._checked(block, "item_id", lambda c: clean_ids(c, "item_id"))
        reasons = [user_reason, item_reason]
        numbers = np.full(table.height, np.nan)
        dates = np.zeros(table.height, dtype=np.int64)
        if "timestamp" in table.columns:
            numbers, dates, reason = self._checked(block, "timestamp", timestamps.parse_times)
            reasons.append(reason)
        weights = np.ones(table.height, dtype=np.float32)
        if "weight" in table.columns:
            self._has_weight = True
            weight, reason = self._checked(block, "weight", clean_weights)
            weights = weight.fill_null(0).to_numpy().astype(np.float32)
            reasons.append(reason)
        why = pl.select(pl.coalesce(reasons).alias("reason")).to_series()
        good = why.is_null()
        if not good.all():
            self._quarantine.append(_quarantined(block, why))
        mask = good.to_numpy()
        self._users.add(users.filter(good))
        self._items.add(items.filter(good))
        self._numbers.append(numbers[mask])
        self._dates.append(dates[mask])
        self._weights.append(weights[mask])
        self._rows.append(table["row"].to_numpy()[mask].astype(np.int64))
        self._files.append((block.file, int(mask.sum())))

    @staticmethod
    def _checked(block: Block, name: str, check: Callable[[pl.Series], Result]) -> Result:
        try:
            return check(block.table[name])
        except TypeError as error:
            raise DataError(
                f"{block.file}: the column taken as the {name} is of type {error}, which cannot "
                f"hold it. Name another column with --set data.columns.{name}=..."
            ) from error

    def finish(self, maximum_quarantined: float) -> CheckedEvents:
        """Find the unit of the times, set aside impossible ones and return what is left.

        Args:
            maximum_quarantined: Largest share of rows that may be set aside, 0 to 1.

        Raises:
            DataError: When there are no rows, or too many cannot be used.
        """
        if self.rows_read == 0:
            raise DataError("The source has no rows below its header; expected one per event.")
        user, user_ids = self._users.finish()
        item, item_ids = self._items.finish()
        weight = _joined(self._weights, np.float32)
        time, unit, keep = self._times(user, item, user_ids, item_ids)
        quarantine = pl.concat(
            [pl.DataFrame(schema=BROKEN_SCHEMA), *self._quarantine]
        ).with_columns(pl.col("text").str.slice(0, _TEXT_KEPT))
        _require_enough(quarantine, self.rows_read, maximum_quarantined)
        return CheckedEvents(
            user=user[keep],
            item=item[keep],
            time=time[keep],
            weight=weight[keep],
            user_ids=user_ids,
            item_ids=item_ids,
            quarantine=quarantine,
            rows_read=self.rows_read,
            empty_lines=self.empty_lines,
            time_unit=unit,
            has_weight=self._has_weight,
        )

    def _times(
        self,
        user: NDArray[np.int32],
        item: NDArray[np.int32],
        user_ids: pl.Series,
        item_ids: pl.Series,
    ) -> tuple[NDArray[np.int64], str, NDArray[np.bool_]]:
        """Return times, their unit and which are possible; quarantine the others."""
        numbers = _joined(self._numbers, np.float64)
        dates = _joined(self._dates, np.int64)
        if not self._has_time:
            given = np.isfinite(numbers)
            position = np.arange(len(numbers), dtype=np.int64)
            position[given] = numbers[given].astype(np.int64)
            return position, POSITION, np.ones(len(numbers), dtype=np.bool_)
        unit, scale = timestamps.find_unit(numbers)
        time, early, late = timestamps.to_microseconds(numbers, dates, scale)
        bad = np.flatnonzero(early | late)
        if len(bad):
            names = [name for name, _ in self._files]
            ends = np.cumsum([count for _, count in self._files])
            written = np.where(np.isnan(numbers[bad]), dates[bad], numbers[bad])
            frame = pl.DataFrame(
                {
                    "file": [names[i] for i in np.searchsorted(ends, bad, side="right")],
                    "row": _joined(self._rows, np.int64)[bad],
                    "reason": np.where(
                        early[bad], "timestamp is before 1970", "timestamp is after the year 2100"
                    ).tolist(),
                    "user": user_ids.gather(user[bad]),
                    "item": item_ids.gather(item[bad]),
                    "time": written,
                }
            )
            self._quarantine.append(
                frame.select(
                    "file",
                    "row",
                    "reason",
                    pl.format("{} | {} | {}", "user", "item", "time").alias("text"),
                )
            )
        return time, unit, ~(early | late)


def _joined(parts: list[NDArray[Number]], dtype: type[Number]) -> NDArray[Number]:
    return np.concatenate(parts) if parts else np.zeros(0, dtype=dtype)


def _quarantined(block: Block, why: pl.Series) -> pl.DataFrame:
    """Return the rows of a block that have a reason, with their fields joined as text."""
    fields = [name for name in block.table.columns if name != "row"]
    return (
        block.table.with_columns(why.alias("reason"), pl.lit(block.file).alias("file"))
        .filter(pl.col("reason").is_not_null())
        .select(
            "file",
            "row",
            "reason",
            pl.concat_str(
                [pl.col(name).cast(pl.String).fill_null("") for name in fields], separator=" | "
            ).alias("text"),
        )
    )


def _require_enough(quarantine: pl.DataFrame, rows_read: int, maximum: float) -> None:
    """Stop when too many rows were set aside, or all."""
    share = quarantine.height / rows_read
    if share <= maximum and quarantine.height < rows_read:
        return
    reasons = Counter(quarantine["reason"].to_list()).most_common(3)
    top = "; ".join(f"{reason} ({count} rows)" for reason, count in reasons)
    file, row, _, text = quarantine.row(0)
    raise DataError(
        f"{quarantine.height} of {rows_read} rows ({share:.0%}) cannot be used, at most "
        f"{maximum:.0%} may be: {top}. The first is row {row} of {file}: {text[:100]!r}. Check the "
        "columns and the separator; data.maximum_quarantined sets the limit."
    )


def check(
    source: Source, maximum_quarantined: float, progress: Callable[[int], None] | None = None
) -> CheckedEvents:
    """Read and check all rows of a source.

    Args:
        source: An opened source.
        maximum_quarantined: Largest share of rows that may be set aside, 0 to 1.
        progress: Called with the number of rows read so far.

    Raises:
        DataError: When the source cannot be read, has no rows, or too many cannot be used.
    """
    checker = Checker(source.has_time)
    for block in source.blocks():
        checker.add(block)
        if progress is not None:
            progress(checker.rows_read)
    return checker.finish(maximum_quarantined)

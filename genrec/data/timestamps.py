"""Read times however they are written: seconds to nanoseconds since 1970, or dates."""

import numpy as np
import polars as pl
from numpy.typing import NDArray

MICROSECONDS = 1_000_000
# Later than any real event: 2100-01-01, in seconds since 1970.
LATEST_SECOND = 4_102_444_800

# A unit is taken when the median is below its limit: 1e11 seconds is the year 5138, and 1e11
# milliseconds is March 1973.
_UNITS = (("seconds", 1e11, 1e6), ("milliseconds", 1e14, 1e3), ("microseconds", 1e17, 1.0),
          ("nanoseconds", np.inf, 1e-3))  # fmt: skip

_DATE_FORMATS = (
    "%Y-%m-%d %H:%M:%S%.f",
    "%Y-%m-%d %H:%M:%S%.f%#z",
    "%Y-%m-%d %H:%M",
    "%Y-%m-%d",
    "%Y/%m/%d %H:%M:%S%.f",
    "%Y/%m/%d",
    "%m %d, %Y",
)


def _dates(text: pl.Series) -> pl.Series:
    """Return microseconds since 1970 of ISO dates, null where there is none; no zone is UTC."""
    found = pl.Series(text.name, [None] * len(text), dtype=pl.Int64)
    spaced = text.str.replace(r"^(\d{4}\D\d\d\D\d\d)[Tt]", "$1 ").str.replace(r"[Zz]$", "+00:00")
    for form in _DATE_FORMATS:
        open_rows = found.is_null() & spaced.is_not_null()
        if not open_rows.any():
            break
        part = spaced.filter(open_rows).str.to_datetime(form, time_unit="us", strict=False)
        values = part.dt.timestamp("us")
        found = found.scatter(open_rows.arg_true(), values)
    return found


def parse_times(column: pl.Series) -> tuple[NDArray[np.float64], NDArray[np.int64], pl.Series]:
    """Read a column of times of any type.

    Args:
        column: Integers, floats, dates, datetimes or strings of either.

    Returns:
        float64[m] numbers in a unit still to be found (NaN where a date was read), int64[m]
        microseconds of dates (0 where a number was read), and the reason for every row that
        cannot be read (null where it can).

    Raises:
        TypeError: When the column is of another type.
    """
    missing = column.is_null()
    dates = pl.Series([None] * len(column), dtype=pl.Int64)
    numbers = pl.Series([None] * len(column), dtype=pl.Float64)
    reason_text = "timestamp is not a number"
    if column.dtype.is_integer() or column.dtype.is_float() or column.dtype.is_decimal():
        numbers = column.cast(pl.Float64)
    elif column.dtype in (pl.Datetime, pl.Date):
        dates = column.cast(pl.Datetime("us")).dt.timestamp("us")
    elif column.dtype == pl.String:
        text = column.str.strip_chars()
        missing = missing | (text == "")
        numbers = text.cast(pl.Float64, strict=False)
        rest = numbers.is_null() & ~missing
        if rest.any():
            dates = dates.scatter(rest.arg_true(), _dates(text.filter(rest)))
        reason_text = "timestamp is neither a number nor an ISO date"
    elif column.dtype != pl.Null:
        raise TypeError(f"{column.dtype}")
    usable = (numbers.is_finite().fill_null(False)) | dates.is_not_null()
    reason = (
        pl.DataFrame({"missing": missing, "usable": usable})
        .select(
            pl.when("missing")
            .then(pl.lit("timestamp is missing"))
            .when(~pl.col("usable"))
            .then(pl.lit(reason_text))
        )
        .to_series()
    )
    return (
        numbers.fill_null(np.nan).to_numpy().astype(np.float64),
        dates.fill_null(0).to_numpy().astype(np.int64),
        reason,
    )


def find_unit(numbers: NDArray[np.float64]) -> tuple[str, float]:
    """Return the unit of a whole column of numbers, and how many microseconds it is.

    The unit is judged by the median, so that a few wild values do not change it.

    Args:
        numbers: float64[m]; NaN is passed over.
    """
    known = numbers[np.isfinite(numbers)]
    if len(known) == 0:
        return "dates", 1.0
    middle = float(np.median(np.abs(known)))
    name, _, scale = next(unit for unit in _UNITS if middle < unit[1])
    return name, scale


def to_microseconds(
    numbers: NDArray[np.float64], dates: NDArray[np.int64], scale: float
) -> tuple[NDArray[np.int64], NDArray[np.bool_], NDArray[np.bool_]]:
    """Return times in microseconds since 1970, and which lie before 1970 or after 2100.

    Args:
        numbers: float64[m], NaN where ``dates`` holds the time.
        dates: int64[m], microseconds.
        scale: Microseconds in a unit of ``numbers``.
    """
    is_date = np.isnan(numbers)
    value = np.where(is_date, dates, np.nan_to_num(numbers) * scale)
    early = value < 0
    late = value > LATEST_SECOND * MICROSECONDS
    safe = np.where(early | late, 0, np.where(is_date, 0, np.nan_to_num(numbers) * scale))
    time = np.where(is_date, dates, np.rint(safe).astype(np.int64))
    return time, early, late

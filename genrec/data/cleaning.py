"""Bring ids and weights of any type into one form, and say which cannot be used."""

import polars as pl

from genrec.data.files import REPLACEMENT

LONGEST_ID = 500
_NULL_WORDS = ("nan", "null", "none", "<na>")


def clean_ids(column: pl.Series, role: str) -> tuple[pl.Series, pl.Series]:
    """Turn a column of ids into strings.

    Args:
        column: Strings, whole numbers or categories.
        role: Name of the column in messages.

    Returns:
        The ids as strings, and the reason for each that cannot be used (null where it can).

    Raises:
        TypeError: When the column is of a type that holds no ids.
    """
    frame = pl.DataFrame({"raw": column})
    raw = pl.col("raw")
    wrong = pl.lit(False)
    if column.dtype.is_float():
        whole = raw.is_finite() & (raw == raw.round(0)) & (raw.abs() < 2**53)
        as_integer = raw.cast(pl.Int64, strict=False).cast(pl.String)
        text: pl.Expr = pl.when(whole).then(as_integer).otherwise(None)
        wrong = raw.is_not_null() & ~raw.is_nan() & ~whole
    elif column.dtype == pl.String:
        text = raw.str.strip_chars()
    elif column.dtype.is_integer() or column.dtype in (pl.Categorical, pl.Enum, pl.Null):
        text = raw.cast(pl.String)
    else:
        raise TypeError(f"{column.dtype}")
    frame = frame.select(text.alias("id"), wrong.alias("wrong"))
    value = pl.col("id")
    reason = (
        pl.when("wrong")
        .then(pl.lit(f"{role} is not a whole number"))
        .when(value.is_null() | (value == ""))
        .then(pl.lit(f"{role} is missing"))
        .when(value.str.to_lowercase().is_in(_NULL_WORDS))
        .then(pl.lit(f"{role} is a word for nothing (nan, null, none)"))
        .when(value.str.contains(REPLACEMENT, literal=True))
        .then(pl.lit(f"{role} is not UTF-8 text"))
        .when(value.str.contains("\n", literal=True))
        .then(pl.lit(f"{role} holds a line break (a quote that is never closed?)"))
        .when(value.str.len_bytes() > LONGEST_ID)
        .then(pl.lit(f"{role} is longer than {LONGEST_ID} bytes"))
    )
    result = frame.select("id", reason.alias("reason"))
    return result["id"], result["reason"]


def clean_weights(column: pl.Series) -> tuple[pl.Series, pl.Series]:
    """Turn a column of ratings or counts into floats, and say which cannot be used.

    Raises:
        TypeError: When the column is of a type that holds no numbers.
    """
    if not (column.dtype.is_numeric() or column.dtype in (pl.String, pl.Boolean, pl.Null)):
        raise TypeError(f"{column.dtype}")
    text = column.dtype == pl.String
    raw = column.str.strip_chars() if text else column
    missing = (raw.is_null() | (raw == "")) if text else raw.is_null()
    number = raw.cast(pl.Float32, strict=False)
    reason = (
        pl.DataFrame({"missing": missing, "finite": number.is_finite().fill_null(False)})
        .select(
            pl.when("missing")
            .then(pl.lit("weight is missing"))
            .when(~pl.col("finite"))
            .then(pl.lit("weight is not a number"))
        )
        .to_series()
    )
    return number, reason

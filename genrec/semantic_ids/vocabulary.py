"""Codes of items as tokens of a language model, and back."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from string import ascii_lowercase
from typing import Any

import numpy as np
from numpy.typing import NDArray

from genrec.errors import DataError


@dataclass(frozen=True)
class SidVocabulary:
    """One token for each level and code, in one contiguous stretch of the token ids.

    Level 0 comes first: code c of level l is token ``offsets[l] + c``. ``tokens`` and ``codes``
    are each other's inverse.

    Attributes:
        level_sizes: Number of codes of each level.
        first_token: Token id of code 0 of level 0.

    Raises:
        DataError: When there is no level, a level is empty, there are more levels than letters or
            the first token is negative.

    Example:
        >>> vocabulary = SidVocabulary((4, 2), first_token=100)
        >>> vocabulary.token_texts()
        ['<a_0>', '<a_1>', '<a_2>', '<a_3>', '<b_0>', '<b_1>']
        >>> vocabulary.tokens(np.array([[3, 1]], dtype=np.int32)).tolist()
        [[103, 105]]
        >>> vocabulary.codes(np.array([[103, 105]])).tolist()
        [[3, 1]]
    """

    level_sizes: tuple[int, ...]
    first_token: int

    def __post_init__(self) -> None:
        if not 1 <= len(self.level_sizes) <= len(ascii_lowercase):
            raise DataError(
                f"level_sizes names {len(self.level_sizes)} levels; a vocabulary has 1 to "
                f"{len(ascii_lowercase)}."
            )
        if min(self.level_sizes) < 1:
            raise DataError(f"level_sizes is {self.level_sizes}; every level needs a code.")
        if self.first_token < 0:
            raise DataError(f"first_token is {self.first_token}; token ids start at 0.")

    def __len__(self) -> int:
        """Return the number of tokens of all levels."""
        return sum(self.level_sizes)

    @property
    def levels(self) -> int:
        """Number of codes of an item."""
        return len(self.level_sizes)

    @cached_property
    def offsets(self) -> NDArray[np.int64]:
        """Token id of code 0 of each level, int64[L]."""
        before = np.cumsum([0, *self.level_sizes[:-1]])
        return (before + self.first_token).astype(np.int64)

    def level_range(self, level: int) -> range:
        """Return the token ids of one level, in the order of its codes."""
        start = int(self.offsets[level])
        return range(start, start + self.level_sizes[level])

    def token_texts(self) -> list[str]:
        """Return the text of every token in token order: ``<a_0>``, ..., ``<b_0>``, ..."""
        return [
            f"<{letter}_{code}>"
            for letter, size in zip(ascii_lowercase, self.level_sizes, strict=False)
            for code in range(size)
        ]

    def tokens(self, codes: NDArray[np.integer]) -> NDArray[np.int64]:
        """Turn code tuples into token ids.

        Args:
            codes: int[n, L].

        Returns:
            int64[n, L].

        Raises:
            DataError: When a code lies outside its level.
        """
        self._check(codes, "codes", np.zeros(self.levels, dtype=np.int64))
        return codes.astype(np.int64) + self.offsets

    def codes(self, tokens: NDArray[np.integer]) -> NDArray[np.int32]:
        """Turn token ids into code tuples.

        Args:
            tokens: int[n, L]; column l holds tokens of level l.

        Returns:
            int32[n, L].

        Raises:
            DataError: When a token is not one of its level.
        """
        self._check(tokens, "tokens", self.offsets)
        return (tokens.astype(np.int64) - self.offsets).astype(np.int32)

    def _check(self, values: NDArray[np.integer], name: str, low: NDArray[np.int64]) -> None:
        """Refuse a table whose column l leaves ``low[l] .. low[l] + level_sizes[l] - 1``."""
        if values.ndim != 2 or values.shape[1] != self.levels:
            raise DataError(f"{name} have shape {values.shape}, expected [n, {self.levels}].")
        bad = np.argwhere((values < low) | (values >= low + np.asarray(self.level_sizes)))
        if len(bad):
            row, level = bad[0]
            first, last = int(low[level]), int(low[level]) + self.level_sizes[level] - 1
            raise DataError(
                f"{len(bad)} of {values.size} {name} are not of their level: row {row} has "
                f"{values[row, level]} at level {level}, expected {first} to {last}."
            )

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for a JSON file."""
        return {"level_sizes": list(self.level_sizes), "first_token": self.first_token}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "SidVocabulary":
        """Build from what ``to_dict`` returned."""
        return cls(tuple(int(size) for size in values["level_sizes"]), int(values["first_token"]))

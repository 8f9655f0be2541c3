"""How a picture stands among the tokens of a language model."""

import inspect
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from genrec.embeddings.kept_pictures import KeptPictures
from genrec.embeddings.spread import spread
from genrec.errors import ConfigError
from genrec.model.soft_tokens import SoftTable


class PictureTokens(Protocol):
    """Turns the picture of an item into token ids, and says what else the model is given."""

    def __contains__(self, row: int) -> bool:
        """Tell whether the item of a catalogue row has a picture."""
        ...

    def tokens(self, row: int) -> list[int]:
        """Return the token ids that stand for the picture of a row."""
        ...

    def inputs(self, rows: Sequence[int], tokens: Tensor) -> dict[str, Tensor]:
        """Return what the model is given besides tokens int64[B, T].

        Args:
            rows: Catalogue rows of the pictures, in the order in which they stand in the tokens.
            tokens: The token ids.
        """
        ...


class ImageTable(SoftTable):
    """Soft tokens for image vectors, several each: one projection gives them all.

    Number ``row * count + place`` is a place of the picture of a row.

    Args:
        vectors: float32[n, d].
        hidden: Width of the language model.
        count: Tokens that stand for a picture.
        size: Usual size of an entry of a word's vector, at which the tokens start.
    """

    def __init__(
        self, vectors: NDArray[np.float32], hidden: int, count: int, *, size: float
    ) -> None:
        layer = nn.Linear(vectors.shape[1], count * hidden)
        nn.init.normal_(layer.weight, std=size / vectors.shape[1] ** 0.5)
        nn.init.zeros_(layer.bias)
        super().__init__(spread(vectors), layer)
        self.count = count

    def __len__(self) -> int:
        return len(self.vectors) * self.count

    def look_up(self, numbers: Tensor) -> tuple[Tensor, Tensor]:
        """Return projected vectors float[m, hidden] and what they lie on: nothing, int64[m]."""
        rows, places = numbers // self.count, numbers % self.count
        projected = self.projection(self.vectors[rows]).view(len(rows), self.count, -1)
        return projected[torch.arange(len(rows), device=rows.device), places], self.beside[rows]


class SoftPictures:
    """Pictures as soft tokens: their vectors, projected, stand among the words.

    Args:
        vectors: float32[n, d]; a zero row is no picture.
        first: Token id of the first place of row 0.
        count: Tokens that stand for a picture.
    """

    def __init__(self, vectors: NDArray[np.float32], first: int, count: int) -> None:
        self._there = np.asarray(vectors.any(axis=1))
        self._first, self._count = first, count

    def __contains__(self, row: int) -> bool:
        """See ``PictureTokens``."""
        return bool(self._there[row])

    def tokens(self, row: int) -> list[int]:
        """See ``PictureTokens``."""
        start = self._first + row * self._count
        return list(range(start, start + self._count))

    def inputs(self, rows: Sequence[int], tokens: Tensor) -> dict[str, Tensor]:
        """Return nothing: all is in the tokens."""
        return {}


class NoPictures:
    """A catalogue without pictures."""

    def __contains__(self, row: int) -> bool:
        """Return False."""
        return False

    def tokens(self, row: int) -> list[int]:
        """Refuse: there is no picture."""
        raise KeyError(row)

    def inputs(self, rows: Sequence[int], tokens: Tensor) -> dict[str, Tensor]:
        """Return nothing."""
        return {}


class SeenPictures:
    """Pictures as a vision-language model sees them: pixels, and a token for each patch.

    Args:
        model: From ``AutoModelForImageTextToText``.
        processor: Its image processor.
        pictures: The pictures.
    """

    def __init__(self, model: Any, processor: Any, pictures: KeptPictures) -> None:  # noqa: ANN401
        self._model, self._processor, self._pictures = model, processor, pictures
        config = model.config
        token = getattr(config, "image_token_id", getattr(config, "image_token_index", None))
        if token is None:
            raise ConfigError(
                f"{type(model).__name__} names no token for images in its configuration, so genrec "
                "does not know how to show it pictures; take another vision-language model."
            )
        self._token = int(token)
        ends = [getattr(config, f"vision_{end}_token_id", None) for end in ("start", "end")]
        self._before, self._after = ([int(end)] if end is not None else [] for end in ends)
        self._wants_types = "mm_token_type_ids" in inspect.signature(model.forward).parameters
        self._counts: dict[int, int] = {}

    def __contains__(self, row: int) -> bool:
        """See ``PictureTokens``."""
        return row in self._pictures

    def tokens(self, row: int) -> list[int]:
        """See ``PictureTokens``; the first time, the model looks at the picture to count them."""
        if row not in self._counts:
            with torch.inference_mode():
                told = self._model.get_image_features(**self._pixels([row]))
            features = getattr(told, "pooler_output", told)
            self._counts[row] = len(features[0])
        return [*self._before, *[self._token] * self._counts[row], *self._after]

    def inputs(self, rows: Sequence[int], tokens: Tensor) -> dict[str, Tensor]:
        """See ``PictureTokens``."""
        given = self._pixels(rows) if rows else {}
        if self._wants_types:
            given["mm_token_type_ids"] = (tokens == self._token).int()
        return given

    def _pixels(self, rows: Sequence[int]) -> dict[str, Tensor]:
        pictures = [self._pictures[row] for row in rows]
        given = self._processor(images=pictures, return_tensors="pt")
        device, dtype = self._model.device, self._model.dtype
        return {
            name: value.to(device, dtype) if value.is_floating_point() else value.to(device)
            for name, value in given.items()
        }

"""The vectors that are quantized: of an item's text, its image, what users did with it, or two."""

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from genrec.embeddings import mapped_file
from genrec.embeddings.side_by_side import side_by_side
from genrec.embeddings.table import EmbeddingTable, unit_rows
from genrec.embeddings.vector_prediction import VectorPrediction
from genrec.errors import ArtifactError, DataError

if TYPE_CHECKING:
    from genrec.tokenization.alignment_training import Alignment

Vectors = Literal["text", "cf", "concatenation", "aligned", "multimodal"]
Table = NDArray[np.float32]
# The parts of a vector, in the order of its columns.
_PARTS: dict[Vectors, tuple[Literal["cf", "image", "text"], ...]] = {
    "text": ("text",),
    "cf": ("cf",),
    "concatenation": ("cf", "text"),
    "aligned": ("cf", "text"),
    "multimodal": ("image", "text"),
}
_VECTORS, _GUESS = "fusion.safetensors", "fusion_guess.safetensors"

logger = logging.getLogger(__name__)


class TextGuess(Protocol):
    """Stands in for the cf or image vector of an item that has a text only."""

    def predict(self, text: Table) -> Table:
        """Return float32[m, dc] for float32[m, dt], of length 1; zero where the text is zero."""
        ...

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return what it knows."""
        ...


@dataclass(frozen=True)
class Fusion:
    """The vectors of the known items, and how to make those of new ones.

    Attributes:
        method: Which parts a vector has: ``text``, ``cf``, or cf or image then text, each at
            length 1.
        vectors: float32[n, d], one row an item; may be memory-mapped.
        text_dimensions: Width of the text vectors; none when there were none.
        guess: What stands in for the part before the text, of an item that has a text only; none
            where no such part is wanted or there were no texts.
        facts: What is worth keeping about the making.
    """

    method: Vectors
    vectors: Table
    text_dimensions: int | None = None
    guess: TextGuess | None = None
    facts: dict[str, Any] = field(default_factory=dict)

    def new_items(self, text: Table) -> Table:
        """Return vectors float32[m, d] for items that nobody has chosen yet.

        The cf or image part is the guess from the text. A zero text vector gives a zero vector.

        Args:
            text: float32[m, dt], made by the same encoder as the texts of the known items.

        Raises:
            DataError: When the vectors were made without texts, or the texts have another width
                or are not finite.
        """
        if self.text_dimensions is None:
            raise DataError(
                f"the {self.method} vectors were made without text vectors, so a new item, which "
                "has nothing but its text, cannot be given one; run the stages embed and index."
            )
        table = EmbeddingTable(text, {})
        if text.shape[1] != self.text_dimensions:
            raise DataError(
                f"the new text vectors have {text.shape[1]} dimensions, expected "
                f"{self.text_dimensions}; make them with the encoder of the known items."
            )
        unit = table.normalised()
        if self.guess is None:
            return unit
        guessed = self.guess.predict(unit)
        second = guessed if self.method == "aligned" else unit
        parts = {_PARTS[self.method][0]: guessed, "text": second}
        return np.concatenate([parts[name] for name in _PARTS[self.method]], axis=1)

    def save(self, folder: Path) -> None:
        """Write ``fusion.safetensors``, ``fusion.json`` and what the guess needs, if any."""
        mapped_file.write(folder / _VECTORS, "vectors", self.vectors)
        if self.guess is not None:
            arrays = {
                name: np.ascontiguousarray(array) for name, array in self.guess.arrays().items()
            }
            save_file(arrays, folder / _GUESS)
        body = {
            "method": self.method,
            "text_dimensions": self.text_dimensions,
            "guess": self.guess is not None,
            "facts": self.facts,
        }
        (folder / "fusion.json").write_text(json.dumps(body, indent=2) + "\n")

    @classmethod
    def load(cls, folder: Path) -> "Fusion":
        """Read what ``save`` wrote.

        Raises:
            ArtifactError: When a file is missing, damaged or of an unknown method.
        """
        try:
            body = json.loads((folder / "fusion.json").read_text(encoding="utf-8"))
            method, facts = body["method"], body["facts"]
            if method not in _PARTS:
                raise ValueError(f"unknown method {method!r}, expected one of {list(_PARTS)}")
            guess = _guess(method, load_file(folder / _GUESS)) if body["guess"] else None
            vectors = mapped_file.mapped(folder / _VECTORS, "vectors")
            return cls(method, vectors, body["text_dimensions"], guess, facts)
        except (
            OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError, DataError
        ) as error:  # fmt: skip
            raise ArtifactError(
                f"the vectors in {folder} cannot be read ({error}); run the index stage again."
            ) from error


def _guess(method: Vectors, arrays: dict[str, NDArray[Any]]) -> TextGuess:
    if method != "aligned":
        return VectorPrediction.from_arrays(arrays)
    # Reading other vectors needs no torch.
    from genrec.tokenization.alignment import ModalityAdaption

    return ModalityAdaption.from_arrays(arrays)


def fuse(
    method: Literal["text", "cf", "concatenation", "multimodal"],
    tables: Mapping[str, EmbeddingTable],
    *,
    has_events: NDArray[np.bool_] | None = None,
    store: Path | None = None,
) -> Fusion:
    """Put text vectors and cf or image vectors side by side, each at length 1.

    An item without a training event has a cf vector that nobody's choice has shaped, and one
    without a picture a zero image vector; where its text is known, what the texts of the others
    predict stands in for it. An item without text has zeros there.

    Args:
        method: ``text``, ``cf``, ``concatenation`` (cf, then text) or ``multimodal`` (image, then
            text).
        tables: ``text`` float32[n, dt], ``cf`` float32[n, dc], ``image`` float32[n, di]. ``cf``
            needs the first only for items without events and for new ones.
        has_events: bool[n], which items occur in the training part; none when all do.
        store: File to keep the vectors in while they are used; they are written and read block
            by block. None holds them in memory.

    Raises:
        DataError: When a table that is needed is missing or all zero, or rows differ in number.
    """
    _check(tables, _PARTS[method], has_events)
    text = tables.get("text")
    if method == "text" or text is None:
        [name] = _PARTS[method]
        _warn_of_untrained(method, has_events)
        facts = _facts(text, None if method == "text" else has_events)
        vectors = _empty(store, len(tables[name]), tables[name].vectors.shape[1])
        for rows in mapped_file.row_blocks(vectors):
            vectors[rows] = unit_rows(tables[name].vectors[rows])
        return Fusion(method, vectors, None if text is None else vectors.shape[1], facts=facts)
    # Where only cf is wanted, its text does no more than stand in.
    first = _PARTS[method][0]
    facts = _facts(text, has_events)
    if first == "image":
        known = np.asarray(tables["image"].vectors.any(axis=1))
        facts["items_without_image"] = int((~known).sum())
    else:
        known = _all_or(has_events, len(text))
    vectors = _empty(
        store,
        len(text),
        sum(tables[name].vectors.shape[1] for name in _PARTS[method]),
    )
    guess = side_by_side(tables[first], text, known, vectors)
    facts[f"{first}_prediction"] = guess.facts
    return Fusion(method, vectors, text.vectors.shape[1], guess, facts)


def _empty(store: Path | None, items: int, width: int) -> Table:
    """Return a table to be filled, in memory or in a file."""
    if store is None:
        return np.zeros((items, width), dtype=np.float32)
    return mapped_file.create(store, "vectors", (items, width))


def _warn_of_untrained(method: Vectors, has_events: NDArray[np.bool_] | None) -> None:
    if method == "cf" and has_events is not None and not has_events.all():
        logger.warning(
            "%d of %d items have no training event, so their cf vectors are what they were before "
            "training and their codes mean nothing; with index.vectors: concatenation their texts "
            "stand in.",
            np.count_nonzero(~has_events),
            len(has_events),
        )


def fuse_aligned(
    alignment: "Alignment",
    text: EmbeddingTable,
    *,
    has_events: NDArray[np.bool_] | None = None,
) -> Fusion:
    """Join the two halves that joint training made agree: the integrated vector of PRORec.

    It is E_C, then E_T, each at length 1. Both are of one space, so an item without a training
    event has E_T in both halves, and an item without text E_C.

    Args:
        alignment: What ``alignment_training.align`` gave.
        text: The text vectors it was given.
        has_events: bool[n], which items occur in the training part; none when all do.

    Raises:
        DataError: When rows differ in number or all vectors of a table are zero.
    """
    tables = {"cf": EmbeddingTable(alignment.cf, {}), "text": text}
    _check(tables, _PARTS["aligned"], has_events)
    cf = tables["cf"].normalised()
    adapted = alignment.adaption.predict(text.normalised())
    silent = ~_all_or(has_events, len(cf))
    cf[silent] = adapted[silent]
    wordless = ~text.vectors.any(axis=1)
    adapted[wordless] = cf[wordless]
    vectors = np.concatenate([cf, adapted], axis=1)
    width = text.vectors.shape[1]
    return Fusion("aligned", vectors, width, alignment.adaption, _facts(text, has_events))


def _check(
    tables: Mapping[str, EmbeddingTable],
    needed: tuple[str, ...],
    has_events: NDArray[np.bool_] | None,
) -> None:
    """Refuse tables that are missing, all zero or of different catalogues."""
    for name in needed:
        if name not in tables:
            raise DataError(f"the {name} vectors are needed and were not given.")
        if not tables[name].vectors.any():
            other = "cf" if name == "text" else "text"
            raise DataError(
                f"all {len(tables[name])} vectors of {name!r} are zero, so they tell no item from "
                f"another; set index.vectors: {other}, or make the {name} vectors again."
            )
    rows = {name: len(table) for name, table in tables.items()}
    if has_events is not None:
        rows["has_events"] = len(has_events)
    if len(set(rows.values())) > 1:
        listed = ", ".join(f"{name} {count}" for name, count in rows.items())
        raise DataError(
            f"the tables have different numbers of items ({listed}); make all of them from the "
            "same dataset."
        )


def _all_or(has_events: NDArray[np.bool_] | None, items: int) -> NDArray[np.bool_]:
    return np.ones(items, dtype=bool) if has_events is None else has_events


def _facts(text: EmbeddingTable | None, has_events: NDArray[np.bool_] | None) -> dict[str, Any]:
    """Count the items that lack something."""
    facts: dict[str, Any] = {}
    if text is not None:
        facts["items_without_text"] = int((~text.vectors.any(axis=1)).sum())
    if has_events is not None:
        facts["items_without_event"] = int((~has_events).sum())
    return facts

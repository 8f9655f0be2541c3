"""Two vectors of an item as one: text, and beside it what users do with it or how it looks."""

import numpy as np
from numpy.typing import NDArray

from genrec.embeddings import mapped_file
from genrec.embeddings.table import EmbeddingTable, unit_rows
from genrec.embeddings.vector_prediction import VectorPrediction, spaced


def side_by_side(
    first: EmbeddingTable,
    text: EmbeddingTable,
    known: NDArray[np.bool_],
    out: NDArray[np.float32],
) -> VectorPrediction:
    """Write the first vectors, and beside them the text vectors where there is room, at length 1.

    Where the first vector says nothing, what the texts and first vectors of the other items
    predict stands in for it; an item without text then has zeros.

    Args:
        first: float32[n, d1].
        text: float32[n, dt]; an item without text has a zero row.
        known: bool[n], whose first vector says something.
        out: float32[n, d1] or float32[n, d1 + dt], filled block by block.

    Returns:
        What stands in, learned from the items with both.
    """
    unit = first.normalised()
    learned = spaced(np.flatnonzero(known & text.vectors.any(axis=1)))
    guess = VectorPrediction.fit(unit_rows(text.vectors[learned]), unit[learned])
    width = unit.shape[1]
    for rows in mapped_file.row_blocks(text.vectors):
        words = unit_rows(text.vectors[rows])
        silent = ~known[rows]
        unit[rows][silent] = guess.predict(words[silent])
        out[rows, :width] = unit[rows]
        if out.shape[1] > width:
            out[rows, width:] = words
    return guess


def multimodal_vectors(
    text: EmbeddingTable, image: EmbeddingTable
) -> tuple[NDArray[np.float32], VectorPrediction]:
    """Return image and text vectors side by side, float32[n, di + dt], and the guess of the first.

    Args:
        text: float32[n, dt]; zero rows for items without text.
        image: float32[n, di]; zero rows for items without a picture, whose half is guessed.
    """
    shape = (len(text), image.vectors.shape[1] + text.vectors.shape[1])
    vectors = np.zeros(shape, dtype=np.float32)
    known = np.asarray(image.vectors.any(axis=1))
    return vectors, side_by_side(image, text, known, vectors)

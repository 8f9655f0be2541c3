"""The vectors that the codes of an index were made from, where it keeps them."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from genrec.embeddings import mapped_file
from genrec.errors import ArtifactError, ConfigError, DataError


def load_item_vectors(folder: Path, items: int) -> NDArray[np.float32]:
    """Read the vectors of an index folder; rows are read from disk when they are used.

    Args:
        folder: ``RUN/index``.
        items: Size of the catalogue.

    Returns:
        float32[items, d], one row a catalogue row. An item of which nothing was known has zeros.

    Raises:
        ConfigError: When the codes were not made from vectors.
        ArtifactError: When the file is damaged or of another catalogue.
    """
    path = folder / "fusion.safetensors"
    if not path.is_file():
        raise ConfigError(
            f"the codes in {folder} were not made from vectors, so there are none to distil: only "
            "index.method residual_kmeans, rq_vae and product quantize vectors. Set "
            "train.distillation_weight: 0, or make the index with one of these methods."
        )
    try:
        vectors: NDArray[np.float32] = mapped_file.mapped(path, "vectors")
    except DataError as error:
        raise ArtifactError(
            f"{path} cannot be read ({error}); run the index stage again."
        ) from error
    if vectors.ndim != 2 or len(vectors) != items:
        raise ArtifactError(
            f"{path} holds a table of shape {vectors.shape}, expected one row for each of {items} "
            "items; run the index stage again."
        )
    return vectors

"""The vectors that the codes of an index stand for, where its quantizer keeps them."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file

from genrec.errors import ConfigError


def load_codebooks(folder: Path) -> list[NDArray[np.float32]]:
    """Read the codebooks of an index folder, one a level.

    Levels above these, such as the one that tells apart items with the same codes, have none.

    Args:
        folder: ``RUN/index``.

    Returns:
        float32[m_l, w_l] for each level l of the quantizer: the vector of each of its codes, in
        the quantizer's own space. A level may have fewer vectors than codes.

    Raises:
        ConfigError: When the folder holds no codebooks.
    """
    path = folder / "quantizer.safetensors"
    tables = load_file(path) if path.is_file() else {}
    # k-means and product quantization call them the first, RQ-VAE the second.
    for name in ("level_{}", "codebooks.{}"):
        codebooks: list[NDArray[np.float32]] = []
        while name.format(len(codebooks)) in tables:
            codebooks.append(tables[name.format(len(codebooks))])
        if codebooks:
            return codebooks
    raise ConfigError(
        f"train.new_rows is codebook, but {folder} holds no codebooks: only index.method "
        "residual_kmeans, rq_vae and product learn them. Set train.new_rows to titles, mean, "
        "normal or convex, or make the index with one of these methods."
    )

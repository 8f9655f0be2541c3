"""A dataset of items only, for stages that read nothing else."""

from pathlib import Path

import numpy as np
import polars as pl

from genrec import artifacts
from genrec.data.catalog import Catalog
from genrec.data.dataset import Dataset
from genrec.data.interactions import Interactions


def write_dataset(folder: Path, texts: list[str]) -> None:
    """Write a dataset folder with one item a text, ids i0, i1, ... and titles T i0, ..."""
    names = [f"i{number}" for number in range(len(texts))]
    none = np.zeros(0, dtype=np.int64)
    events = Interactions(
        none.astype(np.int32), none.astype(np.int32), none, none.astype(np.float32)
    )
    titles = [f"T {name}" for name in names]
    catalog = Catalog(pl.DataFrame({"item_id": names, "title": titles, "text": texts}))
    dataset = Dataset(catalog, [], events, none.astype(np.int8), {})
    with artifacts.writing(folder, "dataset") as partial:
        dataset.save(partial)

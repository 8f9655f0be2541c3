"""The index stage as users call it, on a run folder of a large catalogue that is made up here."""

import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from genrec import artifacts
from genrec.config import Recipe
from genrec.config_index import IndexConfig
from genrec.data.catalog import Catalog
from genrec.data.dataset import Dataset
from genrec.data.interactions import Interactions
from genrec.data.split import split
from genrec.embeddings import mapped_file
from genrec.runtime import Runtime
from genrec.tokenization import build

# Events of a user, and users for each item.
EVENTS, USERS_PER_ITEM = 4, 0.5

Row = dict[str, Any]


def index_stage(path: Path, levels: int, codes: int, seed: int, quiet: bool) -> list[Row]:
    """Time `genrec index` with its defaults on items with the vectors of a ``.npy`` file.

    Checks, collisions, the report and the forecast are part of it; making the run folder is not.
    """
    with tempfile.TemporaryDirectory() as folder:
        run_folder = Path(folder) / "run"
        run_folder.mkdir()
        _write_inputs(run_folder, np.load(path, mmap_mode="r"), seed)
        section = IndexConfig(vectors="text", levels=levels, codes_per_level=codes)
        begun, computed = time.perf_counter(), time.process_time()
        index = build.run(run_folder, Recipe(index=section), Runtime(seed=seed, quiet=quiet))
        seconds, cpu_seconds = time.perf_counter() - begun, time.process_time() - computed
        facts = artifacts.read_manifest(index, "index").facts
    return [
        {
            "method": "residual k-means",
            "part": "genrec index, report and forecast included",
            "seconds": round(seconds, 1),
            "cpu_seconds": round(cpu_seconds, 1),
            "sharing_before": facts["items_sharing_before"],
            "moved": facts["items_moved"],
            "unresolved": facts["items_sharing"],
        }
    ]


def _write_inputs(run_folder: Path, vectors: np.ndarray[Any, Any], seed: int) -> None:
    """Write ``dataset`` and ``text``; popular items are chosen more often."""
    items = len(vectors)
    names = pl.int_range(items, eager=True).cast(pl.String)
    table = pl.DataFrame({"item_id": names, "title": "Item " + names, "text": "Text " + names})
    users = max(1, int(items * USERS_PER_ITEM))
    random = np.random.default_rng(seed)
    chosen = (items * random.random(users * EVENTS) ** 2).astype(np.int32)
    events = Interactions(
        np.repeat(np.arange(users, dtype=np.int32), EVENTS),
        chosen,
        np.tile(np.arange(EVENTS, dtype=np.int64), users),
        np.ones(users * EVENTS, dtype=np.float32),
    )
    user_ids = [f"u{user}" for user in range(users)]
    part = split(events, "leave_one_out")
    with artifacts.writing(run_folder / "dataset", "dataset") as partial:
        Dataset(Catalog(table), user_ids, events, part, {}).save(partial)
    inputs = {"dataset": run_folder / "dataset"}
    with artifacts.writing(run_folder / "text", "text", inputs=inputs) as partial:
        target = mapped_file.create(partial / "vectors.safetensors", "vectors", vectors.shape)
        for rows in mapped_file.row_blocks(vectors):
            target[rows] = vectors[rows]
        (partial / "vectors.json").write_text("{}\n")

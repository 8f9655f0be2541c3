"""What an index promises, counted on real items: no shared codes, codes lead back, one seed."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from genrec import artifacts
from genrec.config import Recipe
from genrec.config_index import IndexConfig
from genrec.data.dataset import Dataset
from genrec.embeddings.table import EmbeddingTable
from genrec.semantic_ids.item_index import ItemIndex
from genrec.tokenization.build import build_index
from genrec.tokenization.fusion import fuse
from genrec.tokenization.methods import indexer_of
from genrec.tokenization.run_tables import item_tables

POLICIES = ("nearest_free", "sinkhorn", "extra_digit")
QUANTIZING = ("residual_kmeans", "product", "rq_vae")
METHODS = (*QUANTIZING, "random", "independent", "title", "sequential", "collaborative", "semantic",
           "hybrid")  # fmt: skip
# Shorter than a training that is to be used: what is checked holds after any number of epochs.
EPOCHS = 5
SEED = 42

Row = dict[str, Any]


def measure(prepared: Path) -> list[Row]:
    """Check every policy and every method on the items of a prepared run."""
    rows = []
    for method in METHODS:
        for policy in POLICIES if method in QUANTIZING else (None,):
            index = build(prepared, method, policy)
            found, offsets = index.rows_of(index.codes)
            alone = np.diff(offsets) == 1
            back = int((found[offsets[:-1][alone]] == np.flatnonzero(alone)).sum())
            again = {threads: _codes_apart(prepared, method, policy, threads) for threads in (1, 2)}
            same = all(np.array_equal(index.codes, codes) for codes in again.values())
            rows.append(
                {
                    "table": "promises",
                    "method": method,
                    "policy": index.facts["collision_policy"],
                    "items": len(index),
                    "sharing_before": index.facts["items_sharing_before"],
                    "unresolved": index.facts["items_sharing"],
                    "lead_back": back / len(index),
                    "same_codes_with_1_and_2_threads": same,
                }
            )
    return rows


def build(prepared: Path, method: str, policy: str | None) -> ItemIndex:
    """Index the items of a prepared run."""
    artifacts.verify(prepared / "dataset", "dataset")
    dataset = Dataset.load(prepared / "dataset")
    tables = {
        "cf": EmbeddingTable.load(prepared / "cf", "items"),
        "text": EmbeddingTable.load(prepared / "text"),
    }
    values: dict[str, Any] = {"method": method, "collisions": policy, "codes_per_level": 256}
    values["rq_vae"] = {"epochs": EPOCHS, "minimum_usage": 0.0}
    section = Recipe.model_validate({"index": values}).index
    assert isinstance(section, IndexConfig)
    vectors = None
    if section.quantizes:
        vectors = fuse("concatenation", tables, has_events=dataset.item_counts > 0).vectors
    built = build_index(
        indexer_of(section, len(dataset.catalog)),
        item_tables(dataset, section, vectors, tables),
        section.collisions,
        facts={},
        seed=SEED,
    )
    return built.index


def _codes_apart(
    prepared: Path, method: str, policy: str | None, threads: int
) -> NDArray[np.int32]:
    """Return the codes that a process of its own gives with so many threads."""
    words = [sys.executable, __file__, str(prepared), method, json.dumps(policy)]
    environment = {"OMP_NUM_THREADS": str(threads), "PATH": "", "PYTHONWARNINGS": "ignore"}
    done = subprocess.run(words, capture_output=True, check=True, env=environment)
    return np.array(json.loads(done.stdout), dtype=np.int32)


if __name__ == "__main__":
    print(json.dumps(build(Path(sys.argv[1]), sys.argv[2], json.loads(sys.argv[3])).codes.tolist()))

"""How long and how much memory a large catalogue takes to index.

``python benchmarks/indexing_scale.py [--items N] [--dimensions D] [--source FILE.npy]`` makes a
memory-mapped table of vectors and gives its items codes: by residual k-means with all collisions
resolved, by the index stage as users call it, and by one epoch of an RQ-VAE. Making the table and
each method run in a process of their own, so that a peak is that method's alone; it counts the
pages of the table that were read.
"""

import argparse
import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from indexing_stage import index_stage
from numpy.typing import NDArray
from results_file import cell, table

Row = dict[str, Any]

LEVELS, CODES = 4, 256
# Noise on each source dimension, as a share of its standard deviation.
NOISE = 0.5
BLOCK_ROWS = 16384
SEED = 42


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print one table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--dimensions", type=int, default=768)
    parser.add_argument("--source", type=Path, help="vectors to draw from; default: random ones")
    parser.add_argument("--skip-rq-vae", action="store_true")
    parser.add_argument("--quiet", action="store_true", help="no progress bars")
    options = parser.parse_args(arguments)
    rows = measure(
        options.items,
        options.dimensions,
        options.source,
        rq_vae=not options.skip_rq_vae,
        quiet=options.quiet,
    )
    keys = list(dict.fromkeys(key for row in rows for key in row))
    print(table(keys, [[cell(row.get(key)) for key in keys] for row in rows]))


def measure(
    items: int,
    dimensions: int,
    source: Path | None = None,
    *,
    rq_vae: bool = True,
    seed: int = SEED,
    quiet: bool = False,
) -> list[Row]:
    """Return one row for each part of the work.

    Args:
        items: Number of vectors.
        dimensions: Their width.
        source: ``.npy`` file of vectors to draw from; None takes random clusters.
        rq_vae: Whether to measure the RQ-VAE as well.
        seed: Seed of everything.
        quiet: No progress bars.

    Returns:
        Rows with ``method``, ``part``, ``items``, ``dimensions``, ``seconds``, ``cpu_seconds`` (of
        all threads) and ``load_before`` (processes that want a core). The last row of a method has
        ``peak_gib`` of its process, and what came out: ``codes``, ``relative_error`` (see
        ``genrec.tokenization.quality.errors``), items that shared their codes before, that moved,
        and that still share them.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "vectors.npy"
        rows = _apart(make_vectors, path, items, dimensions, source, seed)
        rows += _apart(index_by_kmeans, path, seed, quiet)
        rows += _apart(index_stage, path, LEVELS, CODES, seed, quiet)
        if rq_vae:
            rows += _apart(train_rq_vae, path, seed, quiet)
    return [{**row, "items": items, "dimensions": dimensions} for row in rows]


def _apart(work: Callable[..., list[Row]], *arguments: Any) -> list[Row]:  # noqa: ANN401
    """Do the work in a new process; put its peak memory into the last row."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        rows = pool.submit(work, *arguments).result()
        rows[-1]["peak_gib"] = round(pool.submit(_peak_gib).result(), 2)
    return rows


def _peak_gib() -> float:
    # macOS counts bytes, Linux KiB.
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30


@contextmanager
def _timed(rows: list[Row], method: str, part: str) -> Iterator[None]:
    """Append a row with what the part took."""
    load = os.getloadavg()[0]
    begun, computed = time.perf_counter(), time.process_time()
    yield
    rows.append(
        {
            "method": method,
            "part": part,
            "seconds": round(time.perf_counter() - begun, 1),
            "cpu_seconds": round(time.process_time() - computed, 1),
            "load_before": round(load, 1),
        }
    )


def make_vectors(
    path: Path, items: int, dimensions: int, source: Path | None, seed: int
) -> list[Row]:
    """Write float16[items, dimensions]: rows of the source with noise, projected at random."""
    rows: list[Row] = []
    with _timed(rows, "", "make vectors"):
        random = np.random.default_rng(seed)
        drawn_from = _clusters(random) if source is None else np.load(source).astype(np.float32)
        width = drawn_from.shape[1]
        projection = random.normal(size=(width, dimensions)).astype(np.float32) / np.sqrt(width)
        spread = NOISE * drawn_from.std(axis=0)
        x = np.lib.format.open_memmap(path, "w+", dtype=np.float16, shape=(items, dimensions))
        for start in range(0, items, BLOCK_ROWS):
            count = min(BLOCK_ROWS, items - start)
            block = drawn_from[random.integers(0, len(drawn_from), size=count)]
            block += spread * random.standard_normal(block.shape, dtype=np.float32)
            x[start : start + count] = block @ projection
        x.flush()
    return rows


def _clusters(random: np.random.Generator) -> NDArray[np.float32]:
    """Return float32[10000, 64] in 500 clusters."""
    centres = random.standard_normal((500, 64), dtype=np.float32)
    own = random.standard_normal((10_000, 64), dtype=np.float32)
    return centres[random.integers(0, 500, size=10_000)] + 0.5 * own


def index_by_kmeans(path: Path, seed: int, quiet: bool) -> list[Row]:
    """Give every vector codes by residual k-means and resolve the collisions."""
    from genrec.tokenization.collisions import resolve
    from genrec.tokenization.quality import collisions
    from genrec.tokenization.residual_kmeans import ResidualKMeans

    method = "residual k-means"
    rows: list[Row] = []
    x = np.load(path, mmap_mode="r")
    quantizer = ResidualKMeans(LEVELS, CODES, seed=seed, quiet=quiet)
    with _timed(rows, method, "learn centroids"):
        quantizer.fit(x)
    with _timed(rows, method, "give codes"):
        codes = quantizer.codes_of(x)
    with _timed(rows, method, "resolve collisions"):
        resolution = resolve(
            codes,
            quantizer.level_sizes,
            [str(row) for row in range(len(x))],
            lambda some: quantizer.distances(x[some], codes[some, :-1]),
        )
    whole = {
        "method": method,
        "part": "all",
        **{key: round(sum(row[key] for row in rows), 1) for key in ("seconds", "cpu_seconds")},
        "codes": " x ".join(str(size) for size in resolution.level_sizes),
        "relative_error": _relative_error(x, codes, quantizer.decode),
        "sharing_before": collisions(codes)["items_sharing"],
        "moved": resolution.moves,
        "unresolved": collisions(resolution.codes)["items_sharing"],
    }
    return [*rows, whole]


def train_rq_vae(path: Path, seed: int, quiet: bool) -> list[Row]:
    """Train an RQ-VAE for one epoch and give every vector codes."""
    from genrec.tokenization.quality import collisions
    from genrec.tokenization.rq_vae import RqVae

    method = "RQ-VAE"
    rows: list[Row] = []
    x = np.load(path, mmap_mode="r")
    # After one epoch it may use few codes; that is no error here.
    quantizer = RqVae(LEVELS, CODES, epochs=1, minimum_usage=0, seed=seed, quiet=quiet)
    with _timed(rows, method, "one epoch"):
        quantizer.fit(x)
    with _timed(rows, method, "give codes"):
        codes = quantizer.codes_of(x)
    rows[-1]["sharing_before"] = collisions(codes)["items_sharing"]
    return rows


def _relative_error(
    x: NDArray[np.float16],
    codes: NDArray[np.int32],
    decode: Callable[[NDArray[np.int32]], NDArray[np.float32]],
) -> float:
    """Return the share of the vectors' spread that is lost, on at most 16,384 of them."""
    some = np.arange(0, len(x), -(-len(x) // BLOCK_ROWS))
    vectors = x[some].astype(np.float64)
    lost = np.square(vectors - decode(codes[some])).sum()
    spread = np.square(vectors - vectors.mean(axis=0)).sum()
    return round(float(lost / spread), 4) if spread > 0 else 0.0


if __name__ == "__main__":
    main()

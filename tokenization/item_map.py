"""Item vectors in the plane, so that people can look at them."""

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

# Fewer items than this make no picture.
FEWEST_ITEMS = 10
# Width that principal components leave to t-SNE, and its perplexity.
COMPONENTS = 50
PERPLEXITY = 30.0


def item_map(
    vectors: NDArray[np.float32], *, seed: int, most: int = 3000, quiet: bool = True
) -> tuple[NDArray[np.int64], NDArray[np.float32]] | None:
    """Lay a sample of item vectors out in the plane, like beside like.

    Principal components, then t-SNE (van der Maaten and Hinton, "Visualizing data using t-SNE",
    2008). Near points are alike; large distances and the shapes of clusters mean little. It runs
    on one thread, so the same seed gives the same map.

    Args:
        vectors: float32[n, d], may be memory-mapped.
        seed: Draws the sample and starts both steps.
        most: Most items laid out.
        quiet: No progress display.

    Returns:
        Rows int64[r], ascending, and their places float32[r, 2]; None when there are fewer than
        ten items, or all of the sample are the same.
    """
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits

    n = len(vectors)
    if n < FEWEST_ITEMS:
        return None
    rows = np.sort(np.random.default_rng(seed).choice(n, size=min(most, n), replace=False))
    sample = np.asarray(vectors[rows], dtype=np.float32)
    if not np.ptp(sample, axis=0).any():
        return None
    # t-SNE starts from two components, so vectors of one number get a second one.
    sample = np.pad(sample, ((0, 0), (0, max(0, 2 - sample.shape[1]))))
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    console = Console(stderr=True)
    with (
        Progress(*columns, console=console, disable=quiet, transient=True) as progress,
        threadpool_limits(limits=1),
    ):
        progress.add_task("map of the items", total=None)
        width = min(COMPONENTS, *sample.shape)
        reduced = PCA(width, random_state=seed).fit_transform(sample)
        perplexity = min(PERPLEXITY, (len(rows) - 1) / 3)
        plane = TSNE(2, perplexity=perplexity, init="pca", random_state=seed, n_jobs=1)
        return rows, plane.fit_transform(reduced).astype(np.float32)

"""The quality of a small index, for tests of what is made from it."""

import numpy as np

from genrec.data.histories import from_lists
from genrec.semantic_ids.item_index import ItemIndex
from genrec.tokenization.collisions import resolve
from genrec.tokenization.indexer import ItemTables, Proposal
from genrec.tokenization.quality import measure
from genrec.tokenization.residual_kmeans import ResidualKMeans


def example(n=40, seed=0, titles=None):
    """Return the quality, the index, the titles and the vectors of n items in five clusters."""
    rng = np.random.default_rng(seed)
    cluster = np.arange(n) % 5
    x = (8 * rng.normal(size=(5, 4))[cluster] + rng.normal(size=(n, 4))).astype(np.float32)
    quantizer = ResidualKMeans(2, 8).fit(x)
    raw = quantizer.encode(x).codes
    ids = [str(row) for row in range(n)]
    titles = titles or [f"title {row}" for row in range(n)]
    resolution = resolve(
        raw, (8, 8), ids, lambda rows: quantizer.distances(x[rows], raw[rows, :-1])
    )
    tables = ItemTables(
        ids,
        titles,
        vectors=x,
        sequences=from_lists([rng.permutation(n)[:6].tolist() for _ in range(20)]),
        categories=[(f"category {code}",) for code in cluster],
    )
    quality = measure(
        tables,
        resolution.codes,
        resolution.level_sizes,
        seed=1,
        proposal=Proposal(raw, (8, 8), quantizer),
        resolution=resolution,
    )
    facts = {
        "method": "residual_kmeans",
        "vectors": "text",
        "collision_policy": "nearest_free",
    }
    return quality, ItemIndex(resolution.codes, resolution.level_sizes, facts), titles, x


def foreign(n=40, titles=None):
    """Return the quality, the index and the titles of codes of which nothing else is known."""
    codes = np.stack([np.arange(n) // 8, np.arange(n) % 8], axis=1).astype(np.int32)
    titles = titles or [f"title {row}" for row in range(n)]
    tables = ItemTables([str(row) for row in range(n)], titles)
    sizes = (-(-n // 8), 8)
    return measure(tables, codes, sizes, seed=1), ItemIndex(codes, sizes, {}), titles


def forecast_of(recall, *, error=0.01, bits=9.0, shuffled=9.5, transition=0.1):
    """Return figures as ``forecast`` returns them."""

    def figures(value):
        return {
            "recall@10": value,
            "recall@10_error": error,
            "ndcg@10": value / 2,
            "ndcg@10_error": error / 2,
        }

    return {
        "users": 1000,
        **figures(recall),
        "bits": bits,
        "bits_shuffled": shuffled,
        "transition": figures(transition),
    }

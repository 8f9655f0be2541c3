"""From a section of the recipe to the indexer that it means."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

from genrec.config_index import IndexConfig
from genrec.tokenization.classic_collaborative import CollaborativeIndexer
from genrec.tokenization.classic_hybrid import HybridIndexer
from genrec.tokenization.classic_numbers import (
    IndependentIndexer,
    RandomIndexer,
    SequentialIndexer,
)
from genrec.tokenization.classic_semantic import SemanticIndexer
from genrec.tokenization.classic_title import TitleIndexer
from genrec.tokenization.indexer import Indexer
from genrec.tokenization.product import ProductQuantizer
from genrec.tokenization.residual_kmeans import ResidualKMeans
from genrec.tokenization.rq_vae import RqVae
from genrec.tokenization.vector_indexer import VectorIndexer

# Room that two levels have to leave, so that few items have to move.
TUPLES_PER_ITEM = 2.5
SMALLEST_LEVEL = 8
LARGEST_LEVEL = 256


def indexer_of(
    section: IndexConfig, items: int, *, checkpoint: Path | None = None, quiet: bool = True
) -> Indexer:
    """Return the indexer that a recipe asks for.

    Args:
        section: Section ``index``.
        items: Size of the catalogue; it sets the size of codebooks where the section does not.
        checkpoint: Where a method that takes long saves itself to go on after a stop.
        quiet: No progress bars.
    """
    quantizers: dict[str, Callable[[], Indexer]] = {
        "residual_kmeans": partial(_residual_kmeans, section, items, quiet),
        "rq_vae": partial(_rq_vae, section, items, checkpoint, quiet),
        "product": partial(_product, section, items, quiet),
    }
    if section.method in quantizers:
        return quantizers[section.method]()
    classic = section.classic
    collaborative = partial(CollaborativeIndexer, classic.clusters, classic.leaf_items, quiet=quiet)
    others: dict[str, Callable[[], Indexer]] = {
        "random": partial(RandomIndexer, classic.digit_base),
        "independent": IndependentIndexer,
        "title": partial(TitleIndexer, classic.title_words),
        "sequential": partial(SequentialIndexer, classic.digit_base),
        "collaborative": collaborative,
        "semantic": SemanticIndexer,
        "hybrid": lambda: HybridIndexer(
            collaborative() if classic.prefix == "collaborative" else SemanticIndexer()
        ),
    }
    return others[section.method]()


def default_levels(items: int) -> int:
    """Return how many codes an item of a catalogue gets: two while they leave room, else three.

    Fewer codes are learned sooner: of catalogues of 1,500 to 17,000 items none did better with
    three. Two of 256 leave room up to 26,214 items.

    Example:
        >>> [default_levels(items) for items in (100, 12101, 26_214, 26_215, 10**6)]
        [2, 2, 2, 3, 3]
    """
    return 2 if items * TUPLES_PER_ITEM <= LARGEST_LEVEL**2 else 3


def default_codes_per_level(items: int) -> int:
    """Return the size of a codebook for a catalogue of so many items.

    The smallest power of two of which two make 2.5 tuples an item, not below 8 and not above 256:
    64 up to 1,638 items, 128 up to 6,553, 256 beyond.

    Example:
        >>> [default_codes_per_level(items) for items in (10, 100, 1500, 2414, 12101, 10**6)]
        [8, 16, 64, 128, 256, 256]
    """
    size = SMALLEST_LEVEL
    while size < LARGEST_LEVEL and size**2 < items * TUPLES_PER_ITEM:
        size *= 2
    return size


def _shape(section: IndexConfig, items: int) -> tuple[int, int]:
    """Return the codes of an item and the size of each codebook."""
    return (
        section.levels or default_levels(items),
        section.codes_per_level or default_codes_per_level(items),
    )


def _residual_kmeans(section: IndexConfig, items: int, quiet: bool) -> VectorIndexer:
    def build(seed: int) -> ResidualKMeans:
        return ResidualKMeans(
            *_shape(section, items),
            iterations=section.iterations,
            restarts=section.restarts,
            balanced=section.balanced,
            normalise_residuals=section.normalise_residuals,
            seed=seed,
            quiet=quiet,
        )

    return VectorIndexer("residual_kmeans", build)


def _product(section: IndexConfig, items: int, quiet: bool) -> VectorIndexer:
    def build(seed: int) -> ProductQuantizer:
        return ProductQuantizer(
            *_shape(section, items),
            rotate=section.rotate,
            iterations=section.iterations,
            restarts=section.restarts,
            seed=seed,
            quiet=quiet,
        )

    return VectorIndexer("product", build)


def _rq_vae(
    section: IndexConfig, items: int, checkpoint: Path | None, quiet: bool
) -> VectorIndexer:
    settings = section.rq_vae.model_dump()

    def build(seed: int) -> RqVae:
        return RqVae(
            *_shape(section, items),
            **settings,
            seed=seed,
            checkpoint=checkpoint,
            quiet=quiet,
        )

    collaborative = section.rq_vae.collaborative_weight > 0
    return VectorIndexer("rq_vae", build, collaborative=collaborative)

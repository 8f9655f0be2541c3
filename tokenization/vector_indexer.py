"""Item vectors to codes by any quantizer: one indexer for all of them."""

from collections.abc import Callable

from genrec.tokenization.indexer import ItemTables, Need, Proposal
from genrec.tokenization.product import ProductQuantizer
from genrec.tokenization.residual_kmeans import ResidualKMeans
from genrec.tokenization.rq_vae import RqVae


class VectorIndexer:
    """Quantizes item vectors; implements ``Indexer``.

    Args:
        name: Name of the method.
        build: Makes an unfitted quantizer for a seed.
        collaborative: Whether it also learns from collaborative vectors (LETTER).
    """

    def __init__(
        self,
        name: str,
        build: Callable[[int], ResidualKMeans | RqVae | ProductQuantizer],
        *,
        collaborative: bool = False,
    ) -> None:
        self.name = name
        self._build = build
        self._collaborative = collaborative

    @property
    def needs(self) -> frozenset[Need]:
        """The tables that it reads, besides ids and titles."""
        return frozenset({"vectors", "collaborative"} if self._collaborative else {"vectors"})

    def propose(self, tables: ItemTables, seed: int) -> Proposal:
        """Fit the quantizer to the vectors and give every item its codes.

        Raises:
            DataError: When vectors are missing, not finite or hold nothing to learn from.
            ConfigError: When the codes collapse.
        """
        tables.require(*sorted(self.needs))
        assert tables.vectors is not None
        quantizer = self._build(seed)
        if isinstance(quantizer, ResidualKMeans):
            codes = quantizer.fit_encode(tables.vectors)
        elif isinstance(quantizer, RqVae):
            quantizer.fit(tables.vectors, tables.collaborative)
            codes = quantizer.codes_of(tables.vectors)
        else:
            codes = quantizer.fit(tables.vectors).codes_of(tables.vectors)
        return Proposal(codes, quantizer.level_sizes, quantizer)

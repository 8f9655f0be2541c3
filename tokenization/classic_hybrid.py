"""Hybrid indexing: a prefix that says what an item is like, then a code of its own."""

import numpy as np

from genrec.tokenization.classic_collaborative import CollaborativeIndexer
from genrec.tokenization.classic_semantic import SemanticIndexer
from genrec.tokenization.collisions import ranks
from genrec.tokenization.indexer import ItemTables, Need, Proposal
from genrec.tokenization.ragged import pad_and_close


class HybridIndexer:
    """Clusters or categories are the first codes; the last is the item's own (CID+IID, SemID+IID).

    Hua et al., "How to Index Item IDs for Recommendation Foundation Models", SIGIR-AP 2023, hybrid
    indexing: the number of an item within its leaf gives way to one new token an item, as of
    ``IndependentIndexer``, so the last level has n codes. Rows play no part, and an item that is
    not in the tables gets no codes.
    """

    name = "hybrid"

    def __init__(self, prefix: CollaborativeIndexer | SemanticIndexer) -> None:
        """Set what stands before the item's own code."""
        self.prefix = prefix

    @property
    def needs(self) -> frozenset[Need]:
        """The tables that the prefix reads."""
        return self.prefix.needs

    def propose(self, tables: ItemTables, seed: int) -> Proposal:
        """Give every item a tuple of its own; see ``Indexer.propose``."""
        paths, facts = self.prefix.paths(tables, seed)
        own = ranks(tables.item_ids, len(tables)).astype(np.int64)
        codes, sizes = pad_and_close(paths, own)
        return Proposal(codes, sizes, None, {"prefix": self.prefix.name, **facts})

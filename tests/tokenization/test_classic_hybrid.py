import numpy as np
import pytest

from genrec.data.histories import from_lists
from genrec.tokenization.classic_collaborative import CollaborativeIndexer
from genrec.tokenization.classic_hybrid import HybridIndexer
from genrec.tokenization.classic_semantic import SemanticIndexer
from genrec.tokenization.indexer import ItemTables


def tables(n=60):
    rng = np.random.default_rng(0)
    ids = [f"id{number}" for number in rng.permutation(n)]
    sequences = from_lists([rng.choice(n, 4, False).tolist() for _ in range(80)])
    categories = [tuple("abc"[: row % 4]) for row in range(n)]
    return ItemTables(ids, ids, sequences=sequences, categories=categories)


@pytest.mark.parametrize("prefix", [CollaborativeIndexer(4, 10), SemanticIndexer()])
def test_the_prefix_stays_and_the_last_code_is_the_items_own(prefix):
    given = tables()
    proposal = HybridIndexer(prefix).propose(given, seed=3)
    alone = prefix.propose(given, seed=3)
    np.testing.assert_array_equal(proposal.codes[:, :-1], alone.codes[:, :-1])
    assert proposal.level_sizes == (*alone.level_sizes[:-1], 60)
    assert proposal.codes[:, -1].tolist() == [
        sorted(given.item_ids).index(i) for i in given.item_ids
    ]
    assert proposal.facts == {"prefix": prefix.name, **alone.facts}


def test_it_needs_what_its_prefix_needs():
    assert HybridIndexer(SemanticIndexer()).needs == {"categories"}
    assert HybridIndexer(CollaborativeIndexer()).needs == {"sequences"}


def test_a_catalogue_of_one_leaf_has_no_prefix():
    proposal = HybridIndexer(CollaborativeIndexer(4, 100)).propose(tables(), seed=0)
    assert proposal.level_sizes == (60,)

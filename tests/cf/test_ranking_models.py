"""One contract for all baselines: what a ranking model promises, whichever it is."""

from typing import get_args

import numpy as np
import pytest

from genrec.cf import fit
from genrec.cf.load import load
from genrec.config import Baseline
from genrec.errors import RequestError
from tests.cf.test_fit import RUNTIME, recipe, write_dataset
from tests.cf.worlds import arrays, dataset_of, random_sequences

ITEMS = 18
NAMES = get_args(Baseline)
HISTORIES = arrays([0, 1, 2], [], [17], [3, 3, 5, 1, 0, 2, 4, 9, 9], [1])
EXCLUDED = arrays([0, 1, 2], [4, 5], [], range(12), range(18))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Every baseline, fitted; items 15 to 17 are never seen."""
    dataset = dataset_of(random_sequences(0, shortest=4), ITEMS)
    section = {
        "models": ["item_knn", "transition_sasrec", "lightgcn", "bpr", "blend"],
        "graph": {"dimensions": 6, "epochs": 2},
    }
    run_folder = write_dataset(tmp_path_factory.mktemp("run"), dataset)
    return fit.run(run_folder, recipe(**section), RUNTIME)


@pytest.mark.parametrize("name", NAMES)
def test_lists_are_ordered_and_hold_real_items_once_and_none_excluded(folder, name):
    model = load(folder, name)
    assert model.name == name
    for k in (1, 4, 50):
        rankings = model.rank(HISTORIES, k, exclude=EXCLUDED)
        assert len(rankings) == len(HISTORIES)
        for ranking, excluded in zip(rankings, EXCLUDED, strict=True):
            items = ranking.items.tolist()
            allowed = set(range(ITEMS)) - set(excluded.tolist())
            assert len(items) == len(ranking.scores) == len(set(items))
            assert len(items) == min(k, len(allowed))
            assert set(items) <= allowed
            assert np.isfinite(ranking.scores).all()
            assert (np.diff(ranking.scores) <= 0).all()
            assert ranking.items.dtype == np.int32 and ranking.scores.dtype == np.float32


@pytest.mark.parametrize("name", NAMES)
def test_a_list_is_the_start_of_a_longer_one_whoever_else_asks(folder, name):
    model = load(folder, name)
    together = model.rank(HISTORIES, 6)
    for history, ranking in zip(HISTORIES, together, strict=True):
        (alone,) = model.rank([history], ITEMS)
        assert (len(ranking.items), len(alone.items)) == (6, ITEMS)
        assert alone.items[:6].tolist() == ranking.items.tolist()
        np.testing.assert_allclose(alone.scores[:6], ranking.scores, rtol=1e-4, atol=1e-6)
    assert model.rank([], 3) == []


@pytest.mark.parametrize("name", NAMES)
def test_requests_that_mean_nothing_are_refused(folder, name):
    model = load(folder, name)
    with pytest.raises(RequestError, match="k is 0; ask for at least 1 item"):
        model.rank(HISTORIES, 0)
    with pytest.raises(RequestError, match="history 0 holds catalogue rows from 18 to 18"):
        model.rank(arrays([18]), 3)
    with pytest.raises(RequestError, match="exclude has 2 entries for 5 histories"):
        model.rank(HISTORIES, 3, exclude=EXCLUDED[:2])

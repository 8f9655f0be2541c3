"""A collaborative model and item neighbours together, against arithmetic on both."""

import numpy as np
import pytest
import torch

from genrec.cf import fit
from genrec.cf.blend import SHARES, Blend, Neighbours, load_neighbours
from genrec.cf.item_knn import ItemKnn
from genrec.cf.load import load
from genrec.cf.sasrec import SasRec
from genrec.cf.sasrec_ranker import SasRecRanker
from genrec.cf.user_states import item_log_probabilities
from genrec.config import Recipe
from genrec.data.histories import from_lists
from genrec.errors import ArtifactError, ConfigError
from tests.cf.test_fit import RUNTIME, recipe, write_dataset
from tests.cf.worlds import arrays, dataset_of, random_sequences

ITEMS = 15
HISTORIES = arrays([0, 1, 2], [3], [], [9, 4, 4, 11])


def both(seed=0):
    torch.manual_seed(seed)
    network = SasRec(ITEMS, dimensions=8, layers=1, heads=2, max_history=6)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    knn = ItemKnn.fit(dataset_of(random_sequences(seed), ITEMS), shrinkage=1.0)
    return SasRecRanker(network), knn


def near_by_hand(knn, history):
    """Shares of what lists of item neighbours score, items of the history left out."""
    [ranking] = knn.rank([history], ITEMS, exclude=[history])
    total = {
        int(item): float(score)
        for item, score in zip(ranking.items, ranking.scores, strict=True)
        if any(
            item in knn.neighbours[knn.offsets[own] : knn.offsets[own + 1]]
            for own in history.tolist()
        )
    }
    return np.array([total.get(item, 0.0) for item in range(ITEMS)]) / (sum(total.values()) or 1)


def mixed_by_hand(model, knn, history, share):
    own = item_log_probabilities(model, [history])[0].numpy().astype(np.float64)
    return (1 - share) * np.exp(own) + share * near_by_hand(knn, history)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
def test_an_items_probability_is_the_mean_of_both(share):
    model, knn = both()
    found = Neighbours(knn, share).mixed(item_log_probabilities(model, HISTORIES), HISTORIES)
    for row, history in enumerate(HISTORIES):
        want = mixed_by_hand(model, knn, history, share)
        np.testing.assert_allclose(found[row].exp(), want, rtol=1e-4, atol=1e-7)
    near = [len(history) > 0 for history in HISTORIES]
    totals = np.where(near, 1.0, 1.0 - share)
    np.testing.assert_allclose(found.exp().sum(1), totals, rtol=1e-4)


def test_the_share_is_the_best_of_all_for_validation_users():
    rng = np.random.default_rng(4)
    shares = set()
    for seed in range(4):
        model, knn = both(seed)
        lists = [rng.permutation(ITEMS)[: rng.integers(1, 5)].tolist() for _ in range(30)]
        targets = np.array([rng.integers(ITEMS) for _ in lists], dtype=np.int32)
        examples = from_lists(lists, target=targets)
        figures = []
        for share in SHARES:
            gain = 0.0
            for place, history in enumerate(arrays(*lists)):
                scores = mixed_by_hand(model, knn, history, share)
                scores[history] = -1
                ahead = int((scores > scores[targets[place]]).sum())
                hit = targets[place] not in history and ahead < 10
                gain += 1 / np.log2(ahead + 2) if hit else 0.0
            figures.append(gain)
        chosen = Blend.fit(model, knn, examples).neighbours.share
        assert figures[SHARES.index(chosen)] == pytest.approx(max(figures), abs=1e-6)
        shares.add(chosen)
    assert len(shares) > 1
    assert Blend.fit(model, knn, from_lists([])).neighbours.share == 0.0


def test_a_list_is_ordered_by_the_mean_of_both():
    model, knn = both()
    blend = Blend(model, Neighbours(knn, 0.4))
    for history, ranking in zip(
        HISTORIES, blend.rank(HISTORIES, 5, exclude=HISTORIES), strict=True
    ):
        want = mixed_by_hand(model, knn, history, 0.4)
        want[history] = -1
        assert ranking.items.tolist() == np.argsort(-want)[:5].tolist()
        np.testing.assert_allclose(np.exp(ranking.scores), np.sort(want)[::-1][:5], rtol=1e-4)


def test_the_stage_fits_it_for_the_model_whose_vectors_are_read(tmp_path):
    dataset = dataset_of(random_sequences(0, shortest=4), ITEMS)
    run = write_dataset(tmp_path, dataset)
    graph = {"dimensions": 6, "epochs": 2}
    models = ["item_knn", "bpr", "blend"]
    folder = fit.run(run, recipe(models=models, graph=graph, vectors="bpr"), RUNTIME)
    blend = load(folder, "blend")
    assert blend.user_model.name == "bpr" and blend.neighbours.share in SHARES
    again = Blend.fit(
        load(folder, "bpr"), load(folder, "item_knn"), dataset.histories("validation")
    )
    assert again.neighbours.share == blend.neighbours.share


def test_what_is_lacking_is_told(tmp_path):
    run = write_dataset(tmp_path, dataset_of(random_sequences(0, shortest=4), ITEMS))
    with pytest.raises(ConfigError, match="blend, which needs item_knn"):
        fit.run(run, recipe(models=["blend"]), RUNTIME)
    asked = Recipe(cf={"models": ["item_knn"]}, train={"dense": {"weight": 1.0, "cf": "blend"}})
    with pytest.raises(ConfigError, match="train.dense.cf is blend, which cf.models does not name"):
        fit.run(run, asked, RUNTIME)
    folder = fit.run(run, recipe(models=["item_knn"]), RUNTIME)
    with pytest.raises(ArtifactError, match="add item_knn and blend to cf.models"):
        load_neighbours(folder)

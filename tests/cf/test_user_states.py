"""Users on the way, against each beginning of the history on its own."""

import numpy as np
import pytest
import torch

from genrec.cf.user_states import load_named, load_user_model, states_on_the_way, width_of
from genrec.embeddings.table import EmbeddingTable
from genrec.errors import ArtifactError
from tests.training.bridged_run import WIDTH, user_model

HISTORIES = [np.asarray(rows, dtype=np.int32) for rows in ([3, 5, 3, 7], [], [2])]


@pytest.mark.parametrize("name", ["lightgcn", "bpr"])
def test_graphs_on_the_way_are_those_of_each_beginning(name):
    model = user_model(name, 9)
    assert width_of(model) == WIDTH
    for history, states in zip(HISTORIES, states_on_the_way(model, HISTORIES), strict=True):
        beginnings = [history[:count] for count in range(len(history) + 1)]
        np.testing.assert_allclose(states, model.user_vectors(beginnings), atol=1e-6)


def test_sasrec_on_the_way_is_one_pass_that_ends_at_the_users_vector():
    model = user_model("sasrec", 9)
    found = states_on_the_way(model, HISTORIES)
    assert [states.shape for states in found] == [(5, WIDTH), (1, WIDTH), (2, WIDTH)]
    np.testing.assert_allclose(
        np.stack([states[-1] for states in found]), model.user_vectors(HISTORIES), atol=1e-6
    )
    with torch.no_grad():
        alone = model.network(torch.tensor([[9, 3, 5, 3, 7]]), torch.tensor([5]))[0]
    np.testing.assert_allclose(found[0], alone, atol=1e-6)
    assert states_on_the_way(model, []) == []


def test_a_folder_names_its_model(tmp_path):
    for name in ("sasrec", "lightgcn"):
        model = user_model(name, 9)
        folder = tmp_path / name
        folder.mkdir()
        model.save(folder)
        EmbeddingTable(np.zeros((9, WIDTH), np.float32), {"method": name}).save(folder, "items")
        loaded = load_user_model(folder)
        np.testing.assert_array_equal(loaded.user_vectors(HISTORIES), model.user_vectors(HISTORIES))
    with pytest.raises(ArtifactError, match="gives no user vectors"):
        load_named(tmp_path, "popularity")

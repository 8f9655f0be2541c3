import json
import logging
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from genrec import artifacts
from genrec.artifacts import sha256_of
from genrec.cf import fit
from genrec.cf.load import load
from genrec.cf.popularity import Popularity
from genrec.cf.training_checkpoint import Checkpoint
from genrec.config import Recipe
from genrec.embeddings.table import EmbeddingTable
from genrec.errors import ArtifactError, ConfigError
from genrec.runtime import Runtime
from tests.cf.worlds import arrays, dataset_of, random_sequences

ITEMS = 18
AWARE = {"models": ["transition_sasrec"], "vectors": "transition_sasrec"}
ROOT = Path(__file__).parents[2]
LEARNED = ("popularity", "transition", "sasrec", "items", "users")
RUNTIME = Runtime(seed=7, device="cpu", threads=1, quiet=True)


def recipe(**changes):
    section = {"dimensions": 8, "layers": 1, "epochs": 3, "max_history": 6, "batch_items": 64}
    return Recipe.model_validate({"cf": section | changes})


def write_dataset(run_folder, dataset):
    with artifacts.writing(run_folder / "dataset", "dataset") as folder:
        dataset.save(folder)
    return run_folder


def digests(folder, names=LEARNED):
    return {name: sha256_of(folder / f"{name}.safetensors") for name in names}


@pytest.fixture
def dataset():
    # Items 15 to 17 never occur in random sequences; tests place them where they want.
    return dataset_of(random_sequences(0, shortest=4), ITEMS)


def test_writes_models_vectors_and_the_log(tmp_path, dataset):
    folder = fit.run(write_dataset(tmp_path, dataset), recipe(), RUNTIME)
    manifest = artifacts.verify(folder, "cf")
    assert folder == tmp_path / "cf"
    assert (manifest.seed, manifest.config["epochs"]) == (7, 3)
    assert manifest.inputs["dataset"]["digest"] == (
        artifacts.read_manifest(tmp_path / "dataset").digest
    )
    assert not (tmp_path / "cf.checkpoint").exists()
    items, users = (EmbeddingTable.load(folder, name) for name in ("items", "users"))
    assert items.vectors.shape == (ITEMS, 8) and users.vectors.shape == (40, 8)
    assert items.origin["method"] == "sasrec"
    log = json.loads((folder / "training.json").read_text())
    assert [entry["epoch"] for entry in log["epochs"]] == [1, 2, 3]
    best = max(log["epochs"], key=lambda entry: entry["ndcg_at_10"])
    assert log["best_epoch"] == best["epoch"]


@pytest.mark.parametrize("name", ["sasrec", "transition_sasrec"])
def test_loaded_models_rank_with_the_written_vectors(tmp_path, dataset, name):
    more = AWARE if name == "transition_sasrec" else {}
    folder = fit.run(write_dataset(tmp_path, dataset), recipe(**more), RUNTIME)
    items, users = (EmbeddingTable.load(folder, name).vectors for name in ("items", "users"))
    sequences = dataset.sequences()
    histories = [sequences[i] for i in range(len(sequences))]
    assert EmbeddingTable.load(folder, "items").origin["method"] == name
    rankings = load(folder, name).rank(histories, ITEMS)
    for user, ranking in zip(sequences.user, rankings, strict=True):
        assert ranking.items.tolist() == np.argsort(-(items @ users[user])).tolist()
    always = ["popularity", "transition", "sasrec"]
    assert [load(folder, name).name for name in always] == always
    (ranking,) = load(folder, "popularity").rank(arrays([]), 4)
    (expected,) = Popularity.fit(dataset).rank(arrays([]), 4)
    assert ranking.items.tolist() == expected.items.tolist()


def test_users_without_training_items_get_zeros(tmp_path, dataset):
    part = np.where(dataset.interactions.user == 3, 2, dataset.part).astype(np.int8)
    folder = fit.run(write_dataset(tmp_path, replace(dataset, part=part)), recipe(), RUNTIME)
    users = EmbeddingTable.load(folder, "users").vectors
    assert np.flatnonzero(~users.any(axis=1)).tolist() == [3]


def with_other_held_out_items(dataset):
    """Every held-out event names another item, most of them one that training never sees."""
    events = dataset.interactions
    generator = np.random.default_rng(1)
    item = events.item.copy()
    held_out = dataset.part > 0
    item[held_out] = generator.choice([2, 15, 16, 17], size=held_out.sum())
    assert (item != events.item).sum() > held_out.sum() / 2
    return replace(dataset, interactions=replace(events, item=item))


def test_held_out_events_have_no_influence(tmp_path, dataset):
    # One epoch, since validation may choose between epochs and nothing else.
    one = fit.run(write_dataset(tmp_path / "a", dataset), recipe(epochs=1, **AWARE), RUNTIME)
    leaky = with_other_held_out_items(dataset)
    other = fit.run(write_dataset(tmp_path / "b", leaky), recipe(epochs=1, **AWARE), RUNTIME)
    names = (*LEARNED, "transition_sasrec")
    assert digests(one, names) == digests(other, names)


def test_one_training_event_changes_everything(tmp_path, dataset):
    # The counterpart of the test above: it would see an influence if there were one.
    events = dataset.interactions
    item = events.item.copy()
    last_of_first_user = np.flatnonzero(dataset.part == 1)[0] - 1
    item[last_of_first_user] = 17
    changed = replace(dataset, interactions=replace(events, item=item))
    one = fit.run(write_dataset(tmp_path / "a", dataset), recipe(epochs=1, **AWARE), RUNTIME)
    other = fit.run(write_dataset(tmp_path / "b", changed), recipe(epochs=1, **AWARE), RUNTIME)
    names = (*LEARNED, "transition_sasrec")
    before, after = digests(one, names), digests(other, names)
    assert all(before[name] != after[name] for name in names)


def test_vectors_that_are_no_numbers_name_the_step_size(tmp_path, dataset):
    folder = write_dataset(tmp_path, dataset)
    with pytest.raises(ConfigError, match=r"NaN.*lower its learning_rate"):
        fit.run(folder, recipe(epochs=1, learning_rate=1e30, batch_items=10**6), RUNTIME)
    assert not (folder / "cf").exists()


KILLED_RUN = """
import os, signal, sys
from pathlib import Path
from genrec.cf import fit
from genrec.cf.training_checkpoint import Checkpoint
from tests.cf.test_fit import RUNTIME, recipe

save = Checkpoint.save

def save_then_die(self, state):
    save(self, state)
    if len(state.log) == 2:
        os.kill(os.getpid(), signal.SIGKILL)

Checkpoint.save = save_then_die
fit.run(Path(sys.argv[1]), recipe(epochs=4), RUNTIME)
"""


def test_a_killed_run_ends_with_the_same_files(tmp_path, dataset, caplog):
    whole = fit.run(write_dataset(tmp_path / "a", dataset), recipe(epochs=4), RUNTIME)
    run_folder = write_dataset(tmp_path / "b", dataset)
    killed = subprocess.run([sys.executable, "-c", KILLED_RUN, str(run_folder)], cwd=ROOT)
    assert killed.returncode == -signal.SIGKILL
    assert (run_folder / "cf.checkpoint").is_dir() and not (run_folder / "cf").exists()
    with caplog.at_level(logging.INFO):
        resumed = fit.run(run_folder, recipe(epochs=4), RUNTIME)
    assert "goes on after epoch 2" in caplog.text
    assert digests(whole) == digests(resumed)
    assert not (run_folder / "cf.checkpoint").exists()


class Stopped(Exception):
    pass


def test_a_stopped_graph_training_goes_on(tmp_path, dataset, monkeypatch, caplog):
    settings = recipe(models=["lightgcn"], graph={"epochs": 4, "every": 1, "dimensions": 4})
    whole = fit.run(write_dataset(tmp_path / "a", dataset), settings, RUNTIME)
    run_folder = write_dataset(tmp_path / "b", dataset)
    save = Checkpoint.save

    def save_then_stop(self, state):
        save(self, state)
        if self.path.parent.name == "lightgcn" and len(state.log) == 2:
            raise Stopped

    monkeypatch.setattr(Checkpoint, "save", save_then_stop)
    with pytest.raises(Stopped):
        fit.run(run_folder, settings, RUNTIME)
    monkeypatch.undo()
    with caplog.at_level(logging.INFO):
        resumed = fit.run(run_folder, settings, RUNTIME)
    assert "LightGCN goes on after epoch 2" in caplog.text
    assert sha256_of(whole / "lightgcn.safetensors") == sha256_of(resumed / "lightgcn.safetensors")
    assert not (run_folder / "cf.checkpoint").exists()


def test_a_run_stopped_in_the_second_model_ends_with_the_same_files(
    tmp_path, dataset, caplog, monkeypatch
):
    whole = fit.run(write_dataset(tmp_path / "a", dataset), recipe(**AWARE), RUNTIME)
    run_folder = write_dataset(tmp_path / "b", dataset)
    save = Checkpoint.save

    def save_then_stop(self, state):
        save(self, state)
        if self.path.parent.name == "transition_sasrec" and len(state.log) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(Checkpoint, "save", save_then_stop)
    with pytest.raises(KeyboardInterrupt):
        fit.run(run_folder, recipe(**AWARE), RUNTIME)
    monkeypatch.setattr(Checkpoint, "save", save)
    with caplog.at_level(logging.INFO):
        resumed = fit.run(run_folder, recipe(**AWARE), RUNTIME)
    assert "SASRec goes on after epoch 3" in caplog.text
    assert "transition-aware SASRec goes on after epoch 2" in caplog.text
    names = (*LEARNED, "transition_sasrec")
    assert digests(whole, names) == digests(resumed, names)


def test_a_loss_left_out_and_a_query_left_out_make_plain_sasrec(tmp_path, dataset):
    plain = {"long_share": 0.0, "distillation_weight": 0.0}
    folder = fit.run(
        write_dataset(tmp_path, dataset), recipe(**AWARE, transition_sasrec=plain), RUNTIME
    )
    same = digests(folder, ("sasrec", "transition_sasrec"))
    assert same["sasrec"] == same["transition_sasrec"]


@pytest.mark.parametrize(
    "wrong",
    [
        {"query_window": 0},
        {"long_share": 1.1},
        {"distillation_weight": -0.1},
        {"distillation_temperature": 0.0},
    ],
)
def test_settings_that_mean_nothing_are_refused(wrong):
    (key,) = wrong
    with pytest.raises(ValueError, match=key):
        recipe(transition_sasrec=wrong)


def test_without_a_dataset_the_error_names_it(tmp_path):
    with pytest.raises(ArtifactError, match="dataset does not exist"):
        fit.run(tmp_path, recipe(), RUNTIME)


def test_only_a_cf_folder_is_loaded(tmp_path, dataset):
    write_dataset(tmp_path, dataset)
    with pytest.raises(ArtifactError, match="expected a 'cf'"):
        load(tmp_path / "dataset", "popularity")


MORE = {
    "models": ["item_knn", "transition_sasrec", "lightgcn", "bpr"],
    "graph": {"dimensions": 6, "epochs": 2},
}


def test_more_models_and_whose_vectors_are_chosen_by_the_recipe(tmp_path, dataset):
    folder = fit.run(write_dataset(tmp_path, dataset), recipe(**MORE, vectors="lightgcn"), RUNTIME)
    for name in ("item_knn", "transition_sasrec", "lightgcn", "bpr"):
        model = load(folder, name)
        assert model.name == name
        [ranking] = model.rank(arrays([0, 1, 2]), 5, exclude=arrays([0, 1, 2]))
        assert len(ranking) == 5 and not {0, 1, 2} & set(ranking.items.tolist())
    items, users = (EmbeddingTable.load(folder, name) for name in ("items", "users"))
    assert items.vectors.shape == (ITEMS, 6) and users.vectors.shape == (40, 6)
    assert items.origin["method"] == "lightgcn"
    for name, epochs in (("lightgcn", 2), ("transition_sasrec_training", 3)):
        log = json.loads((folder / f"{name}.json").read_text())
        assert log["epochs"][-1]["epoch"] == epochs


def test_models_that_were_not_fitted_are_told(tmp_path, dataset):
    write_dataset(tmp_path, dataset)
    with pytest.raises(ConfigError, match="cf.vectors is bpr, which cf.models does not name"):
        fit.run(tmp_path, recipe(vectors="bpr"), RUNTIME)
    folder = fit.run(tmp_path, recipe(), RUNTIME)
    with pytest.raises(ArtifactError, match="holds no lightgcn; add it to cf.models"):
        load(folder, "lightgcn")

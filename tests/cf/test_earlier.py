"""Models that are there already are not trained again."""

import logging
from dataclasses import replace

import pytest

from genrec.artifacts import sha256_of
from genrec.cf import fit
from genrec.cf.sasrec_training import train as train_sasrec
from tests.cf.test_fit import RUNTIME, recipe, with_other_held_out_items, write_dataset
from tests.cf.worlds import dataset_of, random_sequences

ITEMS = 18
GRAPH = {"dimensions": 4, "epochs": 2}
ALL = ["transition_sasrec", "lightgcn", "bpr"]
FILES = ("sasrec", "transition_sasrec", "lightgcn", "bpr", "items", "users")
LOGS = ("training", "transition_sasrec_training", "lightgcn", "bpr")


@pytest.fixture
def dataset():
    return dataset_of(random_sequences(0, shortest=4), ITEMS)


@pytest.fixture
def trained(monkeypatch):
    """Names of what is trained, in order."""
    names = []

    def sasrec(*args, label, **options):
        names.append("transition_sasrec" if "transition" in label else "sasrec")
        return train_sasrec(*args, label=label, **options)

    def graph(*args, layers, **options):
        names.append("lightgcn" if layers else "bpr")
        return train_graph(*args, layers=layers, **options)

    train_graph = fit.train_graph
    monkeypatch.setattr("genrec.cf.fit_sasrec.train", sasrec)
    monkeypatch.setattr(fit, "train_graph", graph)
    return names


def weights(folder):
    return {name: sha256_of(folder / f"{name}.safetensors") for name in FILES}


def logs(folder):
    return {name: (folder / f"{name}.json").read_text() for name in LOGS}


def test_a_model_that_is_added_is_all_that_is_trained(tmp_path, dataset, trained, caplog):
    whole = fit.run(
        write_dataset(tmp_path / "a", dataset), recipe(models=ALL, graph=GRAPH), RUNTIME
    )
    run_folder = write_dataset(tmp_path / "b", dataset)
    del trained[:]
    for number, name in enumerate(("sasrec", *ALL)):
        with caplog.at_level(logging.INFO):
            caplog.clear()
            grown = fit.run(run_folder, recipe(models=ALL[:number], graph=GRAPH), RUNTIME)
        assert trained == [name]
        assert caplog.text.count("is kept from") == number
        trained.clear()
    assert weights(grown) == weights(whole)
    before = logs(grown)
    assert before["training"].count('"epoch"') == 3
    fit.run(run_folder, recipe(models=ALL, graph=GRAPH), RUNTIME)
    assert trained == [] and weights(grown) == weights(whole) and logs(grown) == before


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"epochs": 2}, ["sasrec", "transition_sasrec"]),
        ({"dropout": 0.2}, ["sasrec", "transition_sasrec"]),
        ({"transition_sasrec": {"query_window": 2}}, ["transition_sasrec"]),
        ({"graph": GRAPH | {"epochs": 3}}, ["lightgcn", "bpr"]),
        ({"graph": GRAPH | {"layers": 1}}, ["lightgcn"]),
        ({"vectors": "bpr"}, []),
    ],
)
def test_a_model_whose_settings_changed_is_trained(tmp_path, dataset, trained, change, expected):
    settings = {"models": ALL, "graph": GRAPH}
    fit.run(write_dataset(tmp_path, dataset), recipe(**settings), RUNTIME)
    del trained[:]
    changed = fit.run(tmp_path, recipe(**settings | change), RUNTIME)
    assert trained == expected
    other = write_dataset(tmp_path / "anew", dataset)
    anew = fit.run(other, recipe(**settings | change), RUNTIME)
    assert weights(changed) == weights(anew)


def test_other_data_or_seeds_train_all(tmp_path, dataset, trained):
    settings = recipe(models=ALL, graph=GRAPH)
    fit.run(write_dataset(tmp_path, dataset), settings, RUNTIME)
    del trained[:]
    fit.run(tmp_path, settings, replace(RUNTIME, seed=8))
    assert trained == ["sasrec", *ALL]
    del trained[:]
    write_dataset(tmp_path, with_other_held_out_items(dataset))
    fit.run(tmp_path, settings, replace(RUNTIME, seed=8))
    assert trained == ["sasrec", *ALL]


def test_of_a_damaged_folder_nothing_is_kept(tmp_path, dataset, trained, caplog):
    folder = fit.run(write_dataset(tmp_path, dataset), recipe(), RUNTIME)
    whole = (folder / "sasrec.safetensors").read_bytes()
    (folder / "sasrec.safetensors").write_bytes(whole[:-1] + b"?")
    fit.run(tmp_path, recipe(), RUNTIME)
    assert trained == ["sasrec", "sasrec"]
    assert "nothing of" in caplog.text and "was changed or damaged" in caplog.text
    assert (folder / "sasrec.safetensors").read_bytes() == whole

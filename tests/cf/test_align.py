"""Stage align: what it reads, what it learns from, and what it refuses."""

import json
import shutil
from dataclasses import asdict

import numpy as np
import polars as pl
import pytest

from genrec import artifacts
from genrec.cf import align
from genrec.config import Recipe
from genrec.config_bridge import AlignConfig
from genrec.embeddings.table import EmbeddingTable
from genrec.errors import ArtifactError, ConfigError
from genrec.runtime import Runtime
from tests.training.bridged_run import write_run
from tests.training.conftest import make_dataset, make_index
from tests.training.world import with_other_held_out

RUNTIME = Runtime(device="cpu", threads=1, quiet=True)
RECIPE = Recipe(align=AlignConfig(dimensions=4, epochs=2))


def with_texts(dataset, texts):
    table = dataset.catalog.table.with_columns(pl.Series("text", texts))
    return type(dataset)(
        type(dataset.catalog)(table), dataset.user_ids, dataset.interactions, dataset.part, {}
    )


def test_the_folder_has_a_vector_an_item_and_the_losses(tmp_path):
    dataset = with_texts(make_dataset(), [f"thing {row}" if row else "" for row in range(24)])
    run = write_run(tmp_path / "run", dataset, make_index())
    shutil.rmtree(run / "joint")
    folder = align.run(run, RECIPE, RUNTIME)
    manifest = artifacts.verify(folder, "joint")
    assert set(manifest.inputs) == {"dataset", "cf", "text"}
    assert manifest.facts["without_text"] == 1
    assert EmbeddingTable.load(folder).vectors.shape == (24, 4)
    log = json.loads((folder / "training.json").read_text())
    assert [entry["epoch"] for entry in log] == [1, 2]
    assert manifest.facts["losses"] == log[-1]


def test_held_out_events_change_nothing(tmp_path):
    """A planted leak: other held-out items must leave the joint vectors as they are."""
    vectors = []
    for name, dataset in (("a", make_dataset()), ("b", with_other_held_out(make_dataset()))):
        run = write_run(tmp_path / name, dataset, make_index())
        shutil.rmtree(run / "joint")
        vectors.append(np.array(EmbeddingTable.load(align.run(run, RECIPE, RUNTIME)).vectors))
    np.testing.assert_array_equal(*vectors)


def test_every_weight_of_the_recipe_is_that_of_its_loss(tmp_path, monkeypatch):
    names = ("match", "item_reconstruction", "text_reconstruction", "recommendation")
    wanted = dict(zip(names, (0.1, 0.2, 0.3, 0.4), strict=True))
    given, train = [], align.train_joint
    monkeypatch.setattr(
        align,
        "train_joint",
        lambda data, weights, *more, **named: (
            given.append(asdict(weights)) or train(data, weights, *more, **named)
        ),
    )
    run = write_run(tmp_path / "run", make_dataset(), make_index())
    align.run(run, Recipe(align=AlignConfig(dimensions=4, epochs=1, **wanted)), RUNTIME)
    assert given == [wanted]


def test_clear_errors(tmp_path):
    run = write_run(tmp_path / "run", make_dataset(), make_index())
    with pytest.raises(ConfigError, match="all weights of align are 0"):
        nothing = dict.fromkeys(
            ("match", "item_reconstruction", "text_reconstruction", "recommendation"), 0.0
        )
        align.run(run, Recipe(align=AlignConfig(**nothing)), RUNTIME)
    other = write_run(tmp_path / "other", with_texts(make_dataset(), ["other"] * 24), make_index())
    shutil.rmtree(run / "cf")
    shutil.copytree(other / "cf", run / "cf")
    with pytest.raises(ArtifactError, match="was made from dataset .*genrec cf"):
        align.run(run, RECIPE, RUNTIME)
    shutil.rmtree(run / "cf")
    with artifacts.writing(run / "cf", "cf", inputs={"dataset": run / "dataset"}) as partial:
        shutil.copytree(other / "cf", partial, dirs_exist_ok=True)
        (partial / "manifest.json").unlink()
        vectors = np.zeros((23, 8), dtype=np.float32)
        EmbeddingTable(vectors, {"method": "sasrec"}).save(partial, "items")
    with pytest.raises(ArtifactError, match="of 23 items, the dataset has 24"):
        align.run(run, RECIPE, RUNTIME)

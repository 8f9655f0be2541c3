"""A whole run with Molar among the rows, by the command line."""

import json

import numpy as np
import polars as pl
import pytest

from genrec import artifacts
from tests.tiny_run import invoke, tiny

MOLAR = [
    "recommend.models=[sasrec, molar]",
    "molar.scratch.hidden=16",
    "molar.scratch.layers=1",
    "molar.epochs=2",
    "molar.max_history=8",
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A run with texts and ready-made image vectors of most items, and codes made of both."""
    folder = tmp_path_factory.mktemp("molar") / "run"
    done = invoke("data", "quickstart-fast", "--run", folder, "-q", *tiny())
    assert done.exit_code == 0, done.stderr
    ids = pl.read_parquet(folder / "dataset" / "catalog.parquet")["item_id"].to_list()[5:]
    vectors = np.random.default_rng(0).normal(size=(len(ids), 6)).tolist()
    path = folder.parent / "images.parquet"
    pl.DataFrame({"item_id": ids, "vector": vectors}).write_parquet(path)
    both = [f"image.vectors={path}", "molar.vectors=multimodal", "index.vectors=multimodal"]
    done = invoke("run", "quickstart-fast", "--run", folder, "-q", *tiny(*MOLAR, *both))
    assert done.exit_code == 0, done.stderr
    assert "image: stale, not made yet" in done.stderr
    return folder


def test_molar_is_a_row_of_the_table(folder):
    assert "molar" in invoke("show", folder).stdout
    manifest = artifacts.verify(folder / "predictions", "predictions")
    assert set(manifest.inputs) == {"dataset", "cf", "molar"}
    assert set(artifacts.read_manifest(folder / "index").inputs) == {"dataset", "text", "image"}
    again = invoke("run", folder, "-q")
    assert [line for line in again.stderr.splitlines() if "stale" in line] == []
    assert "image: fresh" in again.stderr
    assert "items:" not in again.stderr


def test_its_folder_answers_alone(folder):
    item = pl.read_parquet(folder / "dataset" / "catalog.parquet")["item_id"][0]
    done = invoke("recommend", folder / "molar", "--history", item, "-k", 3, "--json")
    assert done.exit_code == 0, done.stderr
    answer = json.loads(done.stdout)
    assert len(answer["items"]) == 3
    assert item not in {each["item_id"] for each in answer["items"]}
    assert answer["score"] == "model"


def test_a_recipe_without_images_names_what_is_missing(folder):
    done = invoke("molar", folder, "-q", "--set", "image.vectors=null", "--set", "cf.epochs=1")
    assert done.exit_code == 0, done.stderr
    done = invoke("image", folder, "-q", "--set", "image.vectors=null")
    assert done.exit_code == 1
    assert "the recipe names no images" in done.stderr

import dataclasses
import json
import shutil

import numpy as np
import polars as pl
import pytest

from genrec import Recommender, artifacts, pipeline
from genrec.data.catalog import Catalog
from genrec.data.dataset import Dataset
from genrec.semantic_ids.generations import latest, lineage
from genrec.semantic_ids.item_index import ItemIndex
from tests import tiny_run
from tests.tiny_run import invoke, tiny

NEW = pl.DataFrame(
    {
        "item_id": ["n1", "n2", "n1", None],
        "title": ["Blue steel mug", "Red wool coat", "Twice", "No id"],
        "text": ["blue steel mug", "red wool coat", "twice", "no id"],
    }
)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    return tiny_run.trained(tmp_path_factory.mktemp("index") / "run")


@pytest.fixture(scope="module")
def grown(trained, tmp_path_factory):
    """A trained run whose index got two items and lost one."""
    path = tmp_path_factory.mktemp("items") / "new.parquet"
    NEW.write_parquet(path)
    added = invoke("index", "add", trained, path, "-q")
    assert added.exit_code == 0, added.stderr
    gone = Catalog.load(trained / "dataset").item_ids[3]
    removed = invoke("index", "remove", trained, gone)
    assert removed.exit_code == 0, removed.stderr
    return trained, added, gone


@pytest.mark.parametrize("arguments", [["index"], ["index", "build"]])
def test_index_is_short_for_index_build(tmp_path, monkeypatch, arguments):
    seen = []

    def run_stage(verb, run_folder, *_):
        seen.append((verb, run_folder))
        raise KeyboardInterrupt

    monkeypatch.setattr(pipeline, "run_stage", run_stage)
    invoke(*arguments, "quickstart-fast", "--run", tmp_path / "run")
    assert seen == [("index", tmp_path / "run")]


def test_items_that_are_added_are_served_and_those_removed_are_not(grown):
    run_folder, added, gone = grown
    assert "2 items added, 0 removed, 2 refused" in added.stderr
    root, second, third = lineage(run_folder)
    assert added.stdout.strip() == str(second.folder)
    old, new = ItemIndex.load(root.folder), ItemIndex.load(second.folder)
    np.testing.assert_array_equal(new.codes[: len(old)], old.codes)
    assert latest(run_folder) == third.folder
    recommender = Recommender.from_pretrained(run_folder)
    assert recommender.index_digest == third.digest
    everything = len(recommender.catalog)
    assert everything == len(old) + 2 - 1
    history = [["n1", Catalog.load(run_folder / "dataset").item_ids[0]]]
    [answer] = recommender.recommend(history, k=everything, exclude_seen=False)
    ids = {item.item_id for item in answer.items}
    assert {"n1", "n2"} <= ids
    assert gone not in ids
    assert len(ids) == everything
    alone = Recommender.from_pretrained(run_folder / "model")
    assert alone.index_digest == root.digest
    assert len(alone.catalog) == len(old)


def test_show_names_the_generations_and_the_run_stays_fresh(grown):
    run_folder, _, _ = grown
    shown = invoke("show", run_folder).stdout
    assert "generation 2: 2 items added, 0 removed" in shown
    assert "generation 3: 0 items added, 1 removed" in shown
    dry = invoke("run", run_folder, "--dry-run")
    assert "train: fresh" in dry.stdout + dry.stderr


def test_codes_go_out_and_come_in_again(grown, tmp_path):
    run_folder, _, gone = grown
    path = tmp_path / "codes.parquet"
    assert invoke("index", "export", run_folder, path, "--format", "pid2sid").exit_code == 0
    table = pl.read_parquet(path)
    assert table.height == len(ItemIndex.load(latest(run_folder)))
    assert gone not in table["item_id"].to_list()
    original = ItemIndex.load(run_folder / "index")
    whole = tmp_path / "whole.json"
    ids = Catalog.load(run_folder / "dataset").item_ids
    tokens = [[f"<{letter}_{code}>" for letter, code in zip("ab", row, strict=True)]
              for row in original.codes.tolist()]  # fmt: skip
    whole.write_text(json.dumps(dict(zip(ids, tokens, strict=True))))
    other = tmp_path / "other"
    done = invoke("run", "quickstart-fast", "--run", other, "--until", "data", "-q", *tiny())
    assert done.exit_code == 0
    read = invoke("index", "import", other, whole, "-q")
    assert read.exit_code == 0, read.stderr
    index = ItemIndex.load(other / "index")
    np.testing.assert_array_equal(index.codes, original.codes)
    assert index.facts["method"] == "imported"
    assert set(artifacts.read_manifest(other / "index").inputs) == {"dataset"}
    assert "by imported" in invoke("show", other).stdout
    refused = invoke("index", "add", other, whole)
    assert refused.exit_code == 1
    assert "Traceback" not in refused.stderr


def test_codes_for_other_items_are_refused(trained, tmp_path):
    path = tmp_path / "codes.json"
    path.write_text(json.dumps({"nobody": ["<a_1>", "<b_2>"]}))
    before = artifacts.read_manifest(trained / "index").digest
    refused = invoke("index", "import", trained, path)
    assert refused.exit_code == 1
    assert "is of another catalogue" in refused.stderr
    assert artifacts.read_manifest(trained / "index").digest == before


def test_the_report_is_one_file(trained, tmp_path):
    path = tmp_path / "page.html"
    done = invoke("index", "report", trained, "-o", path, "-q")
    assert done.exit_code == 0, done.stderr
    assert done.stdout.strip() == str(path)
    page = path.read_text(encoding="utf-8")
    assert page.startswith("<!DOCTYPE html>")
    figures = json.loads(invoke("index", "report", trained, "--json").stdout)
    assert figures[str(trained)]["items"] == 40


def test_a_report_on_runs_that_cannot_be_told_apart_is_refused(trained):
    refused = invoke("index", "report", trained, trained)
    assert refused.exit_code == 1
    assert "different names" in refused.stderr


def test_rows_of_another_dataset_are_never_given_the_codes_of_these(trained, tmp_path):
    run_folder = shutil.copytree(trained, tmp_path / "run")
    dataset = Dataset.load(run_folder / "dataset")
    table = dataset.catalog.table
    turned = dataclasses.replace(dataset, catalog=Catalog(table.reverse()))
    with artifacts.writing(run_folder / "dataset", "dataset") as partial:
        turned.save(partial)
    for arguments in (
        ["export", run_folder, tmp_path / "codes.json"],
        ["report", run_folder, "-o", tmp_path / "page.html"],
        ["remove", run_folder, table["item_id"][0]],
    ):
        refused = invoke("index", *arguments)
        assert refused.exit_code == 1
        assert "whose rows are other items" in refused.stderr
    assert not (tmp_path / "codes.json").exists()
    assert not (tmp_path / "page.html").exists()


def test_indices_of_different_datasets_are_not_compared(trained, tmp_path):
    other = tmp_path / "other"
    words = [word for word in tiny() if not word.startswith("seed")]
    done = invoke("run", "quickstart-fast", "--run", other, "--until", "index", "-q", *words,
                  "--set", "seed=7")  # fmt: skip
    assert done.exit_code == 0, done.stderr
    refused = invoke("index", "report", trained, other, "-o", tmp_path / "page.html")
    assert refused.exit_code == 1
    assert "different datasets" in refused.stderr


def test_the_report_of_a_grown_index_says_what_it_leaves_out(grown, tmp_path):
    run_folder, _, _ = grown
    path = tmp_path / "new folder" / "page.html"
    assert invoke("index", "report", run_folder, "-o", path, "-q").exit_code == 0
    page = path.read_text(encoding="utf-8")
    assert "Since then 2 items were added and 1 removed, up to generation 3" in page


def test_a_run_whose_index_was_made_again_says_what_became_of_its_generations(
    grown, tmp_path, caplog
):
    run_folder = shutil.copytree(grown[0], tmp_path / "run")
    # The same index made again has the same digest, so what was added still belongs to it.
    assert invoke("index", run_folder).exit_code == 0
    assert "are not in this index" not in caplog.text
    done = invoke("index", run_folder, "--set", "index.levels=3")
    assert done.exit_code == 0, done.stderr
    assert "are not in this index" in caplog.text
    assert "MOVED/N/catalog.parquet" in caplog.text
    shown = invoke("show", run_folder)
    assert shown.exit_code == 0
    assert "later generations cannot be used" in shown.stdout

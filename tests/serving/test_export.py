import shutil
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from genrec import artifacts
from genrec.cf.popularity import Popularity
from genrec.config import Recipe
from genrec.data.dataset import Dataset
from genrec.data.ranking import Ranking
from genrec.data.sample import sample
from genrec.decoding.ranker import GenerativeRanker
from genrec.errors import ArtifactError, DataError
from genrec.evaluation.predictions import Predictions, check
from genrec.runtime import Runtime
from genrec.serving import export
from genrec.serving.export import mark_invalid, run
from tests.serving.world import ITEMS, USERS, build

RUNTIME = Runtime(device="cpu", dtype="float32", quiet=True)


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    return build(tmp_path_factory.mktemp("world") / "run")


@pytest.fixture
def folder(built, tmp_path):
    shutil.copytree(built, tmp_path / "run")
    return tmp_path / "run"


def recipe(**recommend):
    return Recipe.model_validate({"recommend": {"k": 5, "beam": 8, **recommend}})


def load(folder, model):
    predictions = Predictions.load(folder / "predictions", model)
    check(predictions)
    return predictions


def test_every_model_gives_every_test_user_k_unseen_items(folder):
    assert run(folder, recipe(), RUNTIME) == folder / "predictions"
    manifest = artifacts.verify(folder / "predictions", "predictions")
    assert set(manifest.inputs) == {"dataset", "cf", "model"}
    histories = Dataset.load(folder / "dataset").histories("test")
    for name in ("popularity", "transition", "sasrec", "genrec"):
        predictions = load(folder, name)
        assert predictions.examples.tolist() == list(range(USERS))
        for example in range(USERS):
            items = predictions.item[predictions.example == example].tolist()
            assert len(set(items)) == len(items) == 5
            assert all(0 <= item < ITEMS for item in items)
            assert not set(items) & set(histories[example].tolist())
        facts = predictions.facts
        assert (facts["part"], facts["k"], facts["beam"], facts["examples"]) == ("test", 5, 8, 20)
        assert (facts["exclude_seen"], facts["sampled"], facts["invalid"]) == (True, False, 0)
        assert facts["seconds"] > 0 and facts["seed"] == 42
    assert not (folder / "predictions.checkpoint").exists()


def test_popularity_lists_are_the_counts_worked_out_by_hand(folder):
    run(folder, recipe(models=["popularity"], part="validation"), RUNTIME)
    data = Dataset.load(folder / "dataset")
    counts = Counter(data.interactions.item[data.part == 0].tolist())
    predictions = load(folder, "popularity")
    for example in range(USERS):
        seen = set(data.histories("validation")[example].tolist())
        best = sorted((-counts[item], item) for item in range(ITEMS) if item not in seen)[:5]
        rows = predictions.example == example
        assert predictions.item[rows].tolist() == [item for _, item in best]
    assert set(artifacts.read_manifest(folder / "predictions").inputs) == {"dataset", "cf"}


def test_outside_ids_are_written_beside_the_rows(folder):
    import polars as pl

    run(folder, recipe(models=["genrec"], users=6), RUNTIME)
    data = Dataset.load(folder / "dataset")
    table = pl.read_parquet(folder / "predictions" / "genrec.parquet")
    histories = data.histories("test")
    for row in table.iter_rows(named=True):
        assert row["item_id"] == f"p{row['item']:02d}"
        assert row["user_id"] == data.user_ids[histories.user[row["example"]]]


def test_a_sample_is_random_sorted_repeatable_and_not_the_first_users(folder):
    drawn = sample(1000, 100, seed=1)
    assert len(set(drawn.tolist())) == 100
    assert drawn.tolist() == sorted(drawn.tolist()) == sample(1000, 100, seed=1).tolist()
    assert drawn.tolist() != sample(1000, 100, seed=2).tolist()
    # Means of 100 draws from 0..999 lie within 5 standard errors (29 each) of 499.5.
    assert abs(drawn.mean() - 499.5) < 145
    assert sample(5, 9, seed=0).tolist() == sample(5, None, seed=0).tolist() == [0, 1, 2, 3, 4]
    # Every position has the same chance: 2,000 draws of 3 in 10 give each about 600.
    hits = np.bincount(np.concatenate([sample(10, 3, seed) for seed in range(2000)]), minlength=10)
    assert (abs(hits - 600) < 5 * np.sqrt(2000 * 0.3 * 0.7)).all()

    run(folder, recipe(models=["popularity"], users=7), RUNTIME)
    predictions = load(folder, "popularity")
    assert predictions.examples.tolist() == sample(USERS, 7, 42).tolist()
    assert predictions.facts["sampled"] is True and predictions.facts["examples"] == 7


def test_seen_items_stay_when_the_recipe_says_so(folder):
    run(folder, recipe(models=["genrec"], exclude_seen=False, k=ITEMS, beam=ITEMS), RUNTIME)
    predictions = load(folder, "genrec")
    assert np.bincount(predictions.item, minlength=ITEMS).tolist() == [USERS] * ITEMS


def test_k_beyond_the_catalogue_gives_what_is_left(folder, caplog):
    run(folder, recipe(k=500, beam=10), RUNTIME)
    assert f"genrec: {USERS} of {USERS} lists have fewer than 500 items, 0 have none" in caplog.text
    histories = Dataset.load(folder / "dataset").histories("test")
    left = [ITEMS - len(set(histories[example].tolist())) for example in range(USERS)]
    for name in ("popularity", "transition", "sasrec", "genrec"):
        predictions = load(folder, name)
        assert np.bincount(predictions.example, minlength=USERS).tolist() == left


@pytest.fixture
def counted(monkeypatch):
    """Chunks of 3 examples, and a list of how many histories each call ranked."""
    calls = []
    inner = GenerativeRanker.rank

    def rank(self, histories, k, *, exclude=None):
        calls.append(len(histories))
        return inner(self, histories, k, exclude=exclude)

    monkeypatch.setattr(export, "CHUNK", 3)
    monkeypatch.setattr(GenerativeRanker, "rank", rank)
    return calls


def stop_after(monkeypatch, pieces):
    """Make the write of a later piece end the process's work, as a signal would."""
    inner, done = export.Shards.save, []

    def save(self, name, rankings, seconds):
        if len(done) == pieces:
            raise KeyboardInterrupt
        done.append(name)
        inner(self, name, rankings, seconds)

    monkeypatch.setattr(export.Shards, "save", save)
    return inner


def test_a_stopped_run_goes_on_and_ends_with_the_same_lists(folder, tmp_path, counted, monkeypatch):
    settings = recipe(models=["popularity", "genrec"])
    whole = tmp_path / "whole"
    shutil.copytree(folder, whole)
    run(whole, settings, RUNTIME)
    assert counted == [3] * 6 + [2]
    counted.clear()

    inner = stop_after(monkeypatch, 7 + 4)
    with pytest.raises(KeyboardInterrupt):
        run(folder, settings, RUNTIME)
    assert not (folder / "predictions").exists()
    assert counted == [3] * 5
    counted.clear()
    monkeypatch.setattr(export.Shards, "save", inner)
    run(folder, settings, RUNTIME)
    assert counted == [3, 3, 2]
    for name in ("popularity", "genrec"):
        resumed, expected = load(folder, name), load(whole, name)
        assert resumed.item.tolist() == expected.item.tolist()
        assert resumed.score.tolist() == expected.score.tolist()
    assert not (folder / "predictions.checkpoint").exists()


@pytest.mark.parametrize("change", ["recipe", "seed", "model", "runtime"])
def test_a_checkpoint_of_other_inputs_is_not_taken(folder, counted, monkeypatch, change):
    settings = recipe(models=["genrec"])
    inner = stop_after(monkeypatch, 4)
    with pytest.raises(KeyboardInterrupt):
        run(folder, settings, RUNTIME)
    monkeypatch.setattr(export.Shards, "save", inner)
    counted.clear()
    if change == "recipe":
        settings = recipe(models=["genrec"], k=4)
    if change == "seed":
        settings = settings.model_copy(update={"seed": 7})
    if change == "model":
        manifest = artifacts.read_manifest(folder / "model")
        assert manifest.inputs
        with artifacts.writing(
            folder / "again", "model", inputs={"dataset": folder / "dataset"}
        ) as partial:
            shutil.copytree(folder / "model", partial, dirs_exist_ok=True)
            (partial / "note.txt").write_text("another model")
        shutil.rmtree(folder / "model")
        (folder / "again").rename(folder / "model")
    runtime = replace(RUNTIME, dtype="bfloat16") if change == "runtime" else RUNTIME
    run(folder, settings, runtime)
    assert sum(counted) == USERS


def test_what_is_no_recommendation_becomes_an_entry_without_item():
    ranking = Ranking(
        np.array([4, -7, 9, 30, 4, 2, 8], np.int32), np.arange(7, 0, -1).astype(np.float32)
    )
    # Row 2 was excluded, 30 and -7 lie outside, the second 4 is a repeat, 8 is beyond k = 6.
    marked = mark_invalid(ranking, items=30, k=6, excluded=np.array([2], np.int32))
    assert marked.items.tolist() == [4, -1, 9, -1, -1, -1, -1]
    assert marked.scores.tolist() == [7, 6, 5, 4, 3, 2, 1]
    good = Ranking(np.array([3, 0], np.int32), np.array([2, 1], np.float32))
    assert mark_invalid(good, 30, 6, None).items.tolist() == [3, 0]


def test_invalid_entries_are_counted_and_said(folder, monkeypatch, caplog):
    def rank(self, histories, k, *, exclude=None):
        return [
            Ranking(np.array([ITEMS, -1], np.int32), np.array([2, 1], np.float32))
            for _ in histories
        ]

    monkeypatch.setattr(Popularity, "rank", rank)
    run(folder, recipe(models=["popularity"]), RUNTIME)
    predictions = load(folder, "popularity")
    assert predictions.item.tolist() == [-1] * (2 * USERS)
    assert predictions.facts["invalid"] == 2 * USERS
    assert f"{2 * USERS} entries that are no valid recommendation" in caplog.text


def test_inputs_of_another_dataset_or_damaged_ones_are_refused(folder):
    (folder / "cf" / "popularity.safetensors").write_bytes(b"no")
    with pytest.raises(ArtifactError, match="changed or damaged"):
        run(folder, recipe(), RUNTIME)
    run(folder, recipe(models=["genrec"]), RUNTIME)
    data = Dataset.load(folder / "dataset")
    shutil.rmtree(folder / "dataset")
    with artifacts.writing(folder / "dataset", "dataset") as partial:
        Dataset(data.catalog, data.user_ids, data.interactions, data.part, {"new": 1}).save(partial)
    with pytest.raises(ArtifactError, match="run `genrec train` again"):
        run(folder, recipe(models=["genrec"]), RUNTIME)
    shutil.rmtree(folder / "model")
    with pytest.raises(ArtifactError, match="does not exist"):
        run(folder, recipe(models=["genrec"]), RUNTIME)


def test_a_part_without_events_is_explained(tmp_path):
    from tests.serving.world import dataset

    data = dataset()
    part = np.where(data.part == 2, 0, data.part).astype(np.int8)
    with artifacts.writing(tmp_path / "dataset", "dataset") as partial:
        Dataset(data.catalog, data.user_ids, data.interactions, part, {}).save(partial)
    with artifacts.writing(
        tmp_path / "cf", "cf", inputs={"dataset": tmp_path / "dataset"}
    ) as partial:
        (partial / "x").write_text("x")
    with pytest.raises(DataError, match="the test part of the dataset has no event"):
        run(tmp_path, recipe(models=["popularity"]), RUNTIME)

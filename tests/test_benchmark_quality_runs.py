"""Run folders of the quality benchmark, made by the verbs themselves on the embedded store."""

from pathlib import Path

import numpy as np
import pytest

from genrec import artifacts
from genrec.data.dataset import Dataset
from tests.cf.worlds import dataset_of
from tests.quality_world import PLAN, StepError, changed_plan, measure, runs, trend
from tests.tiny_run import invoke


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """Return what measures rows of the store by the verbs themselves, and the verbs it called."""
    called = []

    def call(command):
        _, verb, folder, *rest = command
        called.append((verb, Path(folder).name))
        done = invoke(verb, folder, *rest)
        assert done.exit_code == 0, done.stderr
        return 0.0

    patch = pytest.MonkeyPatch()
    patch.setattr(runs, "call", call)
    folder = tmp_path_factory.mktemp("quality")
    place = runs.Place(folder, settings=("runtime.threads=1", "runtime.dtype=float32"))

    def made(row, protocol="standard", seed=42, plan=PLAN, **changes):
        where = runs.Place(**{**place.__dict__, **changes})
        job = plan.job("store", protocol, row, seed)
        called.clear()
        run_folder = runs.run(job, where.recipe(job, None), where)
        return measure.measure(job, run_folder), [verb for verb, _ in called]

    yield made, folder
    patch.undo()


def test_rows_share_what_fits_and_make_the_rest(store):
    made, folder = store
    job = PLAN.job("store", "standard", "sasrec", 42)
    place = runs.Place(folder)
    assert runs.lacks_cf(job, job.recipe, place)
    figures, verbs = made("sasrec")
    assert verbs == ["data", "cf", "recommend", "evaluate"]
    assert figures["examples"] == 300 and figures["parameters"] > 1000
    assert not runs.lacks_cf(job, job.recipe, place)
    assert made("sasrec")[1] == []
    assert made("popularity")[1] == ["recommend", "evaluate"]
    figures, verbs = made("stream")
    assert verbs == ["embed", "index", "train", "recommend", "evaluate"]
    assert figures["curve"][-1]["tokens"] == figures["tokens_read"] > 1000
    assert (
        len(figures["curve"])
        == PLAN.job("store", "standard", "stream", 42).recipe.train.evaluations
    )
    # The same model under another protocol, and another model on the same codes.
    assert made("stream", "seen-kept")[1] == ["recommend", "evaluate"]
    assert made("stream-teacher")[1] == ["train", "recommend", "evaluate"]
    assert "data" in made("popularity", seed=43)[1]
    figures, verbs = made("content_knn")
    assert verbs == ["evaluate"]  # its lists are made here, of the vectors of the other rows
    assert figures["recall@10"] > 0 and figures["history"] == "all"


def test_a_prepared_run_is_taken_where_it_fits(store, tmp_path):
    made, folder = store
    prepared = {"store": [folder / "store-sasrec-seed42"]}
    assert made("sasrec", runs=tmp_path / "a", prepared=prepared)[1] == ["recommend", "evaluate"]
    first, second = (folder / "store-sasrec-seed42", tmp_path / "a" / "store-sasrec-seed42")
    for name in ("dataset", "cf"):
        assert artifacts.verify(second / name).digest == artifacts.verify(first / name).digest
    tuned = changed_plan(sets__store__last_word__cf={"dimensions": 16, "layers": 1, "epochs": 2})
    verbs = made("sasrec", plan=tuned, runs=tmp_path / "b", prepared=prepared)[1]
    assert verbs == ["cf", "recommend", "evaluate"]
    fewer = changed_plan(recipe__cf={"models": ["item_knn"]})
    for row, verbs in (("item_knn", []), ("lightgcn", ["cf"])):
        other = {"store": [tmp_path / "c" / "store-item_knn-seed42"]}
        if row == "item_knn":
            made(row, plan=fewer, runs=tmp_path / "c", prepared={})
        found = made(row, runs=tmp_path / f"d-{row}", prepared=other)[1]
        # A cf folder may lack models that the row has no use for, but not its own.
        assert found == [*verbs, "recommend", "evaluate"]


def test_users_of_whom_nothing_was_learned(store):
    made, folder = store
    figures, _ = made("popularity", "cold-users")
    dataset = Dataset.load(folder / "store-cold-users-popularity-seed42" / "dataset")
    order = np.argsort(-dataset.item_counts, kind="stable")
    trained = set(dataset.train.user.tolist())
    test = dataset.histories("test")
    cold = [place for place in range(len(test)) if int(test.user[place]) not in trained]
    assert figures["examples"] == len(cold) < len(test)
    hits = [int(test.target[place]) in order[~np.isin(order, test[place])][:50] for place in cold]
    assert figures["recall@50"] == pytest.approx(np.mean(hits))
    figures, _ = made("popularity", "cold-items")
    assert figures["recall@50"] == 0.0  # it never saw them


def test_a_trend_counts_what_others_chose_before_the_moment_of_the_request(store):
    made, folder = store
    figures, verbs = made("trend")
    assert verbs == ["evaluate"] and figures["history"] == "none"
    dataset = Dataset.load(folder / "store-trend-seed42" / "dataset")
    events, n = dataset.interactions, len(dataset.catalog)
    known = [
        (int(events.time[row]), int(events.item[row])) for row in np.flatnonzero(dataset.part == 0)
    ]

    def gains(part, days):
        """NDCG@10 and recall@10 of every example, event by event."""
        found = []
        for row in np.flatnonzero(dataset.part == part):
            own = (events.user == events.user[row]) & (dataset.part < part)
            weights = np.zeros(n)
            for time, item in known:
                age = (int(events.time[row]) - time) / (86_400 * days)
                weights[item] += np.exp(-age) if 0 < age <= 8 else 0
            weights[events.item[own]] = -1
            rank = int((weights > weights[events.item[row]]).sum())
            rank += int((weights == weights[events.item[row]])[: events.item[row]].sum())
            found.append((1 / np.log2(rank + 2) if rank < 10 else 0, rank < 10))
        return np.mean(found, axis=0)

    days = max(trend.DAYS, key=lambda each: gains(1, each)[0])
    assert gains(2, days) == pytest.approx([figures["ndcg@10"], figures["recall@10"]])


def test_an_order_without_times_has_no_trend():
    sequences = [[0, 1, 2, 3], [3, 2, 1, 0]]
    with pytest.raises(StepError, match="no times, only an order"):
        trend.Events.of(dataset_of(sequences, 4))

import json
import math

import numpy as np
import pytest
from scipy import stats

from genrec.data.histories import from_lists
from genrec.errors import ConfigError
from genrec.evaluation.predictions import Predictions
from tests.quality_world import (
    PLAN,
    StepError,
    changed_plan,
    content,
    measure,
    page,
    plans,
    quality,
    summary,
)

TABLES = [(name, set_name, row) for name, table in PLAN.tables.items()
          for set_name in [*table.sets, "store"] for row in table.rows]  # fmt: skip
MACHINE = {"cpu": "c", "cores": 2, "memory_gib": 1, "python": "3", "torch": "2", "genrec": "0"}
STAMP = {"commit": "a" * 40, "machine": MACHINE, "date": "2026-01-01T00:00+00:00"}


def record(set_name, row, seed, ndcg, **more):
    job = PLAN.job(set_name, more.pop("protocol", "standard"), row, seed)
    figures = {"recall@10": 2 * ndcg, "ndcg@10": ndcg, "recall@50": 3 * ndcg, "examples": 100}
    return {**STAMP, **quality._place_of(job), **figures, "history": 20, **more}


@pytest.mark.parametrize(("table", "set_name", "row"), TABLES)
def test_every_row_is_a_recipe_of_one_model_under_its_protocol(table, set_name, row):
    job = PLAN.job(set_name, PLAN.tables[table].protocol, row, 43)
    recipe = job.recipe
    assert recipe.seed == 43
    assert recipe.recommend.exclude_seen == (job.protocol != "seen-kept")
    verbs = [stage.verb for stage in job.stages]
    assert verbs[0] == "data" and verbs[-2:] == ["recommend", "evaluate"]
    if job.plan.lists == "genrec":
        assert len(recipe.recommend.models) == 1
        assert (job.plan.kind == "generative") <= ("train" in verbs)
        assert (job.plan.kind == "baseline") <= ("train" not in verbs)
    if set_name == "store":
        assert recipe.train.max_steps < 100


def test_no_two_rows_of_a_set_are_the_same_measurement():
    found = [(job.set, job.protocol, job.seed, job.digest) for job in PLAN.jobs()]
    assert len(found) == len(set(found))
    assert len(PLAN.jobs()) == len({job.folder_name for job in PLAN.jobs()})


def test_a_seed_after_the_other_and_cheap_rows_first():
    jobs = PLAN.jobs(sets=["beauty", "movietweetings"])
    order = [(job.seed, job.minutes) for job in jobs]
    assert order == sorted(order)
    assert {job.set for job in jobs} == {"beauty", "movietweetings"}
    chosen = PLAN.jobs(["quality"], ["games"], ["stream", "sasrec"], [44])
    assert [job.key for job in chosen] == [
        ("games", "standard", "sasrec", 44), ("games", "standard", "stream", 44),
    ]  # fmt: skip


def test_a_digest_follows_the_settings_that_matter():
    def digests(plan):
        return {row: plan.job("beauty", "standard", row, 42).digest for row in PLAN.rows}

    before = digests(PLAN)
    assert before == {row: PLAN.job("beauty", "standard", row, 43).digest for row in PLAN.rows}
    trained = digests(changed_plan(rows__stream__recipe__train__learning_rate=1e-3))
    moved = {row for row in before if before[row] != trained[row]}
    assert moved == {
        "stream", "stream-teacher", "stream-text", "stream-bridge", "stream-dense", "dense-alone",
        "codes-of-dense", "dense-without-bridge", "dense-read", "dense-read-whitened",
        "dense-read-blend", "dense-read-new-items",
    }  # fmt: skip
    graphs = digests(changed_plan(sets__beauty__recipe__cf={**PLAN.sets["beauty"].recipe["cf"],
                                                            "graph": {"layers": 2}}))  # fmt: skip
    assert {row for row in before if before[row] != graphs[row]} == {"lightgcn"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("rows:\n  a: {kind: baseline}", "minutes"),
        ("goal: {table: none, ratio: 1.1, sets: 2}", "'none', which is not among the tables"),
        ("rows:\n  a: {kind: baseline, minutes: 1, extends: b}", "does not stand before it"),
        ("rows:\n  a: {kind: baseline, minutes: 1, recipe: {recommend: {users: 5}}}",
         "row a sets recommend.users, which only sets and protocols may"),
    ],
)  # fmt: skip
def test_a_wrong_plan_is_refused(tmp_path, text, message):
    whole = {
        "seeds": "seeds: [1]", "recipe": "recipe: {}", "sets": "sets: {}", "costs": "costs: []",
        "protocols": "protocols: {standard: {words: x}}", "rows": "rows: {}",
        "tables": "tables: {t: {title: t, sets: [], rows: []}}",
        "goal": "goal: {table: t, ratio: 1.1, sets: 2}",
    }  # fmt: skip
    path = tmp_path / "plan.yaml"
    path.write_text("\n".join(whole.values()))
    assert plans.read_plan(path).jobs() == []
    path.write_text("\n".join((whole | {text.partition(":")[0]: text}).values()))
    with pytest.raises(ConfigError, match=message):
        plans.read_plan(path)


def test_the_interval_over_seeds_is_students():
    low, high = summary.t_interval([0.10, 0.12, 0.14])
    half = 4.30265 * 0.02 / math.sqrt(3)  # the 97.5 % point for two degrees of freedom
    assert (low, high) == pytest.approx((0.12 - half, 0.12 + half), abs=1e-6)
    values = [0.3, 0.5, 0.1, 0.2]
    test = stats.ttest_1samp(values, 0.0).confidence_interval(0.95)
    assert summary.t_interval(values) == pytest.approx((test.low, test.high))
    assert summary.t_interval([0.1]) is None


def test_means_ratios_and_intervals_of_a_row():
    base = summary.summarise("sasrec", [record("beauty", "sasrec", seed, value)
                             for seed, value in ((42, 0.05), (43, 0.04), (44, 0.06))])  # fmt: skip
    own = summary.summarise(
        "stream",
        [record("beauty", "stream", 43, 0.06, **{"ndcg@10_low": 0.05, "ndcg@10_high": 0.07}),
         record("beauty", "stream", 42, 0.05, **{"ndcg@10_low": 0.03, "ndcg@10_high": 0.06})],
    )  # fmt: skip
    assert own.means["ndcg@10"] == pytest.approx(0.055)
    assert own.means["recall@50"] == pytest.approx(0.165)
    assert own.over_users["ndcg@10"] == pytest.approx((0.04, 0.065))
    assert list(own.records) == [42, 43]
    value, ends = summary.ratio(own, base)
    assert value == pytest.approx(0.11 / 0.09)  # seed 44 is not in both
    assert ends == pytest.approx(summary.t_interval([1.0, 1.5]))
    other = summary.summarise("stream", [record("beauty", "stream", 7, 0.1)])
    assert summary.ratio(other, base) is None


def test_the_goal_is_told_as_it_is():
    records = [
        record(set_name, row, 42, value)
        for set_name, row, value in (
            ("beauty", "popularity", 0.02), ("beauty", "sasrec", 0.05), ("beauty", "tiger", 0.04),
            ("beauty", "stream", 0.0551), ("games", "sasrec", 0.05), ("games", "stream", 0.0549),
        )
    ]  # fmt: skip
    rows = {row["set"]: row for row in summary.goal_rows(PLAN, records)}
    assert rows["beauty"]["baseline"].row == "sasrec"
    assert rows["beauty"]["generative"].row == "stream"
    assert rows["beauty"]["ratio"][0] == pytest.approx(1.102)
    assert [rows[name]["met"] for name in rows] == [True, False, None]
    notes = {"protocol": "p", "limits": "l"}
    body = {"command": "c", "rows": records, "seeds": "s", "noise": "n", "notes": notes}
    text = page.page(PLAN, body)
    assert "on 2 of 3 sets: open, 1 so far" in text
    assert (
        "| Amazon 2018 Games | sasrec (1 seed) | 0.0500 | stream (1 seed) | 0.0549 | 1.098 |"
        in (text)
    )
    assert "| Amazon 2014 Beauty | sasrec | ndcg@10 | 0.0503 | 0.0500 | **not reached** |" in text
    more = [record("movietweetings", row, 42, 0.1) for row in ("sasrec", "stream")]
    text = page.page(PLAN, body | {"rows": records + more})
    assert "on 2 of 3 sets: **missed**, 1 so far" in text


def test_the_page_shows_what_is_stale_failed_and_beside_a_reference():
    plan = changed_plan(tables__quality__reference="stream")
    records = [
        record("beauty", "stream", 42, 0.05, stale=True, tokens_read=2_000_000),
        record("beauty", "stream-bridge", 42, 0.04),
        {**record("beauty", "tiger", 42, 0.0), "failed": "out of memory"},
    ]
    notes = {"protocol": "p"}
    body = {"command": "c", "rows": records, "seeds": "s", "noise": "n", "notes": notes}
    text = page.page(plan, body)
    assert "| stream (earlier settings) | generative | 1 seed | 0.1000 | 0.0500 |" in text
    assert "2,000,000" in text
    line = next(line for line in text.splitlines() if line.startswith("| stream-bridge |"))
    assert line.endswith("| 0.800 |")
    assert "| beauty | standard | tiger | 42 | out of memory |" in text


def test_the_price_of_equal_quality():
    def curve(*points):
        return [{"tokens": t, "seconds": s, "ndcg@10": n} for t, s, n in points]

    fast = curve((100, 10, 0.02), (200, 20, 0.05), (300, 30, 0.04))
    slow = curve((400, 50, 0.01), (800, 100, 0.03), (1200, 150, 0.03))
    records = [
        record("beauty", "stream-cost", 42, 0.05, curve=fast),
        record("beauty", "instruction-cost", 42, 0.03, curve=slow),
        record("beauty", "instruction-cost", 43, 0.03, curve=slow),
    ]
    (row,) = summary.cost_rows(PLAN, records)
    # Both get to .03: after 200 and after 800 tokens.
    assert (row["ndcg@10"], row["fewer_tokens"], row["fewer_seconds"]) == (0.03, 4.0, 5.0)


def lists(found, items=10):
    """Make lists from one list of item rows an example; None was not asked for."""
    asked = [place for place, one in enumerate(found) if one is not None]
    rows = [(place, item, rank) for place in asked for rank, item in enumerate(found[place], 1)]
    example, item, rank = (np.array(column) for column in zip(*rows, strict=True))
    scores = np.zeros(len(rows), dtype=np.float32)
    facts = {"part": "test", "k": items, "seconds": 1.0}
    return Predictions("m", example, item, scores, rank, np.array(asked), facts)


def test_figures_of_some_examples_only():
    histories = from_lists([[1], [2], [3], [4]], np.arange(4), np.array([5, 6, 7, 8]))
    made = lists([[5], [0, 6], None, [1]])
    chosen = np.array([False, True, True, True])
    job = PLAN.job("store", "cold-users", "sasrec", 42)
    found = measure.figures_of(made, histories, chosen, job)
    assert found["examples"] == 2
    assert found["recall@10"] == found["recall@50"] == 0.5
    assert found["ndcg@10"] == pytest.approx(1 / math.log2(3) / 2)
    assert found["ndcg@10_low"] <= found["ndcg@10"] <= found["ndcg@10_high"]
    with pytest.raises(measure.DataError, match="no example of a cold user"):
        measure.figures_of(made, histories, np.zeros(4, dtype=bool), job)


def test_content_neighbours_are_those_of_brute_force():
    generator = np.random.default_rng(0)
    vectors = generator.normal(size=(9, 4)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    model = content.ContentKnn(vectors, content.Popularity(np.arange(9)))
    history, seen = np.array([3, 7, 1], dtype=np.int32), np.array([1, 3, 7], dtype=np.int32)
    nobody = np.zeros(0, dtype=np.int32)
    first, second = model.rank([history, nobody], 4, exclude=[seen, nobody])
    sums = {
        item: sum(0.5**age * float(vectors[item] @ vectors[old])
                  for age, old in enumerate(reversed(history.tolist())))
        for item in set(range(9)) - set(seen.tolist())
    }  # fmt: skip
    assert first.items.tolist() == sorted(sums, key=lambda item: -sums[item])[:4]
    assert first.scores.tolist() == pytest.approx(sorted(sums.values(), reverse=True)[:4])
    assert second.items.tolist() == [8, 7, 6, 5]
    assert len(model.rank([history], 9, exclude=[seen])[0].items) == 6


@pytest.fixture
def fake(monkeypatch, tmp_path):
    """Measure nothing; return the keys of what would have been, and the options to call with."""
    done = []

    def run(job, recipe, place):
        done.append(job.key)
        if job.row == "sasrec" and job.seed == 43 and len(done) < 10:
            raise StepError(f"no memory in {tmp_path}")
        return tmp_path

    figures = {"recall@10": 0.2, "ndcg@10": 0.1, "recall@50": 0.3, "examples": 5, "history": 1}
    monkeypatch.setattr(quality.quality_runs, "run", run)
    monkeypatch.setattr(quality, "measure", lambda job, folder: dict(figures))
    words = ["--sets", "store", "--tables", "quality", "--rows", "popularity", "sasrec"]
    return done, [*words, "--runs", str(tmp_path)]


def test_what_is_there_is_not_measured_again(fake, tmp_path):
    done, words = fake
    assert quality.main([*words, "--seeds", "42"]) == 0
    assert quality.main([*words, "--seeds", "42", "43"]) == 1  # sasrec of seed 43 fails
    assert [(key[2], key[3]) for key in done] == [
        ("popularity", 42), ("sasrec", 42), ("popularity", 43), ("sasrec", 43),
    ]  # fmt: skip
    rows = json.loads((tmp_path / "quality.json").read_text())["rows"]
    assert [(row["row"], row["seed"]) for row in rows if "failed" not in row] == [
        ("popularity", 42), ("popularity", 43), ("sasrec", 42),
    ]  # fmt: skip
    assert [row["failed"] for row in rows if "failed" in row] == ["no memory in RUNS"]
    assert "## Failed" in (tmp_path / "quality.md").read_text()
    done.extend([None] * 10)
    assert quality.main([*words, "--seeds", "42", "43"]) == 0  # it is tried again, and passes
    assert done[14:] == [("store", "standard", "sasrec", 43)]
    assert "## Failed" not in (tmp_path / "quality.md").read_text()
    assert quality.main([*words, "--seeds", "42", "43", "--list"]) == 0
    assert quality.main([*words, "--seeds", "42", "--rows", "popularity", "--again"]) == 0
    assert done[15:] == [("store", "standard", "popularity", 42)]


def test_other_settings_are_measured_again_and_the_old_figures_marked(fake, tmp_path, monkeypatch):
    done, words = fake
    assert quality.main([*words, "--seeds", "42"]) == 0
    tuned = changed_plan(sets__store__last_word__cf={"dimensions": 32})
    monkeypatch.setattr(quality, "read_plan", lambda path: tuned)
    assert quality.main([*words, "--seeds", "42", "--rows", "sasrec"]) == 0
    assert [key[2] for key in done] == ["popularity", "sasrec", "sasrec"]
    rows = json.loads((tmp_path / "quality.json").read_text())["rows"]
    assert {row["row"]: row.get("stale") for row in rows} == {"popularity": True, "sasrec": None}
    assert "| popularity (earlier settings) |" in (tmp_path / "quality.md").read_text()


def test_nothing_is_started_that_would_end_too_late(fake):
    done, words = fake
    rows = ["--rows", "popularity", "stream", "--seeds", "42"]
    # A minute is more than the rows of the store take, but for their cf stage.
    assert quality.main([*words, *rows, "--minutes", "0.1"]) == 0
    assert done == []
    assert quality.main([*words, *rows, "--minutes", "1"]) == 0
    assert [key[2] for key in done] == ["popularity", "stream"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--sets", "moon"], "known are beauty"),
        (["--sets", "store", "beauty"], "apart from real sets"),
        (["--set", "train.epochs=1"], "keys of runtime only"),
        (["--sets", "beauty", "--rows", "sasrec"], "give --data"),
        (["--prepared", "moon=x"], "there are no sets"),
    ],
)
def test_wrong_words_are_refused(words, message, capsys, tmp_path):
    with pytest.raises(SystemExit):
        quality.main([*words, "--runs", str(tmp_path), "--results", str(tmp_path)])
    assert message in capsys.readouterr().err

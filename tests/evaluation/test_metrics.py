"""Metrics against pytrec_eval, against sums written out, and the worked examples."""

import doctest
import math

import numpy as np
import pytest
import pytrec_eval

from genrec.evaluation import bootstrap, metrics, report, slices, tables
from genrec.evaluation.trec import write_trec
from tests.evaluation.world import lists, make_dataset

CUTOFFS = (1, 5, 10, 20)
MEASURES = {f"recall.{k}" for k in CUTOFFS} | {f"ndcg_cut.{k}" for k in CUTOFFS} | {"recip_rank"}


def ranks_of(rows, targets):
    position = np.repeat(np.arange(len(rows)), [len(row) for row in rows])
    item = np.concatenate([np.asarray(row, np.int32) for row in rows] or [[]]).astype(np.int32)
    rank = np.concatenate([np.arange(1, len(row) + 1) for row in rows]).astype(np.int32)
    return metrics.target_ranks(np.asarray(targets, np.int32), position, item, rank)


def assert_equal_to_trec(ranks, run, targets):
    qrels = {str(example): {str(target): 1} for example, target in enumerate(targets)}
    measured = pytrec_eval.RelevanceEvaluator(qrels, MEASURES).evaluate(run)
    # A query without documents is unknown to trec_eval or 0 there; here it is a miss.
    nothing = dict.fromkeys([name.replace(".", "_") for name in MEASURES], 0.0)
    theirs = [measured.get(str(example), nothing) for example in range(len(targets))]
    ours = {"recip_rank": metrics.mrr(ranks, 10**6)}
    for k in CUTOFFS:
        ours |= {f"recall_{k}": metrics.recall(ranks, k), f"ndcg_cut_{k}": metrics.ndcg(ranks, k)}
    for name, values in ours.items():
        assert values == pytest.approx([row[name] for row in theirs], abs=1e-9), name


@pytest.mark.parametrize("seed", range(40))
def test_random_runs_with_ties_equal_trec_eval(seed):
    """Scores are drawn from few values; ties are put in trec_eval's order before ranking."""
    random = np.random.default_rng(seed)
    examples, items = 30, 40
    targets = random.integers(0, items, examples)
    rows, run = [], {}
    for example in range(examples):
        chosen = random.permutation(items)[: random.choice([0, 1, 3, 12, 25])]
        scores = random.integers(0, 5, len(chosen)) / 4
        run[str(example)] = {
            str(item): float(score) for item, score in zip(chosen, scores, strict=True)
        }
        # trec_eval: larger score first, then the larger document name.
        order = sorted(zip(scores, map(str, chosen), strict=True), reverse=True)
        rows.append([int(name) for _, name in order])
    assert any(len(row) == 0 for row in rows)
    assert_equal_to_trec(ranks_of(rows, targets), run, targets)


@pytest.mark.parametrize("seed", range(5))
def test_trec_export_keeps_the_order_of_the_model(seed, tmp_path):
    """All scores of a list are equal, so only an export by rank can give the same metrics."""
    random = np.random.default_rng(seed)
    items = 30
    dataset = make_dataset([random.integers(0, items, 5) for _ in range(25)], items)
    rows = [random.permutation(items)[: random.integers(0, 20)] for _ in range(25)]
    rows[3] = np.array([4, -1, 6, -1, 9])
    predictions = lists("mine", rows, k=20)
    predictions.score[:] = 1.0
    histories = dataset.histories("test")
    run_file, qrels_file = write_trec(predictions, histories, tmp_path)
    with run_file.open() as handle:
        run = pytrec_eval.parse_run(handle)
    with qrels_file.open() as handle:
        qrels = pytrec_eval.parse_qrel(handle)
    assert qrels == {str(e): {str(t): 1} for e, t in enumerate(histories.target)}
    ranks = ranks_of(rows, histories.target)
    assert (ranks > 0).sum() > 3
    assert_equal_to_trec(ranks, run, histories.target)


def test_trec_export_writes_a_repeated_item_once(tmp_path):
    dataset = make_dataset([[0, 1, 2]], 5)
    run_file, _ = write_trec(lists("mine", [[4, 3, 4, 2]]), dataset.histories("test"), tmp_path)
    assert [line.split()[2:5] for line in run_file.read_text().splitlines()] == [
        ["4", "1", "-1"],
        ["3", "2", "-2"],
        ["2", "4", "-4"],
    ]


def test_target_ranks_equal_a_search_by_hand():
    random = np.random.default_rng(0)
    rows = [random.integers(-1, 8, size=random.integers(0, 12)).tolist() for _ in range(300)]
    targets = random.integers(0, 8, 300).tolist()
    wanted = [
        row.index(target) + 1 if target in row else 0
        for row, target in zip(rows, targets, strict=True)
    ]
    assert ranks_of(rows, targets).tolist() == wanted


def test_an_entry_that_is_no_item_never_hits():
    assert ranks_of([[-1, -1]], [-1]).tolist() == [0]


def test_values_written_out():
    ranks = np.array([1, 2, 3, 10, 11, 0])
    assert metrics.recall(ranks, 10).tolist() == [1, 1, 1, 1, 0, 0]
    assert metrics.ndcg(ranks, 10) == pytest.approx(
        [1, 1 / math.log2(3), 1 / math.log2(4), 1 / math.log2(11), 0, 0], abs=1e-12
    )
    assert metrics.mrr(ranks, 10) == pytest.approx([1, 1 / 2, 1 / 3, 1 / 10, 0, 0], abs=1e-12)


def test_list_metrics_equal_loops_over_sets():
    random = np.random.default_rng(1)
    rows = [random.integers(-1, 15, size=random.integers(0, 9)).tolist() for _ in range(50)]
    seen = [random.integers(0, 15, size=4).tolist() for _ in range(50)]
    position = np.repeat(np.arange(50), [len(row) for row in rows])
    item = np.array([item for row in rows for item in row], dtype=np.int32)
    rank = np.concatenate([np.arange(1, len(row) + 1) for row in rows])
    total = len(item)
    twice = sum(len([i for i in row if i >= 0]) - len({i for i in row if i >= 0}) for row in rows)
    assert metrics.duplicate_rate(position, item) == pytest.approx(twice / total, abs=1e-12)
    assert metrics.invalid_rate(item) == sum(row.count(-1) for row in rows) / total
    again = sum(i in old for row, old in zip(rows, seen, strict=True) for i in row)
    assert metrics.seen_rate(
        position, item, np.repeat(np.arange(50), 4), np.array(seen, dtype=np.int32).ravel()
    ) == pytest.approx(again / total, abs=1e-12)
    for k in (1, 3, 20):
        shown = {i for row in rows for i in row[:k] if i >= 0}
        assert metrics.coverage(item, rank, k, 20) == len(shown) / 20
    assert metrics.list_lengths(position, 50).tolist() == [len(row) for row in rows]


def test_no_entries_at_all():
    none = np.zeros(0, dtype=np.int32)
    assert metrics.invalid_rate(none) == 0.0
    assert metrics.duplicate_rate(none.astype(np.int64), none) == 0.0
    assert metrics.seen_rate(none.astype(np.int64), none, np.array([0]), np.array([1])) == 0.0
    assert metrics.coverage(none, none, 10, 5) == 0.0
    assert metrics.coverage(none, none, 10, 0) == 0.0


@pytest.mark.parametrize("module", [metrics, bootstrap, slices, tables, report])
def test_worked_examples(module):
    result = doctest.testmod(module, extraglobs={"np": np})
    assert result.attempted > 0
    assert result.failed == 0

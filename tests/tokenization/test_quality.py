import dataclasses
import doctest
import json
import logging
import math

import numpy as np
import pytest

from genrec.data.histories import from_lists
from genrec.tokenization import quality
from genrec.tokenization.code_tree import CodeTree
from genrec.tokenization.collisions import resolve
from genrec.tokenization.indexer import ItemTables, Proposal
from genrec.tokenization.residual_kmeans import ResidualKMeans


def test_examples_in_the_docstrings_hold():
    outcome = doctest.testmod(quality)
    assert outcome.attempted >= 2
    assert outcome.failed == 0


def test_collisions_are_counted():
    codes = np.array([[0, 1], [0, 1], [0, 1], [2, 2], [2, 2], [3, 0]], dtype=np.int32)
    assert quality.collisions(codes) == {
        "items_sharing": 5,
        "unique_tuples": 3,
        "largest_group": 3,
    }


def test_entropy_and_perplexity_of_uneven_use():
    codes = np.array([[0], [0], [0], [1]], dtype=np.int32)
    bits = -(3 / 4 * math.log2(3 / 4) + 1 / 4 * math.log2(1 / 4))
    assert quality.usage(codes, (4,)) == [
        {
            "level": 0,
            "size": 4,
            "used": 2,
            "dead": 2,
            "perplexity": round(2**bits, 2),
            "entropy": round(bits, 3),
        }
    ]


def test_a_single_code_has_no_entropy():
    (row,) = quality.usage(np.zeros((3, 1), dtype=np.int32), (2,))
    assert (row["perplexity"], str(row["entropy"])) == (1.0, "0.0")


def test_the_largest_prefix_of_each_length():
    codes = np.array([[0, 0], [0, 0], [0, 1], [1, 1]], dtype=np.int32)
    assert quality.prefix_sizes(CodeTree.of(codes, (2, 2))) == [
        {"level": 0, "distinct": 2, "largest": 3, "largest_share": 0.75},
        {"level": 1, "distinct": 3, "largest": 2, "largest_share": 0.5},
    ]


@pytest.mark.parametrize("block", [3, 65536])
def test_error_is_the_share_of_the_spread_that_is_lost(block, monkeypatch):
    monkeypatch.setattr(quality, "ROWS_AT_ONCE", block)
    # Two pairs of points: level 1 finds the pairs, level 2 the points.
    x = np.array([[-10, -1], [-10, 1], [10, -1], [10, 1]], dtype=np.float32)
    quantizer = ResidualKMeans(2, 2, restarts=10).fit(x)
    codes = quantizer.encode(x).codes
    lost = 4 * 1.0 / (4 * (100.0 + 1.0))
    assert quality.errors(x, quantizer, codes) == [
        {"level": 0, "relative_error": round(lost, 4)},
        {"level": 1, "relative_error": 0.0},
    ]


def test_identical_vectors_have_no_error():
    x = np.ones((6, 3), dtype=np.float32)
    quantizer = ResidualKMeans(2, 2).fit(x)
    rows = quality.errors(x, quantizer, quantizer.encode(x).codes)
    assert [row["relative_error"] for row in rows] == [0.0, 0.0]


@pytest.fixture
def crowded():
    x = np.vstack([np.zeros((5, 2)), np.ones((2, 2)), [[4, 4]]]).astype(np.float32)
    quantizer = ResidualKMeans(2, 4).fit(x)
    raw = quantizer.encode(x).codes
    ids = [str(number) for number in range(8)]
    resolution = resolve(
        raw, (4, 4), ids, lambda rows: quantizer.distances(x[rows], raw[rows, :-1])
    )
    tables = ItemTables(
        ids,
        [f"title {number}" for number in range(8)],
        vectors=x,
        sequences=from_lists([[0, 1, 2, 5], [5, 6]]),
        categories=[("zero",)] * 5 + [("one",)] * 2 + [()],
    )
    return tables, Proposal(raw, (4, 4), quantizer), resolution


def measured(tables, proposal, resolution):
    return quality.measure(
        tables,
        resolution.codes,
        resolution.level_sizes,
        seed=1,
        proposal=proposal,
        resolution=resolution,
    )


def test_the_report_counts_before_and_after(crowded, caplog):
    with caplog.at_level(logging.WARNING):
        report = measured(*crowded)
    assert report["collisions_before"] == {
        "items_sharing": 7,
        "unique_tuples": 3,
        "largest_group": 5,
    }
    assert report["collisions_after"] == {
        "items_sharing": 0,
        "unique_tuples": 8,
        "largest_group": 1,
    }
    # Five equal items, four codes with room for two each: two stay, three move; of the pair
    # that is equal one moves.
    assert report["items_moved"] == 4
    assert report["extra_level"] is True
    assert report["level_sizes"] == [4, 4, 2]
    assert [row["used"] for row in report["levels_before"]] == [3, 1]
    # Three of four codes pass the gate, one of four does not.
    assert [record.message for record in caplog.records] == [
        "level 2 uses 1 of its 4 codes; fewer codes (index.codes_per_level) would lose nothing."
    ]
    assert json.loads(json.dumps(report)) == report


def test_the_report_tells_how_far_items_moved(crowded):
    tables, proposal, resolution = crowded
    moved = dataclasses.replace(
        resolution,
        before=np.array([1.0, 1.0, 2.0, 1.0]),
        after=np.array([2.0, np.inf, 3.0, 3.0]),
    )
    report = measured(dataclasses.replace(tables, vectors=None), proposal, moved)
    # One went to a code that stands for nothing; the others from 1 + 2 + 1 to 2 + 3 + 3.
    assert report["spare_moves"] == 1
    assert report["added_distance"] == (8 - 4) / 4
    # Here every item stood exactly where its codes did.
    assert measured(*crowded)["added_distance"] is None


def test_the_report_compares_with_vectors_choices_and_categories(crowded):
    report = measured(*crowded)
    assert report["neighbour_agreement"]["neighbours"] == 7
    # 0-1 and 1-2 are of one first code, and so is 5-6; 2-5 is not.
    assert report["co_consumption"]["pairs"] == 4
    assert report["co_consumption"]["prefixes"][0]["share"] == 3 / 4
    assert report["category_agreement"]["items"] == 7
    assert report["category_agreement"]["purity"] == 1.0
    assert report["prefixes"][0] == {
        "level": 0,
        "distinct": 3,
        "largest": 5,
        "largest_share": 0.625,
    }
    assert report["crowded_prefixes"][0]["items"] == 2
    assert [group["items"] for group in report["loose_codes"]] == [5]
    assert report["error"][0]["relative_error"] == 0.0


def test_codes_from_elsewhere_are_measured_as_far_as_they_can_be(caplog):
    codes = np.array([[0, 1], [0, 1], [1, 0]], dtype=np.int32)
    with caplog.at_level(logging.WARNING):
        report = quality.measure(ItemTables(["1", "2", "3"], list("abc")), codes, (2, 9), seed=1)
    unknown = {name for name, value in report.items() if value is None}
    assert unknown == {
        "collisions_before",
        "items_moved",
        "spare_moves",
        "added_distance",
        "extra_level",
        "levels_before",
        "error",
        "error_after",
        "neighbour_agreement",
        "co_consumption",
        "category_agreement",
        "loose_codes",
    }
    assert report["collisions_after"]["items_sharing"] == 2
    assert [row["dead"] for row in report["levels_after"]] == [0, 7]
    assert [entry["by_vectors"] for entry in report["neighbours"]] == [None] * 3
    # There is no recipe to change, so there is no advice.
    assert [record.message for record in caplog.records] == ["level 2 uses 2 of its 9 codes."]


def test_the_error_of_the_index_is_that_of_its_own_codes():
    """Four points on a line share the one code of level 2 that fits; three must leave it."""
    x = np.array([[0.0], [0.1], [0.2], [8.0], [8.4], [8.8]], dtype=np.float32)
    quantizer = ResidualKMeans(1, 6, restarts=5).fit(x)
    raw = np.zeros((6, 1), dtype=np.int32) + quantizer.codes_of(x)[3]
    rank = [str(row) for row in range(6)]
    resolution = resolve(raw, (6,), rank, lambda rows: quantizer.distances(x[rows], raw[rows, :-1]))
    tables = ItemTables(rank, rank, vectors=x)
    report = measured(tables, Proposal(raw, (6,), quantizer), resolution)
    spread = ((x - x.mean()) ** 2).sum()
    stands_for = quantizer.decode(resolution.codes, 1)
    assert report["error"][0]["relative_error"] == pytest.approx(
        ((x - quantizer.decode(raw, 1)) ** 2).sum() / spread, abs=1e-4
    )
    after = ((x - stands_for) ** 2).sum() / spread
    assert report["error_after"] == pytest.approx(after, abs=1e-4)
    assert report["error_after"] < report["error"][0]["relative_error"]


def test_items_at_codes_that_stand_for_nothing_do_not_count_in_the_error(crowded):
    report = measured(*crowded)
    assert report["spare_moves"] > 0
    assert report["error_after"] == 0.0


def test_a_method_without_a_quantizer_has_no_error_and_gets_no_advice(crowded, caplog):
    tables, proposal, resolution = crowded
    with caplog.at_level(logging.WARNING):
        report = measured(tables, dataclasses.replace(proposal, quantizer=None), resolution)
    assert "would lose nothing" not in caplog.text
    assert (report["error"], report["error_after"], report["quantized"]) == (None, None, False)
    assert report["levels_before"] is not None
    assert report["neighbour_agreement"] is not None


def test_a_level_that_uses_half_of_its_codes_is_not_warned_about(caplog):
    x = np.array([[0.0], [1.0]], dtype=np.float32)
    quantizer = ResidualKMeans(1, 4).fit(x)
    raw = quantizer.encode(x).codes
    resolution = resolve(raw, (4,), ["a", "b"], lambda rows: pytest.fail("no collision"))
    tables = ItemTables(["a", "b"], ["a", "b"], vectors=x)
    with caplog.at_level(logging.WARNING):
        report = measured(tables, Proposal(raw, (4,), quantizer), resolution)
    assert report["levels_before"][0]["used"] == 2
    assert not caplog.records

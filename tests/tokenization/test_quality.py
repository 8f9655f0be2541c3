import doctest
import logging
import math

import numpy as np
import pytest

from genrec.tokenization import quality
from genrec.tokenization.collisions import resolve
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


def test_perplexity_of_uneven_use():
    codes = np.array([[0], [0], [0], [1]], dtype=np.int32)
    entropy = -(3 / 4 * math.log(3 / 4) + 1 / 4 * math.log(1 / 4))
    assert quality.usage(codes, (4,)) == [
        {"level": 0, "size": 4, "used": 2, "perplexity": round(math.exp(entropy), 2)}
    ]


def test_error_is_the_share_of_the_spread_that_is_lost():
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


def test_neighbours_by_vectors_and_by_codes():
    x = np.array([[0.0], [1.0], [5.0], [9.0]], dtype=np.float32)
    codes = np.array([[0, 0], [1, 0], [0, 1], [1, 1]], dtype=np.int32)
    entries = quality.neighbour_titles(x, codes, list("abcd"), seed=0, examples=9, count=2)
    assert sorted(entry["title"] for entry in entries) == list("abcd")
    of_a = next(entry for entry in entries if entry["title"] == "a")
    assert of_a["codes"] == [0, 0]
    assert of_a["by_vectors"] == ["b", "c"]
    # c shares the first level; b agrees in the second only, which is no shared prefix.
    assert of_a["by_codes"] == [{"title": "c", "shared": 1}, {"title": "b", "shared": 0}]


@pytest.fixture
def crowded():
    x = np.vstack([np.zeros((5, 2)), np.ones((2, 2)), [[4, 4]]]).astype(np.float32)
    quantizer = ResidualKMeans(2, 4).fit(x)
    raw = quantizer.encode(x).codes
    ids = [str(number) for number in range(8)]
    resolution = resolve(
        raw, (4, 4), ids, lambda rows: quantizer.last_distances(x[rows], raw[rows])
    )
    return x, quantizer, raw, resolution


def test_the_report_counts_before_and_after(crowded, caplog):
    x, quantizer, raw, resolution = crowded
    titles = [f"title {number}" for number in range(8)]
    with caplog.at_level(logging.WARNING):
        report = quality.measure(x, quantizer, raw, resolution, titles, seed=1)
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
    assert [record.message.split(" codes")[0] for record in caplog.records] == [
        "level 1 uses 1 of its 4"
    ]
    page = quality.to_markdown(report)
    assert "| items that share their codes | 7 | 0 |" in page
    assert "| 1 | 4 | 3 |" in page
    assert "| 3 | 2 | - | - | 2 |" in page
    assert "one digit more" in page
    assert f"**{report['neighbours'][0]['title']}**" in page


def test_a_level_that_uses_half_of_its_codes_is_not_warned_about(caplog):
    x = np.array([[0.0], [1.0]], dtype=np.float32)
    quantizer = ResidualKMeans(1, 4).fit(x)
    raw = quantizer.encode(x).codes
    resolution = resolve(raw, (4,), ["a", "b"], lambda rows: pytest.fail("no collision"))
    with caplog.at_level(logging.WARNING):
        report = quality.measure(x, quantizer, raw, resolution, ["a", "b"], seed=1)
    assert report["levels_before"][0]["used"] == 2
    assert not caplog.records

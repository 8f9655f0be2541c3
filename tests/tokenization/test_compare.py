import copy

import pytest

from genrec.errors import DataError
from genrec.tokenization.compare import compare
from tests.tokenization.quality_example import example, forecast_of, foreign


def quality(seed=0, **parts):
    return {**copy.deepcopy(example(seed=seed)[0]), **parts}


def row(comparison, name):
    (found,) = [cells for cells in comparison.rows if cells[0] == name]
    return found


def best(comparison, name):
    place = [cells[0] for cells in comparison.rows].index(name)
    return [comparison.names[column - 1] for line, column in comparison.best if line == place]


def test_the_best_of_each_row_is_marked():
    good = quality(
        items_moved=0,
        error_after=0.2,
        forecast=forecast_of(0.3, bits=8.0),
    )
    bad = quality(
        items_moved=4,
        error_after=0.4,
        forecast=forecast_of(0.2, bits=9.0),
    )
    comparison = compare([("bad", bad), ("good", good)])
    assert comparison.names == ("bad", "good")
    assert row(comparison, "moved to another code") == ("moved to another code", "10 %", "0 %")
    for name in (
        "moved to another code",
        "reconstruction error",
        "forecast: recall@10",
        "forecast: NDCG@10",
        "forecast: bits for the next item",
        "bits saved by what codes mean",
    ):
        assert best(comparison, name) == ["good"], name
    assert best(comparison, "codes") == []
    assert best(comparison, "perplexity of the first code") == []  # They are equal.
    page = comparison.to_markdown()
    assert "| reconstruction error | 0.400 | **0.200** |" in page
    assert "| forecast: recall@10 | 0.2000 | **0.3000** |" in page


def test_recall_within_two_standard_errors_of_the_best_is_as_good():
    def of(*recalls):
        return compare(
            [(str(recall), quality(forecast=forecast_of(recall, error=0.01))) for recall in recalls]
        )

    assert best(of(0.2, 0.21), "forecast: recall@10") == []
    assert sorted(best(of(0.1, 0.2, 0.21), "forecast: recall@10")) == ["0.2", "0.21"]
    assert best(of(0.18, 0.21), "forecast: recall@10") == ["0.21"]


def test_figures_that_depend_on_the_sizes_are_not_marked_across_sizes():
    one = quality(error_after=0.2, items_moved=0)
    other = quality(error_after=0.4, items_moved=4, level_sizes=[9, 9, 9])
    comparison = compare([("one", one), ("other", other)])
    assert row(comparison, "codes") == ("codes", "8 x 8", "9 x 9 x 9")
    assert best(comparison, "reconstruction error") == []
    assert best(comparison, "moved to another code") == ["one"]


def test_what_was_not_measured_is_a_dash_and_never_best():
    known = quality(error_after=0.9)
    comparison = compare([("known", known), ("foreign", foreign()[0])])
    assert row(comparison, "reconstruction error")[1:] == ("0.900", "-")
    assert "foreign" not in best(comparison, "reconstruction error")
    names = [cells[0] for cells in comparison.rows]
    assert "forecast: recall@10" not in names  # Neither has one.
    assert compare([("foreign", foreign()[0])]).rows


def test_names_are_shown_as_text():
    comparison = compare([("<script>x|y</script>", quality(items_moved=0)), ("b", quality())])
    section = comparison.to_html()
    assert "<script>" not in section
    assert "&lt;script&gt;" in section
    header = comparison.to_markdown().splitlines()[0]
    assert r"x\|y" in header


def test_indices_that_cannot_be_compared_are_refused():
    with pytest.raises(DataError, match="no index to compare"):
        compare([])
    with pytest.raises(DataError, match="'a': 40, 'b': 41"):
        compare([("a", quality()), ("b", quality(items=41))])

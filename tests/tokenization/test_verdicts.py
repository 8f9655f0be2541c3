import copy
import doctest

import pytest

from genrec.tokenization import verdicts as module
from genrec.tokenization.verdicts import verdicts
from tests.tokenization.quality_example import example, forecast_of, foreign


@pytest.fixture(scope="module")
def measured():
    return example()[0]


def test_examples_in_the_docstrings_hold():
    outcome = doctest.testmod(module)
    assert outcome.attempted >= 1
    assert outcome.failed == 0


def verdict(quality, start):
    (found,) = [found for found in verdicts(quality) if found.name.startswith(start)]
    return found


def changed(quality, **parts):
    return {**copy.deepcopy(quality), **parts}


def test_every_figure_gets_a_verdict_with_words(measured):
    found = verdicts(changed(measured, forecast=forecast_of(0.2)))
    assert len({one.name for one in found}) == len(found) == 11
    assert all(one.state in ("good", "look") for one in found)
    assert all(one.words.endswith(".") and one.value != "–" for one in found)


def test_what_was_not_measured_is_unknown_and_not_zero():
    quality, _, _ = foreign()
    states = {one.name: one for one in verdicts(quality)}
    known = {name for name, one in states.items() if one.state != "unknown"}
    assert known == {
        "Items that share their codes",
        "Codes in use, worst level",
        "Evenness, worst level",
        "Largest first code",
    }
    assert all(
        one.value == "–" and one.words.startswith("Not measured")
        for one in states.values()
        if one.state == "unknown"
    )


@pytest.mark.parametrize(
    ("start", "good", "look"),
    [
        (
            "Items that share",
            {"collisions_after": {"items_sharing": 0, "largest_group": 1}},
            {"collisions_after": {"items_sharing": 4, "largest_group": 2}},
        ),
        (
            "Shared before",
            {"collisions_before": {"items_sharing": 8}},
            {"collisions_before": {"items_sharing": 9}},
        ),
        ("Moved", {"items_moved": 4}, {"items_moved": 5}),
        ("Moved", {"added_distance": 0.9}, {"items_moved": 1, "added_distance": 1.1}),
        (
            "Reconstruction",
            {"error": [{"relative_error": 0.9}, {"relative_error": 0.6}], "error_after": None},
            {"error_after": 0.61},
        ),
    ],
)
def test_where_good_ends(measured, start, good, look):
    quality = changed(measured, items=40, items_moved=4, added_distance=None)
    assert verdict(changed(quality, **good), start).state == "good"
    assert verdict(changed(quality, **look), start).state == "look"


@pytest.mark.parametrize(
    ("used", "perplexity", "largest", "states"),
    [
        (50, 50.0, 0.05, ("good", "good", "good")),
        (49, 50.0, 0.05, ("look", "good", "good")),
        (80, 49.0, 0.05, ("good", "look", "good")),
        (80, 50.0, 0.051, ("good", "good", "look")),
    ],
)
def test_where_good_ends_for_the_use_of_codes(measured, used, perplexity, largest, states):
    row = {"level": 0, "size": 100, "used": used, "dead": 100 - used, "perplexity": perplexity}
    quality = changed(
        measured,
        level_sizes=[100],
        levels_before=[row],
        prefixes=[{"largest": 9, "largest_share": largest}],
    )
    found = [verdict(quality, start).state for start in ("Codes in use", "Evenness", "Largest")]
    assert tuple(found) == states


def agreement(share, lift):
    return {"neighbours": 10, "prefixes": [{"share": share, "random": share / lift, "lift": lift}]}


@pytest.mark.parametrize(
    ("share", "lift", "state"), [(0.2, 6.0, "good"), (0.2, 4.0, "look"), (0.1, 9.0, "look")]
)
def test_where_good_ends_for_neighbours(measured, share, lift, state):
    quality = changed(measured, neighbour_agreement=agreement(share, lift))
    assert verdict(quality, "Nearest").state == state


@pytest.mark.parametrize(("lift", "state"), [(2.0, "good"), (1.9, "look")])
def test_where_good_ends_for_choices(measured, lift, state):
    quality = changed(measured, co_consumption=agreement(0.2, lift))
    assert verdict(quality, "Chosen").state == state


def test_agreement_without_any_shared_prefix_is_unknown(measured):
    quality = changed(measured, co_consumption={"pairs": 9, "prefixes": []})
    assert verdict(quality, "Chosen").state == "unknown"


@pytest.mark.parametrize(("information", "state"), [(0.31, "good"), (0.29, "look")])
def test_where_good_ends_for_categories(measured, information, state):
    category = {
        "purity": 0.5,
        "purity_shuffled": 0.3,
        "normalised_mutual_information": information,
        "normalised_mutual_information_shuffled": 0.2,
    }
    quality = changed(measured, category_agreement=category)
    assert verdict(quality, "First code and").state == state


@pytest.mark.parametrize(
    ("forecast", "state", "words"),
    [
        (forecast_of(0.2), "good", "saves 0.50 bits"),
        (forecast_of(0.09), "look", "below plain counting"),
        (forecast_of(0.2, shuffled=9.04), "look", "meaning does not help"),
        (None, "unknown", "no forecast was made"),
    ],
)
def test_where_good_ends_for_the_forecast(measured, forecast, state, words):
    found = verdict(changed(measured, forecast=forecast), "Forecast")
    assert found.state == state
    assert words in found.words


def test_distances_are_told_as_distances_not_as_squares(measured):
    words = verdict(changed(measured, items_moved=3, added_distance=1.25), "Moved").words
    assert "1.5 times as far" in words

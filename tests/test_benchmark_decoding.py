"""The benchmark of the search: its catalogues, both sides of its comparison, and its page."""

import importlib
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

BENCHMARKS = Path(__file__).resolve().parent.parent / "benchmarks"
sys.path.append(str(BENCHMARKS))
decoding = importlib.import_module("decoding")
decoding_models = importlib.import_module("decoding_models")
decoding_rules = importlib.import_module("decoding_rules")
decoding_speed = importlib.import_module("decoding_speed")
decoding_vllm = importlib.import_module("decoding_vllm")
sys.path.remove(str(BENCHMARKS))


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Fewer words, so that untrained models are made in no time."""
    for module in (decoding_models, decoding_speed):
        monkeypatch.setattr(module, "WORDS", 100)


def test_items_of_a_catalogue_have_codes_of_their_own_in_no_order():
    index = decoding_models.catalogue(5000, 1)
    assert len(np.unique(index.codes, axis=0)) == len(index) == 5000
    keys = index.keys
    assert (np.diff(keys) < 0).any() and (np.diff(keys) > 0).any()
    # Small codes are frequent: a quarter of the codes has half of the items.
    assert (index.codes[:, 0] < 64).mean() == pytest.approx(0.5, abs=0.05)


def test_random_cases_are_counted_and_none_is_wrong():
    found = decoding_rules.random_cases(160, 3, quiet=True)
    assert found["cases"] >= 160
    assert found["paths"] > found["cases"]
    faults = ("unequal", "outside", "against_rules", "wrong_length")
    assert [found[fault] for fault in faults] == [0, 0, 0, 0]


def test_a_search_that_forgets_the_rules_is_noticed(monkeypatch):
    real = decoding_rules.beam_search
    monkeypatch.setattr(
        decoding_rules, "beam_search", lambda trie, scorer, width, wishes: real(trie, scorer, width)
    )
    found = decoding_rules.random_cases(80, 3, quiet=True)
    assert found["against_rules"] > 0
    assert found["unequal"] > 0


def test_both_sides_find_the_same_items():
    row = decoding_speed.parity("tiny", 300, 2, 6, 16, 1)
    assert row["overlap"] == 1.0


def test_a_comparison_has_a_row_a_shape():
    torch.set_num_threads(1)
    shapes = [(200, 1, 4, 8), (300, 2, 4, 8)]
    rows = decoding_speed.compare("tiny", shapes, with_generate=True, repeats=1, seed=1)
    assert [(row["items"], row["batch"]) for row in rows] == [(200, 1), (300, 2)]
    for row in rows:
        ratio = row["generate_milliseconds"] / row["exact_milliseconds"]
        assert row["times_faster_exact"] == pytest.approx(ratio, abs=0.1)
        assert 0 < row["masks_share"] < 1


@pytest.mark.vllm
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_vllm_is_timed_on_the_same_search():
    torch.set_num_threads(1)
    shapes = [(200, 1, 4, 8), (200, 2, 3, 8)]
    rows = decoding_vllm.compare_vllm("tiny", shapes, repeats=1, seed=1, scores=("level",))
    assert [(row["batch"], row["beams"]) for row in rows] == [(1, 4), (2, 3)]
    for row in rows:
        for side in ("vllm_search", "vllm_engine"):
            # bfloat16 may swap the last of a list; a search without the constraint shares nothing.
            assert row[f"{side}_overlap"] >= 0.6
            ratio = row[f"{side}_milliseconds"] / row["ours_milliseconds"]
            assert row[f"{side}_over_ours"] == pytest.approx(ratio, abs=0.01)


def test_filters_are_timed_on_a_search_that_is_filtered(monkeypatch):
    """Half of the items are denied, and none of them comes back from the search that is timed."""
    masks, lists = [], []
    real = decoding_speed.Ours.search

    def watched(ours, tokens, width, score, wishes=None):
        answer = real(ours, tokens, width, score, wishes)
        if wishes is not None:
            [mask] = wishes.rules._masks.values()
            masks.append(mask)
            lists.append(answer[0])
        return answer

    monkeypatch.setattr(decoding_speed.Ours, "search", watched)
    row = decoding_speed.filters("tiny", 300, 2, 4, 8, 1)
    assert isinstance(row["cost_of_denying_half"], float)
    assert masks[0].items == pytest.approx(150, abs=40)
    assert all(mask.allowed[rows].all() for mask, rows in zip(masks, lists, strict=True))


def test_tries_are_measured():
    small_one, large = decoding_speed.tries([1000, 100_000], 1)
    assert (small_one["items"], large["items"]) == (1000, 100_000)
    assert large["megabytes"] < 1


def test_steps_put_their_rows_beside_those_of_others(tmp_path):
    arguments = ["--results", str(tmp_path), "--threads", "1", "--quiet", "--cases", "16"]
    assert decoding.main(["rules", *arguments]) == 0
    assert decoding.main(["rules", *arguments]) == 0
    body = json.loads((tmp_path / "decoding.json").read_text())
    assert [row["step"] for row in body["rows"]] == ["rules"]
    assert body["rows"][0]["seed"] == 42
    page = (tmp_path / "decoding.md").read_text()
    assert "## Rules" in page
    assert "| worlds | cases | unequal |" in page

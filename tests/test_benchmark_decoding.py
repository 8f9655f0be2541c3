"""The benchmark of the search: its catalogues, both sides of its comparison, and its page."""

import importlib
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.tiny_run import trained

BENCHMARKS = Path(__file__).resolve().parent.parent / "benchmarks"
sys.path.append(str(BENCHMARKS))
decoding = importlib.import_module("decoding")
decoding_bars = importlib.import_module("decoding_bars")
decoding_beams = importlib.import_module("decoding_beams")
decoding_floor = importlib.import_module("decoding_floor")
decoding_models = importlib.import_module("decoding_models")
decoding_paths = importlib.import_module("decoding_paths")
decoding_returning = importlib.import_module("decoding_returning")
decoding_rules = importlib.import_module("decoding_rules")
decoding_speed = importlib.import_module("decoding_speed")
decoding_vllm = importlib.import_module("decoding_vllm")
sys.path.remove(str(BENCHMARKS))


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Fewer words, so that untrained models are made in no time."""
    for module in (decoding_floor, decoding_models, decoding_speed):
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
        assert 0 < row["masks_share"] < 1 and 0 < row["selection_share"] < 1
        assert 0.1 < row["peak_gib"] < 20


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
    assert isinstance(row["cost_of_denying_all_but_five"], float)
    assert masks[0].items == pytest.approx(150, abs=40)
    assert masks[-1].items == 5
    for mask, rows in zip(masks, lists, strict=True):
        assert mask.allowed[rows[rows >= 0]].all() and (rows >= 0).any()


def test_no_fault_among_items_returned_by_a_transformer():
    found = decoding_paths.count_paths("tiny", 500, 3000, torch.float32, 1, quiet=True)
    assert found["paths"] >= 3000
    assert [found[fault] for fault in ("outside", "against_rules", "twice", "wrong_length")] == [
        0
    ] * 4


def test_a_transformer_that_breaks_rules_is_noticed(monkeypatch):
    real = decoding_speed.Ours.search
    monkeypatch.setattr(
        decoding_speed.Ours,
        "search",
        lambda ours, tokens, width, score, wishes: real(ours, tokens, width, score),
    )
    found = decoding_paths.count_paths("tiny", 500, 3000, torch.float32, 1, quiet=True)
    assert found["against_rules"] > 0 and found["wrong_length"] > 0


def test_the_floor_counts_what_a_model_of_that_shape_has_to_do():
    """Written out for a model of one layer, one request, two beams and a prompt of three."""
    model = decoding_models.language_model("tiny", torch.float32, 1)
    model.config.num_hidden_layers = 1
    first, second, *_ = decoding_floor.passes(model, 1, 2, 3, "level")
    hidden, queries, keys, feed, head = 256, 256, 128, 768, 256 * 256
    block = hidden * (queries + 2 * keys) + queries * hidden + 3 * hidden * feed
    assert first[0] == second[0] - 2 * 2 * keys * 5 == 2 * (block + head)
    cached, other = hidden * 2 * keys, block - hidden * 2 * keys
    assert first[1] == 2 * (3 * cached + other + head) + 4 * queries * 3
    # Two beams look at three tokens of the prompt and their own; five tokens are read in all.
    assert second[1] == 2 * 2 * (block + head) + 4 * queries * 2 * 4


def test_wider_beams_find_more_of_the_exact_lists(tmp_path):
    run = trained(tmp_path / "run")
    rows = decoding_beams.beams([run], users=6, seed=1, quiet=True)
    assert [row["beams"] for row in rows] == [10, 20, 50, 100, 256]
    assert rows[-1]["recall_of_exact@10"] == rows[-1]["recall_of_exact@50"] == 1.0
    assert 0 < rows[0]["recall_of_exact@10"] <= 1.0
    assert rows[-1]["hits@10"] == rows[-1]["hits_of_exact@10"]
    assert "recall_of_exact@50" not in rows[0]


def test_users_who_come_back_are_timed_with_and_without_what_was_read():
    """A prompt of 16 tokens has four items, all known when a fifth one comes."""
    torch.set_num_threads(1)
    [row] = decoding_returning.returning("tiny", 300, [(2, 4, 16)], 2, 1)
    assert row["tokens_reused_share"] == 16 / 20
    # Keys and values, 6 layers, 4 key heads of 32 numbers of 2 bytes.
    assert row["bytes_a_prompt"] == 16 * 2 * 6 * 4 * 32 * 2
    ratio = row["fresh_milliseconds"] / row["reused_milliseconds"]
    assert row["times_faster"] == pytest.approx(ratio, abs=0.05)
    assert 0.5 <= row["overlap"] <= 1


def test_a_bar_that_is_missed_says_no():
    shape = {"batch": 16, "beams": 20, "prompt": 128, "items": 100_000, "masks_share": 0.002}
    rows = [
        {"step": "smollm2", **shape, "times_faster_exact": 32.1},
        {"step": "parity", "model": "tiny", "overlap": 1.0},
        {
            "step": "tries",
            "items": 1_000_000,
            "seconds": 0.3,
            "megabytes": 5.6,
            "megabytes_of_rows": 5,
        },
    ]
    words = "16 requests, 20 beams, prompt 128"
    assert decoding_bars.bars(rows) == [
        [f"smollm2 over generate, {words}", "32.1", ">= 40", "no"],
        [f"smollm2, share of masks, {words}", "0.002", "<= 0.01", "yes"],
        ["tiny, overlap with generate in float32", "1", ">= 1", "yes"],
        ["trie of 1,000,000, seconds", "0.3", "<= 0.2", "no"],
        ["trie of 1,000,000, megabytes without the rows of items", "5.6", "<= 10", "yes"],
        ["trie of 1,000,000, megabytes with the rows of items", "10.6", "<= 10", "no"],
    ]


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
    assert "| rules: faults in 16 requests" in page and "| <= 0 | yes |" in page
    assert "## Rules" in page
    assert "| worlds | cases | unequal |" in page

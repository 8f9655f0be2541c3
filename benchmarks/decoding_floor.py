"""How far the search is from what the machine could do, and where the rest of the time goes.

A pass through the model has to read its weights and the keys and values so far, and to do
the operations of its matrices; it can't take less than the longer of both at the speeds measured
here. The floor of a search is the sum over its passes.
"""

import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from decoding_models import CODES, LEVELS, WORDS, catalogue, language_model, prompts
from decoding_speed import Ours, Row, timed
from transformers import PreTrainedModel

from genrec.decoding.trie import PrefixTrie
from genrec.model.code_head import Score

# Operations of the profiler by what they are for; what is named nowhere is the rest.
GROUPS = {
    "matrices": ("mkldnn", "aten::mm", "aten::addmm", "aten::linear", "aten::matmul", "aten::bmm"),
    "attention": ("scaled_dot_product", "flash_attention", "aten::_softmax"),
    "normaliser": ("logsumexp", "aten::exp", "aten::_log_softmax", "aten::amax"),
    "copies": ("aten::copy_", "aten::cat", "aten::index", "aten::gather", "aten::fill_"),
}


def best_of(work: Callable[[], Any], repeats: int = 7) -> float:
    """Return the shortest seconds of a work."""
    work()
    seconds = []
    for _ in range(repeats):
        begun = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - begun)
    return min(seconds)


def machine_speed() -> tuple[float, float]:
    """Return bytes a second read from memory and bfloat16 operations a second of large products."""
    memory = torch.ones(2**28, dtype=torch.float32)
    left, right = torch.randn(2, 4096, 4096).bfloat16()
    return (
        memory.nbytes / best_of(memory.sum),
        2 * 4096**3 / best_of(lambda: left @ right),
    )


def passes(
    model: PreTrainedModel, batch: int, width: int, prompt: int, score: Score
) -> list[tuple[float, float]]:
    """Return the bytes and operations of each pass: the prompts, then one a level.

    The whole last layer but keys and values is needed for one position of a prompt only.
    """
    config: Any = model.config
    layers, hidden, feed = (
        config.num_hidden_layers, config.hidden_size, config.intermediate_size,
    )  # fmt: skip
    size = getattr(config, "head_dim", None) or hidden // config.num_attention_heads
    queries, keys = config.num_attention_heads * size, config.num_key_value_heads * size
    cached = 2 * hidden * keys
    other = 2 * hidden * queries + 3 * hidden * feed
    head = hidden * (WORDS + LEVELS * CODES if score == "exact" else CODES)
    weights = 2 * (layers * (cached + other) + head)
    asked = batch * ((layers - 1) * prompt + 1)
    first = 2 * (cached * layers * batch * prompt + other * asked + head * batch)
    first += 2 * 2 * queries * batch * ((layers - 1) * prompt * (prompt + 1) / 2 + prompt)
    rows = [(float(weights), float(first))]
    for level in range(1, LEVELS):
        beams = batch * width
        work = 2 * beams * (layers * (cached + other) + head)
        # A beam has to look at the prompt and its own path; the paths of all have to be read.
        work += 2 * 2 * queries * layers * beams * (prompt + level)
        cache = 2 * 2 * keys * layers * batch * (prompt + width * level)
        rows.append((float(weights + cache), float(work)))
    return rows


def shares(work: Callable[[], Any]) -> Row:
    """Return the share of the processors' time that each group of operations takes."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        work()
    spent = dict.fromkeys((*GROUPS, "rest"), 0.0)
    for event in profile.key_averages():
        group = next(
            (name for name, parts in GROUPS.items() if any(part in event.key for part in parts)),
            "rest",
        )
        spent[group] += event.self_cpu_time_total
    whole = sum(spent.values())
    return {f"share_{name}": round(value / whole, 3) for name, value in spent.items()}


def floor(
    name: str, shapes: Sequence[tuple[int, int, int]], items: int, repeats: int, seed: int
) -> list[Row]:
    """Compare times with the floor.

    Args:
        name: Of the model.
        shapes: Requests of a batch, beams and prompt tokens.
        items: Of the catalogue.
        repeats: Measurements, of which the median is taken.
        seed: Seed of weights, codes and prompts.
    """
    model = language_model(name, torch.bfloat16, seed)
    index = catalogue(items, seed)
    ours = Ours(model, PrefixTrie.from_index(index))
    rows = []
    for batch, width, prompt in shapes:
        tokens = prompts(index, batch, prompt, seed)
        scores: tuple[Score, Score] = ("exact", "level")
        for score in scores:
            bandwidth, speed = machine_speed()
            work = partial(ours.search, tokens, width, score)
            found = timed(work, repeats)["milliseconds"]
            each = passes(model, batch, width, prompt, score)
            least = 1e3 * sum(max(read / bandwidth, done / speed) for read, done in each)
            rows.append(
                {
                    "model": name, "items": items, "score": score, "batch": batch, "beams": width,
                    "prompt": prompt, "gigabytes_a_second": round(bandwidth / 1e9, 1),
                    "teraflops": round(speed / 1e12, 2),
                    "gigabytes": round(sum(read for read, _ in each) / 1e9, 2),
                    "gigaflops": round(sum(done for _, done in each) / 1e9, 1),
                    "milliseconds": found, "floor_milliseconds": round(least, 1),
                    "times_the_floor": round(found / least, 2), **shares(work),
                }
            )  # fmt: skip
    return rows

"""Time of constrained beam search: ours beside ``generate`` of transformers, in one process."""

import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from decoding_models import CODES, LEVELS, WORDS, catalogue, language_model, prompts, vocabulary
from torch import Tensor
from transformers import PreTrainedModel

from genrec.decoding import beam
from genrec.decoding.beam import Wishes, beam_search
from genrec.decoding.item_mask import ItemMask
from genrec.decoding.language_model_scorer import LanguageModelScorer
from genrec.decoding.rules import BatchRules, RowRules
from genrec.decoding.tree_decoder import TreeDecoder
from genrec.decoding.trie import PrefixTrie
from genrec.decoding.vocabulary_normaliser import VocabularyNormaliser
from genrec.model.code_head import CodeHead, Score

Row = dict[str, Any]


class Ours:
    """Our search over one model and one catalogue."""

    def __init__(self, model: PreTrainedModel, trie: PrefixTrie) -> None:
        self.decoder = TreeDecoder(model)
        self.head = CodeHead(model, vocabulary())
        self.normaliser = VocabularyNormaliser(model)
        self.trie = trie

    @torch.inference_mode()
    def search(
        self, tokens: Tensor, width: int, score: Score, wishes: Wishes | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return rows and scores of the best items."""
        real = torch.ones_like(tokens, dtype=torch.bool)
        reader = self.decoder.start(tokens, real, width * (LEVELS - 1))
        normaliser = self.normaliser if score == "exact" else None
        scorer = LanguageModelScorer(reader, self.head, normaliser)
        return beam_search(self.trie, scorer, width, wishes)


class Generate:
    """``generate`` with a prefix function over a dictionary of prefixes."""

    def __init__(self, model: PreTrainedModel, codes: Sequence[Sequence[int]]) -> None:
        self.model: Any = model
        follow: dict[tuple[int, ...], set[int]] = {}
        self.item: dict[tuple[int, ...], int] = {}
        for row, each in enumerate(codes):
            for depth in range(LEVELS):
                follow.setdefault(tuple(each[:depth]), set()).add(each[depth])
            self.item[tuple(each)] = row
        self.follow = {
            prefix: [WORDS + CODES * len(prefix) + code for code in sorted(found)]
            for prefix, found in follow.items()
        }
        self.seconds_in_masks = 0.0

    @torch.inference_mode()
    def search(self, tokens: Tensor, width: int) -> list[list[int]]:
        """Return rows of the best items of each request."""
        prompt = tokens.shape[1]
        self.seconds_in_masks = 0.0

        def allowed(request: int, ids: Tensor) -> list[int]:
            begun = time.perf_counter()
            path = ids[prompt:].tolist()
            prefix = tuple(token - WORDS - CODES * depth for depth, token in enumerate(path))
            found = self.follow.get(prefix, [0])
            self.seconds_in_masks += time.perf_counter() - begun
            return found

        answer = self.model.generate(
            tokens, attention_mask=torch.ones_like(tokens), num_beams=width, do_sample=False,
            num_return_sequences=width, max_new_tokens=LEVELS, pad_token_id=0, eos_token_id=None,
            prefix_allowed_tokens_fn=allowed,
        )  # fmt: skip
        codes = [
            tuple(token - WORDS - CODES * depth for depth, token in enumerate(row))
            for row in answer[:, prompt:].tolist()
        ]
        rows = [self.item[each] for each in codes]
        return [rows[start : start + width] for start in range(0, len(rows), width)]


def timed(work: Callable[[], Any], repeats: int) -> dict[str, float]:
    """Return the median milliseconds of wall clock and of all processors, after one run unseen."""
    work()
    walls, processors = [], []
    for _ in range(repeats):
        begun, computed = time.perf_counter(), time.process_time()
        work()
        walls.append(time.perf_counter() - begun)
        processors.append(time.process_time() - computed)
    middle = repeats // 2
    return {
        "milliseconds": round(1e3 * sorted(walls)[middle], 1),
        "cpu_milliseconds": round(1e3 * sorted(processors)[middle], 1),
        "fastest": round(1e3 * min(walls), 1),
        "slowest": round(1e3 * max(walls), 1),
    }


def middle(measure: Callable[[], tuple[float, float]], repeats: int) -> tuple[float, float]:
    """Return the median of each of two figures over several measurements."""
    ones, others = zip(*(measure() for _ in range(repeats)), strict=True)
    return sorted(ones)[repeats // 2], sorted(others)[repeats // 2]


def peak_gib(work: Callable[[], Any]) -> float:
    """Return the most memory the process held during a work, model and catalogue included."""
    Path("/proc/self/clear_refs").write_text("5")  # Starts the peak anew.
    work()
    status = Path("/proc/self/status").read_text().splitlines()
    peak = next(line for line in status if line.startswith("VmHWM"))
    return round(int(peak.split()[1]) / 2**20, 2)


def search_shares(ours: Ours, tokens: Tensor, width: int) -> tuple[float, float]:
    """Return the shares of the time that go into the trie and its masks, and into selection."""
    spent = {"masks": 0.0, "selection": 0.0}
    real_best, real_below, real_allows = beam.best_of, PrefixTrie.below, BatchRules.allows

    def watched(function: Callable[..., Any], part: str) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:  # noqa: ANN401 - whatever it takes
            begun = time.perf_counter()
            result = function(*arguments, **options)
            spent[part] += time.perf_counter() - begun
            return result

        return call

    beam.best_of = watched(real_best, "selection")  # type: ignore[attr-defined]
    PrefixTrie.below = watched(real_below, "masks")  # type: ignore[method-assign]
    BatchRules.allows = watched(real_allows, "masks")  # type: ignore[method-assign]
    try:
        rules = BatchRules(ours.trie, [RowRules()] * len(tokens))
        begun = time.perf_counter()
        ours.search(tokens, width, "level", Wishes(rules=rules))
        whole = time.perf_counter() - begun
    finally:
        beam.best_of = real_best  # type: ignore[attr-defined]
        PrefixTrie.below = real_below  # type: ignore[method-assign]
        BatchRules.allows = real_allows  # type: ignore[method-assign]
    return spent["masks"] / whole, spent["selection"] / whole


def compare(
    name: str,
    shapes: Sequence[tuple[int, int, int, int]],
    *,
    with_generate: bool,
    repeats: int,
    seed: int,
) -> list[Row]:
    """Time both sides for each shape.

    Args:
        name: Of the model.
        shapes: Items, requests of a batch, beams and prompt tokens.
        with_generate: Whether to time ``generate`` as well, which takes by far the longest.
        repeats: Measurements, of which the median is taken; ``generate`` gets one of its own.
        seed: Seed of weights, codes and prompts.
    """
    model = language_model(name, torch.bfloat16, seed)
    rows = []
    for items in sorted({shape[0] for shape in shapes}):
        index = catalogue(items, seed)
        ours = Ours(model, PrefixTrie.from_index(index))
        other = Generate(model, index.codes.tolist()) if with_generate else None
        for _, batch, width, prompt in (shape for shape in shapes if shape[0] == items):
            tokens = prompts(index, batch, prompt, seed)
            row: Row = {"model": name, "items": items, "batch": batch, "beams": width,
                        "prompt": prompt}  # fmt: skip
            scores: tuple[Score, Score] = ("exact", "level")
            for score in scores:
                found = timed(partial(ours.search, tokens, width, score), repeats)
                row |= {f"{score}_{key}": value for key, value in found.items()}
            row["peak_gib"] = peak_gib(partial(ours.search, tokens, width, "exact"))
            masks, selection = middle(partial(search_shares, ours, tokens, width), repeats)
            row |= {"masks_share": round(masks, 4), "selection_share": round(selection, 4)}
            if other is not None:
                found = timed(partial(other.search, tokens, width), 1)
                row |= {
                    f"generate_{key}": found[key] for key in ("milliseconds", "cpu_milliseconds")
                }
                row["generate_masks_milliseconds"] = round(1e3 * other.seconds_in_masks, 1)
                for score in scores:
                    ratio = found["milliseconds"] / row[f"{score}_milliseconds"]
                    row[f"times_faster_{score}"] = round(ratio, 1)
            rows.append(row)
    return rows


def parity(name: str, items: int, batch: int, width: int, prompt: int, seed: int) -> Row:
    """Compare the lists of both sides in float32, exact scores."""
    model = language_model(name, torch.float32, seed)
    index = catalogue(items, seed)
    tokens = prompts(index, batch, prompt, seed)
    rows, _ = Ours(model, PrefixTrie.from_index(index)).search(tokens, width, "exact")
    theirs = Generate(model, index.codes.tolist()).search(tokens, width)
    shared = [
        len(set(own) & set(other)) / width for own, other in zip(rows.tolist(), theirs, strict=True)
    ]
    return {"model": name, "items": items, "batch": batch, "beams": width, "prompt": prompt,
            "overlap": sum(shared) / len(shared)}  # fmt: skip


def filters(name: str, items: int, batch: int, width: int, prompt: int, seed: int) -> Row:
    """Time searches in which half of the items, or all but five, are denied by a mask."""
    model = language_model(name, torch.bfloat16, seed)
    index = catalogue(items, seed)
    ours = Ours(model, PrefixTrie.from_index(index))
    tokens = prompts(index, batch, prompt, seed)
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.rand(items, generator=generator)
    row: Row = {"model": name, "items": items, "batch": batch, "beams": width, "prompt": prompt}
    five = drawn <= drawn.sort().values[4]
    for what, allowed in (("half", drawn < 0.5), ("all_but_five", five)):
        rules = [RowRules(masks=(ItemMask.of(ours.trie, allowed),))] * batch
        filtered = partial(_filtered, ours, tokens, width, rules)
        ratios = []
        for _ in range(7):
            plain = timed(lambda: ours.search(tokens, width, "level"), 1)
            ratios.append(timed(filtered, 1)["cpu_milliseconds"] / plain["cpu_milliseconds"])
        row[f"cost_of_denying_{what}"] = round(sorted(ratios)[3] - 1, 4)
    return row


def _filtered(ours: Ours, tokens: Tensor, width: int, rules: Sequence[RowRules]) -> None:
    ours.search(tokens, width, "level", Wishes(rules=BatchRules(ours.trie, rules)))


def tries(sizes: Sequence[int], seed: int) -> list[Row]:
    """Time and measure tries of catalogues."""
    rows = []
    for items in sizes:
        index = catalogue(items, seed)
        found = timed(partial(PrefixTrie.from_index, index), 3)
        trie = PrefixTrie.from_index(index)
        arrays = [array for step in trie.steps for array in (step.code, step.child_start)]
        rows.append(
            {
                "items": items,
                "seconds": round(found["milliseconds"] / 1e3, 3),
                "cpu_seconds": round(found["cpu_milliseconds"] / 1e3, 3),
                "megabytes": round(sum(array.nbytes for array in arrays) / 1e6, 1),
                "megabytes_of_rows": round(trie.item_of_leaf.nbytes / 1e6, 1),
            }
        )
    return rows

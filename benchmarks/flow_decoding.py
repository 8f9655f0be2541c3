"""Beam search through untrained language models: are all items real, and are they the best?

The models are random, so that the search meets prefixes a trained model would never prefer. What
is checked is counted here, from the codes and the request alone; nothing of the search is used.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
import torch
from flow_rows import Row, bar, figures
from numpy.typing import NDArray
from rich.progress import Progress, track

from genrec.data.catalog import Catalog
from genrec.data.ranking import Ranking
from genrec.decoding.ranker import GenerativeRanker
from genrec.model.generative import GenerativeModel
from genrec.model.language_model import from_scratch
from genrec.model.prompts import Form, Prompts
from genrec.semantic_ids.item_index import ItemIndex

LISTS, CASES = 100_000, 1000
LISTS_A_WORLD, CASES_A_WORLD = 1000, 4

# The models compute in float64; the search adds up log-probabilities in float32.
_TOLERANCE = 1e-4
_MAX_TOKENS = 512
_KINDS = ("invalid", "excluded", "twice", "wrong length", "not sorted")


@dataclass(frozen=True)
class Requests:
    """What one random model is asked.

    Attributes:
        histories: Catalogue rows, oldest first; some are empty.
        exclude: Catalogue rows that must not come back; sometimes nearly all.
        k: Items wanted.
    """

    histories: list[NDArray[np.int32]]
    exclude: list[NDArray[np.int32]]
    k: int


def random_model(
    random: np.random.Generator, *, items: int, widest: int, dtype: torch.dtype
) -> GenerativeModel:
    """Return an untrained language model over random codes.

    Args:
        random: Draws the codes, the shape of the model, its weights and its prompts.
        items: Most items.
        widest: Most codes of a level.
        dtype: Number type of the weights.
    """
    sizes = tuple(random.integers(1, widest + 1, size=random.integers(1, 5)).tolist())
    places = int(np.prod(sizes))
    count = int(random.integers(1, min(items, places) + 1))
    chosen = random.choice(places, size=count, replace=False)
    codes = np.stack(np.unravel_index(chosen, sizes), axis=1).astype(np.int32)
    index = ItemIndex(codes, sizes, {})
    heads = int(random.integers(1, 3))
    torch.manual_seed(int(random.integers(2**31)))
    language_model, tokenizer, vocabulary = from_scratch(
        index,
        hidden=2 * heads * int(random.integers(4, 9)),
        layers=int(random.integers(1, 3)),
        heads=heads,
        feed_forward=16,
        max_tokens=_MAX_TOKENS,
    )
    spread = float(random.choice([0.02, 0.2, 0.5]))
    for weight in language_model.parameters():
        torch.nn.init.normal_(weight, std=spread)
    names = [str(row) for row in range(count)]
    form: Form = "stream" if random.random() < 0.5 else "instruction"
    typed: Any = language_model
    return GenerativeModel(
        language_model=typed.to(dtype=dtype).eval(),
        tokenizer=tokenizer,
        vocabulary=vocabulary,
        index=index,
        prompts=Prompts.build(form, int(random.integers(1, 13)), tokenizer),
        catalog=Catalog(pl.DataFrame({"item_id": names, "title": names, "text": names})),
        item_counts=np.zeros(count, dtype=np.int64),
        facts={},
    )


def random_requests(random: np.random.Generator, items: int, count: int, most: int) -> Requests:
    """Return so many requests for a catalogue, of at most ``most`` items each."""
    lengths = random.integers(0, 16, size=count)
    share = float(random.choice([0.0, 0.1, 0.5, 0.95, 1.0]))
    return Requests(
        [random.integers(0, items, size=n).astype(np.int32) for n in lengths],
        [np.flatnonzero(random.random(items) < share).astype(np.int32) for _ in lengths],
        int(random.integers(1, most + 1)),
    )


def count_faults(rankings: Sequence[Ranking], requests: Requests, items: int) -> dict[str, int]:
    """Count what a list may not hold, over all lists.

    Returns:
        ``invalid`` (no catalogue row), ``excluded`` and ``twice`` entries, and the lists with the
        ``wrong length`` (not k, and not all items that may be returned) or ``not sorted``.
    """
    faults = dict.fromkeys(_KINDS, 0)
    for ranking, excluded in zip(rankings, requests.exclude, strict=True):
        rows = ranking.items.tolist()
        eligible = items - len(set(excluded.tolist()))
        faults["invalid"] += sum(not 0 <= row < items for row in rows)
        faults["excluded"] += len(set(rows) & set(excluded.tolist()))
        faults["twice"] += len(rows) - len(set(rows))
        faults["wrong length"] += len(rows) != min(requests.k, eligible)
        scores = ranking.scores.tolist()
        faults["not sorted"] += scores != sorted(scores, reverse=True)
    return faults


def generate_lists(lists: int, seed: int, quiet: bool = False) -> dict[str, int]:
    """Generate lists with random models, random widths and random exclusions; count the faults.

    Returns:
        What ``count_faults`` counts, and ``lists``, ``entries`` and ``models``.
    """
    total = dict.fromkeys(("models", "lists", "entries", *_KINDS), 0)
    starts = range(0, lists, LISTS_A_WORLD)
    for start in track(starts, description="Generate lists", disable=quiet):
        random = np.random.default_rng([seed, 1, start])
        dtype = torch.bfloat16 if random.random() < 0.25 else torch.float32
        model = random_model(random, items=800, widest=32, dtype=dtype)
        items = len(model.index)
        asked = random_requests(random, items, min(LISTS_A_WORLD, lists - start), most=50)
        ranker = GenerativeRanker(model, beam=int(random.integers(1, 51)), batch_size=250)
        rankings = ranker.rank(asked.histories, asked.k, exclude=asked.exclude)
        total["models"] += 1
        total["lists"] += len(rankings)
        total["entries"] += sum(len(ranking) for ranking in rankings)
        for kind, count in count_faults(rankings, asked, items).items():
            total[kind] += count
    return total


def score_every_item(model: GenerativeModel, history: NDArray[np.int32]) -> NDArray[np.float64]:
    """Score all items, each as a sequence of its own: no cache, no mask, no padding, no trie.

    Returns:
        float64[n], the sum of the log-probabilities of the item's codes, each over its level.
    """
    prompts, sizes, codes = model.prompts, model.index.level_sizes, model.index.codes
    first = [model.vocabulary.first_token + sum(sizes[:level]) for level in range(len(sizes))]
    tokens = [[first[level] + code for level, code in enumerate(row)] for row in codes.tolist()]
    prompt = list(prompts.before)
    for place, row in enumerate(history.tolist()[-prompts.max_history :]):
        prompt += [*(prompts.between if place else ()), *tokens[row]]
    prompt += prompts.after
    with torch.inference_mode():
        logits = model.language_model(
            input_ids=torch.tensor([[*prompt, *own] for own in tokens]), use_cache=False
        ).logits.double()
    total = np.zeros(len(codes))
    for level, size in enumerate(sizes):
        scores = logits[:, len(prompt) - 1 + level, first[level] : first[level] + size]
        chances = torch.log_softmax(scores, dim=1).numpy()
        total += chances[np.arange(len(codes)), codes[:, level]]
    return total


def agrees(ranking: Ranking, truth: NDArray[np.float64], excluded: NDArray[np.int32]) -> bool:
    """Tell whether a list is the best there is: item by item, and score by score.

    Items whose true scores are closer than rounding may change places.
    """
    eligible = np.setdiff1d(np.arange(len(truth)), excluded)
    best = np.sort(truth[eligible])[::-1][: len(ranking)]
    own = truth[ranking.items]
    return bool(
        len(set(ranking.items.tolist())) == len(ranking)
        and set(ranking.items.tolist()) <= set(eligible.tolist())
        and np.allclose(own, best, rtol=0, atol=_TOLERANCE)
        and np.allclose(ranking.scores, best, rtol=0, atol=_TOLERANCE)
    )


def compare_with_brute_force(cases: int, seed: int, quiet: bool = False) -> dict[str, int]:
    """Compare a beam as wide as the catalogue with scoring every item, in random cases.

    A case has at least two items to choose from; random ones with fewer are not counted.

    Returns:
        ``models``, ``cases``, ``eligible`` (items to choose from in all cases together) and
        ``disagreements``.
    """
    total = {"models": 0, "cases": 0, "eligible": 0, "disagreements": 0}
    with Progress(disable=quiet) as progress:
        task = progress.add_task("Compare with brute force", total=cases)
        while total["cases"] < cases:
            random = np.random.default_rng([seed, 2, total["models"]])
            model = random_model(random, items=60, widest=8, dtype=torch.float64)
            items = len(model.index)
            asked = random_requests(random, items, CASES_A_WORLD, most=items)
            ranker = GenerativeRanker(model, beam=items)
            rankings = ranker.rank(asked.histories, asked.k, exclude=asked.exclude)
            total["models"] += 1
            for history, excluded, ranking in zip(
                asked.histories, asked.exclude, rankings, strict=True
            ):
                eligible = items - len(excluded)
                if eligible < 2 or total["cases"] == cases:
                    continue
                right = len(ranking) == min(asked.k, eligible) and agrees(
                    ranking, score_every_item(model, history), excluded
                )
                total["cases"] += 1
                total["eligible"] += eligible
                total["disagreements"] += not right
            progress.update(task, completed=total["cases"])
    return total


def decoding(lists: int, cases: int, seed: int, quiet: bool = False) -> list[Row]:
    """Return the figures and bars of decoding.

    Args:
        lists: Lists to generate.
        cases: Cases to compare with brute force.
        seed: Seed of everything.
        quiet: No progress bars.
    """
    begun = time.perf_counter()
    faults = generate_lists(lists, seed, quiet)
    middle = time.perf_counter()
    compared = compare_with_brute_force(cases, seed, quiet)
    return [
        figures("Lists of random models", **faults, seconds=round(middle - begun, 1)),
        figures(
            "Beam search and brute force",
            **compared,
            tolerance=_TOLERANCE,
            seconds=round(time.perf_counter() - middle, 1),
        ),
        bar("generated lists", faults["lists"], ">=", LISTS),
        *(bar(f"{kind} in them", faults[kind], "==", 0) for kind in _KINDS),
        bar("random cases against brute force", compared["cases"], ">=", CASES),
        bar("disagreements with brute force", compared["disagreements"], "==", 0),
    ]

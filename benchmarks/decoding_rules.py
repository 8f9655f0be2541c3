"""Random catalogues, models and rules: the search beside sorting every item."""

import time
from typing import Any

import numpy as np
import torch
from rich.progress import Progress
from torch import Tensor

from genrec.decoding.beam import Wishes, beam_search
from genrec.decoding.boosts import BatchBoosts
from genrec.decoding.item_mask import ItemMask
from genrec.decoding.rules import BatchRules, RowRules
from genrec.decoding.trie import PrefixTrie
from genrec.semantic_ids.item_index import ItemIndex

REQUESTS = 8
TOLERANCE = 1e-4

Row = dict[str, Any]


class _RandomScorer:
    """Log-probabilities drawn anew for every prefix of every request, and remembered."""

    def __init__(self, sizes: tuple[int, ...], requests: int, random: np.random.Generator) -> None:
        self.sizes, self.requests, self.random = sizes, requests, random
        self.known: dict[tuple[int, ...], Tensor] = {}
        self.paths: list[list[tuple[int, ...]]] = [[(request,)] for request in range(requests)]

    def row(self, path: tuple[int, ...]) -> Tensor:
        """Return the log-probabilities after a request and its codes so far."""
        if path not in self.known:
            drawn = self.random.normal(scale=2, size=self.sizes[len(path) - 1])
            self.known[path] = torch.log_softmax(torch.from_numpy(drawn), 0).float()
        return self.known[path]

    def first(self) -> Tensor:
        return torch.stack([self.row((request,)) for request in range(self.requests)])

    def next(self, level: int, codes: Tensor, parents: Tensor) -> Tensor:
        self.paths = [
            [(*self.paths[request][parent], code) for parent, code in zip(*pair, strict=True)]
            for request, pair in enumerate(zip(parents.tolist(), codes.tolist(), strict=True))
        ]
        return torch.stack([torch.stack([self.row(path) for path in own]) for own in self.paths])


def random_cases(cases: int, seed: int, quiet: bool = False) -> Row:
    """Compare random requests with brute force, and count what a list may not hold.

    Every world is searched twice: with beams as many as items, where the list has to be that of
    sorting all items, and with few, where it has to be as long as it can be.
    """
    begun = time.perf_counter()
    total = {"worlds": 0, "cases": 0, "unequal": 0, "paths": 0, "outside": 0, "against_rules": 0,
             "wrong_length": 0}  # fmt: skip
    with Progress(disable=quiet) as progress:
        task = progress.add_task("Random rules", total=cases)
        while total["cases"] < cases:
            found = _world(np.random.default_rng([seed, total["worlds"]]))
            for key, value in found.items():
                total[key] += value
            total["worlds"] += 1
            progress.update(task, completed=min(total["cases"], cases))
    return {**total, "seconds": round(time.perf_counter() - begun, 1)}


def _world(random: np.random.Generator) -> dict[str, int]:
    sizes = tuple(random.integers(1, 9, size=random.integers(1, 5)).tolist())
    codes = np.stack([random.integers(0, size, 80) for size in sizes], axis=1)
    if random.random() < 0.5:
        # Of several lengths: code 0 fills up what is shorter.
        length = random.integers(1, len(sizes) + 1, len(codes))
        codes = np.where(np.arange(len(sizes)) < length[:, None], codes, 0)
    shared = bool(random.random() < 0.3)
    if not shared:
        codes = np.unique(codes, axis=0)
    codes = random.permutation(codes)[: random.integers(1, len(codes) + 1)].astype(np.int32)
    index = ItemIndex(codes, sizes, {}, shared=shared)
    trie = PrefixTrie.from_index(index, random.integers(0, 9, len(index)))
    masks = [ItemMask.of(trie, random.random(len(index)) < random.random()) for _ in range(2)]
    rules = [random_rules(random, len(index), masks) for _ in range(REQUESTS)]
    found = {"cases": 0, "unequal": 0, "paths": 0, "outside": 0, "against_rules": 0,
             "wrong_length": 0}  # fmt: skip
    scorer = _RandomScorer(sizes, REQUESTS, random)
    for width in (len(index), int(random.integers(1, 9))):
        scorer.paths = [[(request,)] for request in range(REQUESTS)]
        boosts = BatchBoosts(trie, [each.boosts for each in rules])
        rows, scores = beam_search(
            trie, scorer, width, Wishes(rules=BatchRules(trie, rules), boosts=boosts)
        )
        for request, each in enumerate(rules):
            left = np.flatnonzero(each.eligible(len(index)))
            list_of = [row for row in rows[request].tolist() if row != -1]
            found["cases"] += 1
            found["paths"] += len(list_of)
            found["outside"] += sum(not 0 <= row < len(index) for row in list_of)
            found["against_rules"] += len(set(list_of) - set(left.tolist()))
            found["wrong_length"] += len(set(list_of)) != min(width, len(left))
            if width == len(index):
                truth = _truth(scorer, index, request, each, left)
                own = scores[request][: len(list_of)].numpy()
                equal = len(truth) == len(own) and np.allclose(truth, own, atol=TOLERANCE)
                found["unequal"] += not equal
    return found


def random_rules(random: np.random.Generator, items: int, masks: list[ItemMask]) -> RowRules:
    """Return rules in which every kind is there or not by chance."""
    share = random.choice([0.0, 0.1, 0.7, 1.0], p=[0.4, 0.3, 0.2, 0.1])
    allowed = np.flatnonzero(random.random(items) < random.random())
    boosted = np.flatnonzero(random.random(items) < random.choice([0.0, 0.2]))
    return RowRules(
        excluded=np.flatnonzero(random.random(items) < share),
        allowed=allowed if random.random() < 0.3 else None,
        masks=tuple(mask for mask in masks if random.random() < 0.4),
        boosts={int(row): float(random.normal(scale=3)) for row in boosted},
    )


def _truth(
    scorer: _RandomScorer, index: ItemIndex, request: int, rules: RowRules, left: np.ndarray
) -> np.ndarray:
    """Return the scores of all items that are left, best first."""
    scores = []
    for row in left.tolist():
        path: tuple[int, ...] = (request,)
        score = rules.boosts.get(row, 0.0)
        for code in index.codes[row].tolist():
            score += float(scorer.row(path)[code])
            path = (*path, code)
        scores.append(score)
    return np.sort(np.array(scores))[::-1]

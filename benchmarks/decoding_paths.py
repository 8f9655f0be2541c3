"""Items returned by a transformer under random rules, counted until there are a million."""

import time
from typing import Any

import numpy as np
import torch
from decoding_models import catalogue, language_model, prompts
from decoding_rules import random_rules
from decoding_speed import Ours
from rich.progress import Progress

from genrec.decoding.beam import Wishes
from genrec.decoding.boosts import BatchBoosts
from genrec.decoding.item_mask import ItemMask
from genrec.decoding.rules import BatchRules
from genrec.decoding.trie import PrefixTrie

Row = dict[str, Any]
BATCH, PROMPT = 16, 32


def count_paths(
    name: str, items: int, total: int, dtype: torch.dtype, seed: int, quiet: bool = False
) -> Row:
    """Search with random rules until so many items have come back, and count faults.

    Args:
        name: Of the model.
        items: Of the catalogue.
        total: Items to be returned in all.
        dtype: Number type of the model.
        seed: Of weights, codes, prompts and rules.
        quiet: Show no progress.

    Returns:
        How many items were none of the catalogue, were against a rule or came twice, and how many
        lists were not as long as the beam or the eligible items allow.
    """
    begun = time.perf_counter()
    random = np.random.default_rng(seed)
    index = catalogue(items, seed)
    ours = Ours(language_model(name, dtype, seed), PrefixTrie.from_index(index))
    masks = [ItemMask.of(ours.trie, random.random(items) < share) for share in (0.5, 0.01)]
    found = dict.fromkeys(
        ("requests", "paths", "outside", "against_rules", "twice", "wrong_length"), 0
    )
    with Progress(disable=quiet) as progress:
        task = progress.add_task("Paths", total=total)
        while found["paths"] < total:
            rules = [random_rules(random, items, masks) for _ in range(BATCH)]
            wishes = Wishes(
                rules=BatchRules(ours.trie, rules),
                boosts=BatchBoosts(ours.trie, [each.boosts for each in rules]),
            )
            width = int(random.choice([10, 50, 256]))
            tokens = prompts(index, BATCH, PROMPT, int(random.integers(2**31)))
            rows = ours.search(tokens, width, "level", wishes)[0]
            for each, returned in zip(rules, rows.tolist(), strict=True):
                eligible = each.eligible(items)
                kept = [row for row in returned if row != -1]
                real = [row for row in kept if 0 <= row < items]
                found["requests"] += 1
                found["paths"] += len(kept)
                found["outside"] += len(kept) - len(real)
                found["against_rules"] += sum(not eligible[row] for row in real)
                found["twice"] += len(real) - len(set(real))
                found["wrong_length"] += len(kept) != min(width, int(eligible.sum()))
            progress.update(task, completed=min(found["paths"], total))
    return {
        "model": name, "items": items, **found, "seconds": round(time.perf_counter() - begun, 1)
    }  # fmt: skip

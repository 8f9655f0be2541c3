"""Time of users who come back with one more item: their histories read anew, and reused."""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from decoding_models import LEVELS, catalogue, language_model, prompts
from decoding_speed import Ours, timed
from torch import Tensor

from genrec.decoding.beam import beam_search
from genrec.decoding.language_model_scorer import LanguageModelScorer
from genrec.decoding.prefix_cache import PrefixCache
from genrec.decoding.reusing_reader import ReusingReader
from genrec.decoding.trie import PrefixTrie
from genrec.model.prompts import pad_left
from genrec.semantic_ids.item_index import ItemIndex

# What rankers round the number of tokens up to.
MULTIPLE = 4 * LEVELS

Row = dict[str, Any]


def returning(
    name: str, items: int, shapes: Sequence[tuple[int, int, int]], repeats: int, seed: int
) -> list[Row]:
    """Time each shape.

    Args:
        name: Of the model.
        items: Items of the catalogue.
        shapes: Requests of a batch, beams and tokens of the prompts before they grew by an item.
        repeats: Measurements, of which the median is taken.
        seed: Seed of weights, codes and prompts.
    """
    index = catalogue(items, seed)
    ours = Ours(language_model(name, torch.bfloat16, seed), PrefixTrie.from_index(index))
    return [
        {"model": name, "items": items} | _row(ours, index, *shape, repeats, seed)
        for shape in shapes
    ]


def _row(
    ours: Ours, index: ItemIndex, batch: int, width: int, prompt: int, repeats: int, seed: int
) -> Row:
    before = prompts(index, batch, prompt, seed)
    # Room for the histories and twice as much, so that none is lost while last items come and go.
    room = 3 * batch * (prompt + LEVELS) // LEVELS
    block_bytes = PrefixCache(ours.decoder, LEVELS, 2**20).block_bytes
    returned = PrefixCache(ours.decoder, LEVELS, room * block_bytes)
    _reused(ours, returned, before, width)
    used = returned.stats.bytes_used
    longer = _longer(before, index, seed + 1)
    fresh = timed(lambda: _fresh(ours, next(longer), width), repeats)
    reused = timed(lambda: _reused(ours, returned, next(longer), width), repeats)
    strange = _strangers(index, batch, prompt + LEVELS, seed + 2)
    other = PrefixCache(ours.decoder, LEVELS, room * block_bytes)
    kept = timed(lambda: _reused(ours, other, next(strange), width), repeats)
    last = next(longer)
    pairs = zip(
        _fresh(ours, last, width).tolist(),
        _reused(ours, returned, last, width).tolist(),
        strict=True,
    )
    stats = returned.stats
    return {
        "batch": batch,
        "beams": width,
        "prompt": prompt,
        **{f"fresh_{key}": fresh[key] for key in ("milliseconds", "cpu_milliseconds")},
        **{f"reused_{key}": reused[key] for key in ("milliseconds", "cpu_milliseconds")},
        "times_faster": round(fresh["milliseconds"] / reused["milliseconds"], 2),
        "unknown_and_kept_milliseconds": kept["milliseconds"],
        "unknown_and_kept_cpu_milliseconds": kept["cpu_milliseconds"],
        "bytes_a_prompt": used // batch,
        "tokens_reused_share": round(
            stats.tokens_reused / (stats.tokens_reused + stats.tokens_read - before.numel()), 4
        ),
        "overlap": round(sum(len({*own} & {*new}) for own, new in pairs) / (batch * width), 4),
    }


@torch.inference_mode()
def _fresh(ours: Ours, tokens: Tensor, width: int) -> Tensor:
    """Search as a ranker without a cache does; return the rows of the best items."""
    padded, real = map(torch.from_numpy, pad_left(list(tokens.numpy()), 0, MULTIPLE))
    reader = ours.decoder.start(padded, real, width * (LEVELS - 1))
    return beam_search(ours.trie, LanguageModelScorer(reader, ours.head), width)[0]


@torch.inference_mode()
def _reused(ours: Ours, cache: PrefixCache, tokens: Tensor, width: int) -> Tensor:
    """Search with a cache; return the rows of the best items."""
    reader = ReusingReader(
        ours.decoder, cache, list(tokens.numpy()),
        pad=0, multiple=MULTIPLE, beams=width * (LEVELS - 1),
    )  # fmt: skip
    return beam_search(ours.trie, LanguageModelScorer(reader, ours.head), width)[0]


def _longer(before: Tensor, index: ItemIndex, seed: int) -> Iterator[Tensor]:
    """Yield the prompts with one more item, another each time."""
    while True:
        yield torch.cat([before, prompts(index, len(before), LEVELS, seed)], dim=1)
        seed += 1


def _strangers(index: ItemIndex, batch: int, prompt: int, seed: int) -> Iterator[Tensor]:
    """Yield prompts that were never read."""
    while True:
        yield prompts(index, batch, prompt, seed)
        seed += 1

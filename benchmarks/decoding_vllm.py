"""Time of the search: our torch engine beside vLLM, in one process of vLLM's environment.

vLLM is timed twice with the same constraint: by its own ``beam_search``, and as the engine of our
search (``VllmEngine``). What it read of a prompt is forgotten before every measurement.
"""

import gc
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import decoding_models
import numpy as np
import polars as pl
import torch
from decoding_models import LEVELS, catalogue, language_model, prompts, vocabulary
from decoding_speed import Ours, timed
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from genrec.data.catalog import Catalog
from genrec.decoding.beam import beam_search
from genrec.decoding.trie import PrefixTrie
from genrec.decoding.vllm_engine import VllmEngine
from genrec.model.code_head import Score
from genrec.model.generative import GenerativeModel
from genrec.model.prompts import Prompts
from genrec.semantic_ids.item_index import ItemIndex

Row = dict[str, Any]
Shape = tuple[int, int, int, int]


class Vllm:
    """vLLM over one model and one catalogue.

    Args:
        folder: Where the model was saved.
        model: The same, in torch.
        trie: The catalogue.
        score: What the probabilities add up to one over.
        most_beams: Beams of the widest search.
    """

    def __init__(
        self,
        folder: Path,
        model: GenerativeModel,
        trie: PrefixTrie,
        score: Score,
        most_beams: int,
    ) -> None:
        # Its own search asks for twice as many of the best tokens as there are beams.
        most = max(2 * most_beams, *(level.widest for level in trie.levels))
        self.engine = VllmEngine(
            folder,
            model,
            dtype=model.language_model.dtype,
            score=score,
            options={"max_logprobs": most},
        )
        self.trie = trie

    def own_search(self, tokens: Tensor, width: int) -> list[list[list[int]]]:
        """Return the codes of the items that vLLM's own beam search finds."""
        from vllm.sampling_params import BeamSearchParams

        self.engine.llm.reset_prefix_cache()
        answers = self.engine.llm.beam_search(
            [{"prompt_token_ids": row} for row in tokens.tolist()],
            BeamSearchParams(beam_width=width, max_tokens=LEVELS, ignore_eos=True),
        )
        offsets = np.array([vocabulary().level_range(level).start for level in range(LEVELS)])
        return [
            (np.array([beam.tokens[-LEVELS:] for beam in each.sequences]) - offsets).tolist()
            for each in answers
        ]

    def our_search(self, tokens: Tensor, width: int) -> tuple[Tensor, Tensor]:
        """Return rows and scores of the items that our search finds with vLLM as its engine."""
        self.engine.llm.reset_prefix_cache()
        return beam_search(self.trie, self.engine.scorer(list(tokens.numpy()), width), width)


def compare_vllm(
    name: str, shapes: Sequence[Shape], *, repeats: int, seed: int, scores: Sequence[Score]
) -> list[Row]:
    """Time both engines for each shape and score.

    Args:
        name: Of the model.
        shapes: Items, requests of a batch, beams and prompt tokens.
        repeats: Measurements, of which the median is taken.
        seed: Seed of weights, codes and prompts.
        scores: What the probabilities add up to one over.
    """
    model = language_model(name, torch.bfloat16, seed)
    rows: list[Row] = []
    for items in sorted({shape[0] for shape in shapes}):
        index = catalogue(items, seed)
        trie = PrefixTrie.from_index(index)
        batches = {shape: prompts(index, shape[1], shape[3], seed) for shape in shapes
                   if shape[0] == items}  # fmt: skip
        # vLLM changes how torch uses the cores of its process, so ours is timed before.
        ours = {
            (shape, score): _ours(model, trie, tokens, shape[2], score, repeats)
            for shape, tokens in batches.items()
            for score in scores
        }
        with tempfile.TemporaryDirectory() as folder:
            saved = _saved(Path(folder), model, index, max(shape[3] for shape in batches))
            for score in scores:
                vllm = Vllm(Path(folder), saved, trie, score, max(shape[2] for shape in batches))
                for shape, tokens in batches.items():
                    found, timing = ours[shape, score]
                    row = dict(zip(("items", "batch", "beams", "prompt"), shape, strict=True))
                    row |= {"model": name, "score": score, **timing}
                    rows.append(row | _theirs(vllm, index, tokens, shape[2], found, row, repeats))
                del vllm
                gc.collect()
    return rows


def _ours(
    model: PreTrainedModel, trie: PrefixTrie, tokens: Tensor, width: int, score: Score, repeats: int
) -> tuple[list[list[int]], Row]:
    """Return the rows that our search finds in torch, and its time."""
    ours = Ours(model, trie)
    work = partial(ours.search, tokens, width, score)
    return work()[0].tolist(), _named("ours", work, repeats)


def _theirs(
    vllm: Vllm,
    index: ItemIndex,
    tokens: Tensor,
    width: int,
    found: list[list[int]],
    row: Row,
    repeats: int,
) -> Row:
    """Return the times of both searches in vLLM, how much slower and how alike they are."""
    row_of = {tuple(codes): number for number, codes in enumerate(index.codes.tolist())}
    own = [[row_of[tuple(codes)] for codes in each] for each in vllm.own_search(tokens, width)]
    through = vllm.our_search(tokens, width)[0].tolist()
    cells: Row = _named("vllm_search", partial(vllm.own_search, tokens, width), repeats)
    cells |= _named("vllm_engine", partial(vllm.our_search, tokens, width), repeats)
    for side, lists in (("vllm_search", own), ("vllm_engine", through)):
        ratio = cells[f"{side}_milliseconds"] / row["ours_milliseconds"]
        cells[f"{side}_over_ours"] = round(ratio, 2)
        shared = [len(set(a) & set(b)) / width for a, b in zip(lists, found, strict=True)]
        cells[f"{side}_overlap"] = round(sum(shared) / len(shared), 3)
    return cells | {"threads_in_vllm": torch.get_num_threads()}


def _named(side: str, work: Callable[[], Any], repeats: int) -> Row:
    return {f"{side}_{key}": value for key, value in timed(work, repeats).items()}


def _saved(folder: Path, model: PreTrainedModel, index: ItemIndex, longest: int) -> GenerativeModel:
    """Write a model folder for vLLM and return what it holds."""
    words = [f"w{number}" for number in range(decoding_models.WORDS)]
    words += vocabulary().token_texts()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(WordLevel({word: n for n, word in enumerate(words)}, "w0")),
        bos_token="w1", unk_token="w0",
    )  # fmt: skip
    names = [str(row) for row in range(len(index))]
    whole = GenerativeModel(
        model, tokenizer, vocabulary(), index,
        Prompts.build("stream", -(-longest // LEVELS), tokenizer),
        Catalog(pl.DataFrame({"item_id": names, "title": names, "text": names})),
        np.ones(len(index), dtype=np.int64), {},
    )  # fmt: skip
    whole.save(folder)
    return whole

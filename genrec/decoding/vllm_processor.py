"""What vLLM's two kinds of model runners need to keep to the items of a catalogue.

Runner V1 (CPU, and older versions) hands a processor the tokens of requests as lists, runner V2
(GPU) as tensors on the device; a class for one is refused by the other. Both classes here read the
catalogue that ``CONFIG_KEY`` of the engine's ``additional_config`` names, so they work in worker
processes, too.

This module imports vLLM; it is itself imported by the engine alone, by name.
"""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from vllm.v1.sample.logits_processor import LogitsProcessor as V1LogitsProcessor
from vllm.v1.sample.logits_processor.builtin import process_dict_updates
from vllm.v1.worker.gpu.sample.logits_processor import LogitsProcessor as V2LogitsProcessor

from genrec.decoding.trie import PrefixTrie
from genrec.decoding.trie_scores import TrieScores
from genrec.semantic_ids.vocabulary import SidVocabulary

CONFIG_KEY = "genrec"


def _scores(vllm_config: Any, device: torch.device) -> TrieScores:  # noqa: ANN401
    """Return the catalogue and the kind of scores that the engine was configured with."""
    settings = vllm_config.additional_config[CONFIG_KEY]
    trie = PrefixTrie.load(Path(settings["trie"])).to(device)
    return TrieScores(trie, SidVocabulary.from_dict(settings["vocabulary"]), settings["score"])


class TrieProcessorV1(V1LogitsProcessor):
    """Scores of codes that lead to an item, for runner V1."""

    def __init__(
        self,
        vllm_config: Any,  # noqa: ANN401
        device: torch.device,
        is_pin_memory: bool,
    ) -> None:
        self._scores = _scores(vllm_config, device)
        self._requests: dict[int, tuple[list[int], list[int]]] = {}

    def is_argmax_invariant(self) -> bool:
        """Tell vLLM that the best token changes."""
        return False

    def update_state(self, batch_update: Any) -> None:  # noqa: ANN401
        """Follow which request is in which row; the list of its output grows by itself."""
        process_dict_updates(
            self._requests,
            batch_update,
            lambda _, prompt, output: (list(prompt or [])[-self._scores.tail :], output),
        )

    def apply(self, logits: Tensor) -> Tensor:
        """Put scores in place of logits."""
        width = self._scores.tail
        tails = torch.full((len(logits), width), -1, dtype=torch.int64)
        for row, (prompt, output) in self._requests.items():
            tokens = [*prompt, *output][-width:] if width else []
            if tokens and row < len(logits):
                tails[row, -len(tokens) :] = torch.tensor(tokens)
        return self._scores.apply(logits, tails.to(logits.device))


class TrieProcessorV2(V2LogitsProcessor):
    """Scores of codes that lead to an item, for runner V2."""

    def __init__(self, vllm_config: Any, req_states: Any) -> None:  # noqa: ANN401
        if vllm_config.speculative_config is not None:
            raise ValueError("genrec's constraint knows no speculative decoding; switch it off.")
        self._scores = _scores(vllm_config, req_states.device)
        self._states = req_states

    def apply(self, logits: Tensor, ctx: Any) -> Tensor:  # noqa: ANN401
        """Put scores in place of logits."""
        width = self._scores.tail
        slots = ctx.expanded_idx_mapping.long().unsqueeze(1)
        back = torch.arange(width, device=logits.device) - width + 1
        places = ctx.pos.long().unsqueeze(1) + back
        tokens = self._states.all_token_ids.gpu[slots, places.clamp(min=0)].long()
        return self._scores.apply(logits, tokens.where(places >= 0, -1))

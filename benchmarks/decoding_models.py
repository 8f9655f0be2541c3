"""Language models and catalogues that decoding is timed on."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from genrec.semantic_ids.item_index import ItemIndex
from genrec.semantic_ids.vocabulary import SidVocabulary

LEVELS, CODES = 4, 256
WORDS = 49_152
MODELS = ("tiny", "smollm2")


def language_model(name: str, dtype: torch.dtype, seed: int) -> PreTrainedModel:
    """Return an untrained model: time does not depend on what the weights are.

    ``tiny`` has the blocks of Qwen3, 6 of them 256 wide; ``smollm2`` the shape of SmolLM2-135M.
    Both have 49,152 words and 4 x 256 codes.
    """
    torch.manual_seed(seed)
    shared: dict[str, Any] = {
        "vocab_size": WORDS + LEVELS * CODES,
        "tie_word_embeddings": True,
        "max_position_embeddings": 8192,
    }
    model: PreTrainedModel
    if name == "tiny":
        model = Qwen3ForCausalLM(
            Qwen3Config(
                hidden_size=256, intermediate_size=768, num_hidden_layers=6, head_dim=32,
                num_attention_heads=8, num_key_value_heads=4, **shared,
            )
        )  # fmt: skip
    else:
        model = LlamaForCausalLM(
            LlamaConfig(
                hidden_size=576, intermediate_size=1536, num_hidden_layers=30,
                num_attention_heads=9, num_key_value_heads=3, **shared,
            )
        )  # fmt: skip
    for name_of, weight in model.named_parameters():
        if "norm" in name_of:
            # Weights of one would be left out of the work, which no trained model allows.
            torch.nn.init.normal_(weight, mean=1.0, std=0.1)
    typed: Any = model
    ready: PreTrainedModel = typed.to(dtype=dtype).eval()
    return ready


def vocabulary() -> SidVocabulary:
    """Return the tokens of the codes, behind the words."""
    return SidVocabulary((CODES,) * LEVELS, WORDS)


def catalogue(items: int, seed: int) -> ItemIndex:
    """Return items with codes of their own, some codes far more frequent than others."""
    random = np.random.default_rng(seed)
    numbers = np.zeros(0, dtype=np.int64)
    while len(numbers) < items:
        drawn = (CODES * random.random((items, LEVELS)) ** 2).astype(np.int64)
        numbers = np.unique(np.concatenate([numbers, _packed(drawn)]))
    numbers = random.permutation(numbers)[:items]
    codes = np.stack([(numbers >> 8 * place) & 255 for place in range(LEVELS - 1, -1, -1)], axis=1)
    return ItemIndex(codes.astype(np.int32), (CODES,) * LEVELS, {})


def _packed(codes: NDArray[np.int64]) -> NDArray[np.int64]:
    number = np.zeros(len(codes), dtype=np.int64)
    for column in codes.T:
        number = number * CODES + column
    return number


def prompts(index: ItemIndex, batch: int, width: int, seed: int) -> torch.Tensor:
    """Return histories of whole items as tokens, int64[batch, width]."""
    random = np.random.default_rng(seed)
    rows = random.integers(0, len(index), batch * width // LEVELS)
    tokens = np.asarray(vocabulary().tokens(index.codes[rows]), dtype=np.int64)
    return torch.from_numpy(tokens.reshape(batch, width))

"""Language models without words: they read vectors and give states."""

from typing import Any

import torch
from transformers import AutoModel, LlamaConfig, LlamaModel, PreTrainedModel

from genrec.errors import ConfigError, DependencyError
from genrec.model import fetch
from genrec.model.progress_bars import without_progress_bars


def body_from_scratch(
    *, hidden: int, layers: int, heads: int, feed_forward: int, max_tokens: int
) -> PreTrainedModel:
    """Make a small untrained causal transformer (Llama) with one word, which is never read.

    Args:
        hidden: Width.
        layers: Transformer blocks.
        heads: Attention heads.
        feed_forward: Width of the feed-forward layers.
        max_tokens: Longest sequence it shall read.

    Raises:
        ConfigError: When the width is not a multiple of twice the heads.
    """
    if hidden % (2 * heads):
        raise ConfigError(
            f"molar.scratch.hidden is {hidden} and molar.scratch.heads is {heads}; the width must "
            "be a multiple of twice the heads."
        )
    config = LlamaConfig(
        vocab_size=1,
        hidden_size=hidden,
        intermediate_size=feed_forward,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=heads,
        max_position_embeddings=max_tokens,
        pad_token_id=None,
        bos_token_id=None,
        eos_token_id=None,
    )
    return LlamaModel(config)


def pretrained_body(
    name: str, *, revision: str | None, dtype: torch.dtype, quiet: bool = False
) -> tuple[PreTrainedModel, float]:
    """Load the language side of a causal or vision-language model and drop its words.

    Args:
        name: ``smollm2``, a folder, or a hub id.
        revision: Pinned revision for a hub id.
        dtype: Number type of the weights.
        quiet: No progress bars.

    Returns:
        The model, and the usual size of an entry of its word vectors (root of the mean square):
        what it is used to reading.

    Raises:
        DependencyError: When the model can be reached neither locally nor on the hub.
        ConfigError: When it is an encoder-decoder.
    """
    source: Any = name
    if name in fetch.KNOWN:
        source, revision = fetch.fetch(name, quiet=quiet), None
    try:
        with without_progress_bars(quiet):
            whole: Any = AutoModel.from_pretrained(
                source, revision=revision, dtype=dtype, use_safetensors=True
            )
    except (OSError, ValueError) as error:
        raise DependencyError(
            f"the language model {name!r} cannot be loaded ({error}). Give molar.language_model a "
            f"folder with a language model, a hub id that can be reached, or one of "
            f"{sorted(fetch.KNOWN)}; or leave it null to train a small one from scratch."
        ) from error
    if whole.config.is_encoder_decoder:
        raise ConfigError(
            f"molar.language_model {name!r} is an encoder-decoder; give a decoder-only or a "
            "vision-language model."
        )
    body = getattr(whole, "language_model", whole)
    size = float(body.get_input_embeddings().weight.detach().float().square().mean().sqrt())
    config = body.config
    config.pad_token_id = config.bos_token_id = config.eos_token_id = None
    body.resize_token_embeddings(1, mean_resizing=False)
    return body, size

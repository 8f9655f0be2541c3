"""Language models without words: they read vectors and give states."""

from typing import Any

import torch
from transformers import AutoModel, LlamaModel, PreTrainedModel

from genrec.errors import ConfigError
from genrec.model import fetch
from genrec.model.progress_bars import without_progress_bars
from genrec.model.refuse_adapter import refuse_adapter_folder, refuse_loaded_adapter
from genrec.model.scratch import decoder_config


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
    config = decoder_config(
        "molar.scratch",
        words=1,
        hidden=hidden,
        layers=layers,
        heads=heads,
        feed_forward=feed_forward,
        max_tokens=max_tokens,
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
        ConfigError: When it is an encoder-decoder or an adapter.
    """
    refuse_adapter_folder(name, "molar.language_model")
    source, revision = fetch.resolve(name, revision, quiet=quiet)
    try:
        with without_progress_bars(quiet):
            whole: Any = AutoModel.from_pretrained(
                source, revision=revision, dtype=dtype, use_safetensors=True
            )
    except (OSError, ValueError) as error:
        otherwise = "; or leave it null to train a small model from scratch"
        raise fetch.unreachable(name, "molar.language_model", otherwise, error) from error
    refuse_loaded_adapter(whole, name, "molar.language_model")
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

"""Loading a language model that reads items: a causal one, or one that sees."""

from typing import Any

import torch
from transformers import (
    AutoConfig,
    AutoImageProcessor,
    AutoModelForImageTextToText,
    AutoTokenizer,
)

from genrec.errors import ConfigError
from genrec.model import fetch
from genrec.model.auto_model import auto_model
from genrec.model.progress_bars import without_progress_bars
from genrec.model.refuse_adapter import refuse_adapter_folder, refuse_loaded_adapter


def load_item_language_model(
    name: str, *, revision: str | None, dtype: torch.dtype, quiet: bool = False
) -> tuple[Any, Any, Any]:
    """Load a language model by known name, local folder or hub id.

    Args:
        name: ``smollm2``, a folder, or a hub id.
        revision: Pinned revision for a hub id.
        dtype: Number type of the weights.
        quiet: No progress bars.

    Returns:
        The model, its tokenizer and its image processor, which is None for a model without eyes.

    Raises:
        DependencyError: When the model can be reached neither locally nor on the hub.
        ConfigError: When it is an encoder-decoder or an adapter.
    """
    refuse_adapter_folder(name, "item_model.language_model")
    source, revision = fetch.resolve(name, revision, quiet=quiet)
    processor: Any = None
    try:
        with without_progress_bars(quiet):
            config = AutoConfig.from_pretrained(source, revision=revision)
            if getattr(config, "is_encoder_decoder", False):
                raise ConfigError(
                    f"item_model.language_model {name!r} is an encoder-decoder; give a "
                    "decoder-only or a vision-language model."
                )
            if hasattr(config, "vision_config"):
                model: Any = AutoModelForImageTextToText.from_pretrained(
                    source, revision=revision, dtype=dtype, use_safetensors=True
                )
                processor = AutoImageProcessor.from_pretrained(source, revision=revision)
            else:
                model = auto_model(source, revision=revision, dtype=dtype)
            tokenizer = AutoTokenizer.from_pretrained(source, revision=revision)
    except (OSError, ValueError, ImportError) as error:
        raise fetch.unreachable(name, "item_model.language_model", "", error) from error
    refuse_loaded_adapter(model, name, "item_model.language_model")
    return model, tokenizer, processor

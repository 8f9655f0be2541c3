"""Loading a language model by what its configuration says it is."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    PreTrainedModel,
)


def auto_model(
    source: str | Path,
    *,
    dtype: torch.dtype | str,
    revision: str | None = None,
    local_files_only: bool = False,
    empty: bool = False,
    loading: Mapping[str, Any] | None = None,
) -> PreTrainedModel:
    """Load a causal or an encoder-decoder language model, whichever lies there.

    Args:
        source: A folder or a hub id.
        dtype: Number type of the weights; ``auto`` keeps what was saved.
        revision: Pinned revision of a hub id.
        local_files_only: Never ask the hub.
        empty: Read no weights, only the shape: they are on the ``meta`` device.
        loading: More arguments of ``from_pretrained``.

    Raises:
        OSError: When there is no such model.
        ValueError: When it is neither a causal nor an encoder-decoder language model.
    """
    where: dict[str, Any] = {"revision": revision, "local_files_only": local_files_only}
    config = AutoConfig.from_pretrained(source, **where)
    kind: Any = AutoModelForSeq2SeqLM if config.is_encoder_decoder else AutoModelForCausalLM
    if empty:
        with torch.device("meta"):
            shape: PreTrainedModel = kind.from_config(
                config, dtype=config.dtype if dtype == "auto" else dtype
            )
        return shape
    model: PreTrainedModel = kind.from_pretrained(
        source, dtype=dtype, use_safetensors=True, **where, **(loading or {})
    )
    return model

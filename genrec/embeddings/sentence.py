"""Texts to vectors with a sentence-transformers model."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from genrec.embeddings.model_folder import folder_digest, model_folder
from genrec.errors import ConfigError, DependencyError


def encode_sentences(
    texts: list[str],
    *,
    model: str | None,
    revision: str | None,
    prompt: str,
    batch_size: int,
    device: str = "cpu",
    dtype: torch.dtype = torch.float32,
    quiet: bool = True,
) -> tuple[NDArray[np.float32], dict[str, Any]]:
    """Turn texts into vectors with a sentence-transformers model.

    Args:
        texts: Distinct texts.
        model: Folder of a model, or its id on the Hugging Face hub.
        revision: Commit of the hub id; not used for a folder.
        prompt: Put before every text, instead of any prompt the model has of its own.
        batch_size: Texts encoded at once.
        device: Where to compute.
        dtype: Number type of the weights.
        quiet: No progress bar.

    Returns:
        float32[n, d] of length 1, and facts: model, revision, ``weights_digest`` (sha256 over
        the model's files), prompt, dimensions, most tokens read, number type, package version.

    Raises:
        ConfigError: When no model is named, a hub id has no revision, the folder is no model or
            its weights are not safetensors.
        DependencyError: When sentence-transformers is missing or the hub cannot be reached.
    """
    folder, encoder, version = load_sentence_model(model, revision, device, dtype, quiet)
    vectors = encoder.encode(
        texts,
        prompt=prompt,
        batch_size=batch_size,
        convert_to_numpy=True,
        normalize_embeddings=True,
        show_progress_bar=not quiet,
    )
    facts = {
        "model": model,
        "revision": None if Path(str(model)).is_dir() else revision,
        "weights_digest": folder_digest(folder),
        "prompt": prompt,
        "dimensions": int(vectors.shape[1]),
        "max_tokens": encoder.max_seq_length,
        "dtype": str(dtype).removeprefix("torch."),
        "sentence_transformers": version,
    }
    return vectors.astype(np.float32), facts


def load_sentence_model(
    model: str | None,
    revision: str | None,
    device: str,
    dtype: torch.dtype,
    quiet: bool,
    *,
    section: str = "embed",
) -> tuple[Path, Any, str]:
    """Return the model's folder, the model, and the version of the package that reads it.

    Raises:
        ConfigError: As ``encode_sentences``.
        DependencyError: As ``encode_sentences``.
    """
    try:
        import sentence_transformers
        from transformers.utils.logging import disable_progress_bar
    except ImportError as error:
        other = "tfidf" if section == "embed" else "vision"
        raise DependencyError(
            f"{section}.method is sentence_transformer, but the package sentence-transformers is "
            f'not installed. Install it: pip install "genrec[text]"; or set {section}.method: '
            f"{other}."
        ) from error

    folder = model_folder(model, revision, section=section)
    if quiet:
        disable_progress_bar()
    try:
        encoder: Any = sentence_transformers.SentenceTransformer(
            str(folder),
            device=device,
            trust_remote_code=False,
            local_files_only=True,
            model_kwargs={"dtype": dtype, "use_safetensors": True},
        )
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"{folder} cannot be loaded as a sentence-transformers model ({error}); "
            f"{section}.model must be a folder with config.json, a tokenizer and model.safetensors."
        ) from error
    encoder.eval()
    return folder, encoder, sentence_transformers.__version__

"""Texts to vectors with a sentence-transformers model."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from genrec.artifacts import sha256_of
from genrec.errors import ConfigError, DependencyError

# Weights in formats that run code when they are read are not even fetched.
_NOT_FETCHED = [
    "*.bin",
    "*.pt",
    "*.pth",
    "*.ckpt",
    "*.pkl",
    "*.h5",
    "*.msgpack",
    "*.ot",
    "*.onnx",
    "*.py",
    "onnx/*",
    "openvino/*",
]


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
    folder, encoder, version = _load(model, revision, device, dtype, quiet)
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
        "weights_digest": _digest(folder),
        "prompt": prompt,
        "dimensions": int(vectors.shape[1]),
        "max_tokens": encoder.max_seq_length,
        "dtype": str(dtype).removeprefix("torch."),
        "sentence_transformers": version,
    }
    return vectors.astype(np.float32), facts


def _load(
    model: str | None, revision: str | None, device: str, dtype: torch.dtype, quiet: bool
) -> tuple[Path, Any, str]:
    """Return the model's folder, the model, and the version of the package that reads it."""
    try:
        import sentence_transformers
        from transformers.utils.logging import disable_progress_bar
    except ImportError as error:
        raise DependencyError(
            "embed.method is sentence_transformer, but the package sentence-transformers is not "
            'installed. Install it: pip install "genrec[text]"; or set embed.method: tfidf.'
        ) from error

    folder = model_folder(model, revision)
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
            f"{folder} cannot be loaded as a sentence-transformers model ({error}); embed.model "
            "must be a folder with config.json, a tokenizer and model.safetensors."
        ) from error
    encoder.eval()
    return folder, encoder, sentence_transformers.__version__


def model_folder(model: str | None, revision: str | None) -> Path:
    """Return the local folder of a model, fetched from the hub where it is an id.

    Raises:
        ConfigError: When no model is named, a hub id has no revision, or weights are not
            safetensors.
        DependencyError: When the hub id is neither reachable nor in the cache.
    """
    if model is None:
        raise ConfigError(
            "embed.method is sentence_transformer, but embed.model is not set; give a model "
            "folder or a hub id with embed.revision."
        )
    folder = Path(model).expanduser()
    if not folder.is_dir():
        folder = _fetch(model, revision)
    executable = [
        path
        for path in sorted(folder.rglob("pytorch_model*.bin"))
        if not list(path.parent.glob("*.safetensors"))
    ]
    if executable:
        raise ConfigError(
            f"{executable[0]} is of a kind that can run code when it is read, so genrec does not "
            "read it; use a model that is saved as safetensors."
        )
    if not list(folder.rglob("*.safetensors")):
        raise ConfigError(
            f"{folder} holds no *.safetensors file; embed.model must be the folder of a "
            "sentence-transformers model or a hub id."
        )
    return folder


def _fetch(model: str, revision: str | None) -> Path:
    from huggingface_hub import snapshot_download

    if revision is None:
        raise ConfigError(
            f"embed.model {model!r} is not a folder here, so it is taken as a hub id, and a hub id "
            "needs embed.revision (the commit of the model), or the vectors could not be made "
            "again."
        )
    try:
        return Path(snapshot_download(model, revision=revision, ignore_patterns=_NOT_FETCHED))
    except (OSError, ValueError) as error:
        raise DependencyError(
            f"the model {model!r} at revision {revision!r} is not in the cache and cannot be "
            f"fetched from the hub ({error}). Without a network: copy the model's folder to this "
            "machine and set embed.model to its path."
        ) from error


def _digest(folder: Path) -> str:
    """Return one sha256 over the names and contents of the model's weights and settings."""
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.suffix in {".safetensors", ".json", ".txt", ".model"} and path.is_file():
            digest.update(f"{path.relative_to(folder).as_posix()} {sha256_of(path)}\n".encode())
    return digest.hexdigest()

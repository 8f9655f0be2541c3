"""Getting the folder of an encoder: a local one, or one fetched from the hub."""

import hashlib
from pathlib import Path

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


def model_folder(
    model: str | None,
    revision: str | None,
    *,
    section: str = "embed",
    method: str = "sentence_transformer",
) -> Path:
    """Return the local folder of a model, fetched from the hub where it is an id.

    Args:
        model: Folder, or hub id.
        revision: Commit of the hub id.
        section: Section of the recipe that names it, for messages.
        method: The method of that section that needs it, for messages.

    Raises:
        ConfigError: When no model is named, a hub id has no revision, or weights are not
            safetensors.
        DependencyError: When the hub id is neither reachable nor in the cache.
    """
    if model is None:
        raise ConfigError(
            f"{section}.method is {method}, but {section}.model is not set; give a model "
            f"folder or a hub id with {section}.revision."
        )
    folder = Path(model).expanduser()
    if not folder.is_dir():
        folder = _fetch(model, revision, section)
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
            f"{folder} holds no *.safetensors file; {section}.model must be the folder of a "
            f"model for {section}.method {method}, or a hub id."
        )
    return folder


def _fetch(model: str, revision: str | None, section: str) -> Path:
    from huggingface_hub import snapshot_download

    if revision is None:
        raise ConfigError(
            f"{section}.model {model!r} is not a folder here, so it is taken as a hub id, and a "
            f"hub id needs {section}.revision (the commit of the model), or the vectors could not "
            "be made again."
        )
    try:
        return Path(snapshot_download(model, revision=revision, ignore_patterns=_NOT_FETCHED))
    except (OSError, ValueError) as error:
        raise DependencyError(
            f"the model {model!r} at revision {revision!r} is not in the cache and cannot be "
            f"fetched from the hub ({error}). Without a network: copy the model's folder to this "
            f"machine and set {section}.model to its path."
        ) from error


def folder_digest(folder: Path) -> str:
    """Return one sha256 over the names and contents of the model's weights and settings."""
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.suffix in {".safetensors", ".json", ".txt", ".model"} and path.is_file():
            digest.update(f"{path.relative_to(folder).as_posix()} {sha256_of(path)}\n".encode())
    return digest.hexdigest()

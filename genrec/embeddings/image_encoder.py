"""Pictures to vectors: an image encoder of transformers, or a sentence-transformers model."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from genrec.embeddings.model_folder import folder_digest, model_folder
from genrec.embeddings.sentence import load_sentence_model
from genrec.embeddings.table import unit_rows
from genrec.errors import ConfigError


@dataclass(frozen=True)
class ImageEncoder:
    """An encoder, ready to be used.

    Attributes:
        encode: Turns pictures into float32[n, d] of length 1.
        facts: Model, revision, digest of its files, pooling, package version.
    """

    encode: Callable[[Sequence[Any]], NDArray[np.float32]]
    facts: dict[str, Any]


def load_image_encoder(
    method: Literal["vision", "sentence_transformer"],
    *,
    model: str | None,
    revision: str | None,
    pooling: Literal["mean", "cls"] = "mean",
    device: str = "cpu",
    dtype: torch.dtype = torch.float32,
    quiet: bool = True,
) -> ImageEncoder:
    """Load an image encoder.

    Args:
        method: ``vision`` or ``sentence_transformer``.
        model: Folder of a model, or its id on the Hugging Face hub.
        revision: Commit of the hub id; not used for a folder.
        pooling: vision: how the states of an encoder that has no image vector of its own become
            one: their mean, or the first.
        device: Where to compute.
        dtype: Number type of the weights.
        quiet: No progress bar.

    Raises:
        ConfigError: When no model is named, a hub id has no revision, or the folder is no model
            that reads images.
        DependencyError: When a package is missing or the hub cannot be reached.
    """
    if method == "vision":
        folder = model_folder(model, revision, section="image", method=method)
        encode, version = _vision(folder, pooling, device, dtype, quiet)
    else:
        folder, encode, version = _sentences(model, revision, device, dtype, quiet)
    facts = {
        "model": model,
        "revision": None if Path(str(model)).is_dir() else revision,
        "weights_digest": folder_digest(folder),
        "pooling": pooling if method == "vision" else None,
        "dtype": str(dtype).removeprefix("torch."),
        "package": version,
    }
    return ImageEncoder(encode, facts)


def _sentences(
    model: str | None, revision: str | None, device: str, dtype: torch.dtype, quiet: bool
) -> tuple[Path, Callable[[Sequence[Any]], NDArray[np.float32]], str]:
    folder, encoder, version = load_sentence_model(
        model, revision, device, dtype, quiet, section="image"
    )

    def encode(pictures: Sequence[Any]) -> NDArray[np.float32]:
        try:
            vectors = encoder.encode(
                list(pictures),
                batch_size=len(pictures),
                convert_to_numpy=True,
                show_progress_bar=False,
            )
        except (TypeError, ValueError) as error:
            raise ConfigError(
                f"{folder} does not read images ({error}); image.model must be a "
                "sentence-transformers model that takes them, such as a CLIP."
            ) from error
        return unit_rows(np.asarray(vectors))

    return folder, encode, f"sentence-transformers {version}"


def _vision(
    folder: Path, pooling: Literal["mean", "cls"], device: str, dtype: torch.dtype, quiet: bool
) -> tuple[Callable[[Sequence[Any]], NDArray[np.float32]], str]:
    import transformers
    from transformers import AutoImageProcessor, AutoModel
    from transformers.utils.logging import disable_progress_bar

    from genrec.embeddings.image_reading import require_pillow

    require_pillow()
    if quiet:
        disable_progress_bar()
    try:
        processor: Any = AutoImageProcessor.from_pretrained(folder, local_files_only=True)
        network: Any = AutoModel.from_pretrained(
            folder, dtype=dtype, local_files_only=True, use_safetensors=True
        )
    except (OSError, ValueError, ImportError) as error:
        raise ConfigError(
            f"{folder} cannot be loaded as an image encoder ({error}); image.model must be a "
            "folder with config.json, preprocessor_config.json and model.safetensors."
        ) from error
    network.to(device).eval()

    @torch.inference_mode()
    def encode(pictures: Sequence[Any]) -> NDArray[np.float32]:
        given = processor(images=list(pictures), return_tensors="pt")
        pixels = given["pixel_values"].to(device, dtype)
        if hasattr(network, "get_image_features"):
            told = network.get_image_features(pixel_values=pixels)
            vectors = getattr(told, "pooler_output", told)
        else:
            vectors = _pooled(network(pixel_values=pixels).last_hidden_state, pooling)
        return unit_rows(vectors.float().cpu().numpy())

    return encode, f"transformers {transformers.__version__}"


def _pooled(states: torch.Tensor, pooling: Literal["mean", "cls"]) -> torch.Tensor:
    """Make one vector of states float[B, patches, d], or of the map float[B, d, h, w] of a CNN."""
    if states.dim() == 4:
        return states.mean(dim=(2, 3))
    return states[:, 0] if pooling == "cls" else states.mean(dim=1)

"""A trained model as a ranker, run by the engine that the recipe names."""

import logging
from pathlib import Path

import torch

from genrec.decoding.engine import Engine, TorchEngine
from genrec.decoding.hybrid_ranker import ranker_of
from genrec.decoding.model_trie import model_trie
from genrec.decoding.ranker import GenerativeRanker
from genrec.decoding.trie import PrefixTrie
from genrec.errors import ConfigError
from genrec.model.code_head import Score
from genrec.model.generation import with_generation
from genrec.model.generative import GenerativeModel
from genrec.model.molar import Molar
from genrec.model.user_ranker import UserRanker
from genrec.runtime import Runtime

logger = logging.getLogger(__name__)


def load_ranker(
    folder: Path,
    runtime: Runtime,
    *,
    generation: Path | None = None,
    beam: int = 50,
    batch_size: int = 64,
    new_item_weight: float = 1.0,
    score: Score | None = None,
    dense_weight: float | None = None,
    prefix_cache_bytes: int = 0,
) -> GenerativeRanker:
    """Load a model folder into an engine.

    Args:
        folder: The model folder.
        runtime: Device, number type and engine.
        generation: Folder of a later generation of the index; None takes the model's own.
        beam: Beam width; widened to k where k is larger.
        batch_size: Histories decoded at once.
        new_item_weight: See ``NewItemShares``.
        score: See ``CodeHead``; None takes what the model was trained for.
        dense_weight: See ``HybridRanker``; None takes what validation chose.
        prefix_cache_bytes: See ``TorchEngine``; vLLM has a cache of its own.

    Raises:
        ArtifactError: When there is no whole model, or the generation belongs to another one.
        ConfigError: When there is no such engine, or the device is not on this machine.
        DependencyError: When the engine is not installed.
        RequestError: When ``dense_weight`` is given for a model without a dense side.
    """
    if runtime.engine not in ("torch", "vllm"):
        raise ConfigError(f"there is no engine {runtime.engine!r}, expected torch or vllm.")
    in_torch = runtime.engine == "torch"
    device = runtime.torch_device() if in_torch else torch.device("meta")
    model = GenerativeModel.load(folder, device=device, dtype=_loading_dtype(runtime))
    if generation is not None:
        model = with_generation(model, generation)
    if prefix_cache_bytes and not in_torch:
        logger.info("vLLM keeps what it read by its own rules: prefix_cache_bytes is idle")
    trie = model_trie(model, folder)
    engine: Engine = (
        TorchEngine(model, score, prefix_cache_bytes=prefix_cache_bytes)
        if in_torch
        else _vllm(folder, model, runtime, score, trie)
    )
    return ranker_of(
        model,
        beam=beam,
        batch_size=batch_size,
        new_item_weight=new_item_weight,
        trie=trie,
        engine=engine,
        dense_weight=dense_weight,
    )


def load_molar(folder: Path, runtime: Runtime) -> tuple[UserRanker, Molar]:
    """Load Molar's user-side model; it runs in torch whatever the recipe's engine is.

    Raises:
        ArtifactError: When there is no whole model.
        ConfigError: When the device is not on this machine.
    """
    model = Molar.load(folder, device=runtime.torch_device(), dtype=_loading_dtype(runtime))
    return UserRanker(model.network), model


def _vllm(
    folder: Path, model: GenerativeModel, runtime: Runtime, score: Score | None, trie: PrefixTrie
) -> Engine:
    # Here, for it is an extra that takes seconds to import.
    from genrec.decoding.vllm_engine import VllmEngine

    return VllmEngine(
        folder,
        model,
        dtype=model.language_model.dtype,
        device=runtime.device,
        score=score,
        trie=trie,
    )


def _loading_dtype(runtime: Runtime) -> torch.dtype | None:
    """Return the number type to load weights in; None keeps the one they were saved in."""
    if runtime.dtype == "auto" and runtime.torch_dtype() == torch.bfloat16:
        return None
    return runtime.torch_dtype()

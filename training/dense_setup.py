"""The dense side of a learner, made from the recipe and the folders of the run."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from genrec import artifacts
from genrec.config_dense import DenseConfig
from genrec.errors import ConfigError
from genrec.model.generative import GenerativeModel
from genrec.training.bridging import read_item_vectors
from genrec.training.dense import DenseLearner, DenseTerm
from genrec.training.post_alignment import PostAlignment
from genrec.training.teacher import Teacher


def dense_term(
    config: DenseConfig,
    model: GenerativeModel,
    inputs: Mapping[str, Path],
    device: torch.device,
    teacher: Teacher | None,
) -> DenseTerm | None:
    """Return what trains a dense side; None where the recipe wants none.

    Args:
        config: What the recipe says of it.
        model: The model that is trained.
        inputs: The folders of the run by name: ``dataset``, and those that the dense side reads.
        device: Where to compute.
        teacher: The collaborative model, where one is read.

    Raises:
        ArtifactError: When a folder is missing, damaged or of another dataset.
        ConfigError: When a teacher is to teach a form that is no stream.
    """
    if not config.weight:
        return None
    if (config.teacher_weight or config.alignment_weight) and model.prompts.form != "stream":
        raise ConfigError(
            f"train.dense.teacher_weight is {config.teacher_weight} and "
            f"train.dense.alignment_weight {config.alignment_weight}, but a teacher works with "
            "streams only; set train.form: stream, or both to 0."
        )
    if config.taught and model.is_encoder_decoder:
        raise ConfigError(
            "train.dense.teacher_weight and alignment_weight teach every item of a history, and an "
            "encoder-decoder names the last one only; set both to 0."
        )
    vectors = None
    if config.vectors:
        folder = inputs[config.vectors]
        artifacts.require_made_from(folder, config.vectors, inputs["dataset"])
        vectors = read_item_vectors(config.vectors, inputs, model.item_counts)
    language_model: Any = model.language_model
    hidden = int(language_model.get_input_embeddings().weight.shape[1])
    learner = DenseLearner(
        hidden,
        model.item_counts,
        vectors,
        config.dimensions,
        directions=config.vector_directions,
    )
    own = sum(parameter.numel() for parameter in learner.parameters())
    for count in ("parameters", "trained_parameters"):
        model.facts[count] += own
    alignment = None
    if config.alignment_weight and teacher is not None:
        alignment = PostAlignment(
            learner.dimensions, teacher.width, temperature=config.alignment_temperature
        ).to(device)
    return DenseTerm(
        learner.to(device),
        config.weight,
        config.teacher_weight,
        alignment,
        config.alignment_weight,
    )

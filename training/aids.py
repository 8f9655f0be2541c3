"""What a training is given beside the events: a teacher, vectors, a dense side."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from genrec import artifacts
from genrec.cf.fit_sasrec import SasRecName
from genrec.cf.load import load as load_baseline
from genrec.cf.sasrec_ranker import SasRecRanker
from genrec.config_train import TrainConfig
from genrec.errors import ConfigError
from genrec.model.code_head import CodeHead
from genrec.model.language_model import item_token_table
from genrec.runtime import Runtime
from genrec.semantic_ids.item_index import ItemIndex
from genrec.semantic_ids.item_vectors import load_item_vectors
from genrec.training.dense import DenseTerm
from genrec.training.dense_setup import dense_term
from genrec.training.distillation import Distillation, InModalityDistillation
from genrec.training.encoder_decoder_objective import EncoderDecoderObjective
from genrec.training.learner import Learner
from genrec.training.objectives import Objective
from genrec.training.teacher import Teacher


@dataclass(frozen=True)
class Aids:
    """What helps the training; None for what a recipe does not want.

    Attributes:
        teacher: A collaborative model.
        distillation: The vectors that the codes were made from.
        dense: What trains a dense side.
    """

    teacher: Teacher | None = None
    distillation: Distillation | None = None
    dense: DenseTerm | None = None


def check_aids(config: TrainConfig) -> None:
    """Refuse what does not go together, before anything is read.

    Raises:
        ConfigError: When a teacher or vectors are wanted for a form that is no stream, or rewards
            for a model with more than codes.
    """
    if config.teacher_weight and config.form == "instruction":
        raise ConfigError(
            f"train.teacher_weight is {config.teacher_weight} and train.form is instruction, but "
            "a teacher works with streams only; set train.form: stream or train.teacher_weight: 0."
        )
    if config.distillation_weight and config.form == "instruction":
        raise ConfigError(
            f"train.distillation_weight is {config.distillation_weight} and train.form is "
            "instruction, but vectors are distilled into streams only; set train.form: stream or "
            "train.distillation_weight: 0."
        )
    beside = config.bridge.used or config.bridge.candidates
    if config.tasks and (config.distillation_weight or config.dense.weight or beside):
        raise ConfigError(
            "train.tasks are given, whose prompts hold words and codes alone and whose loss is on "
            "the tokens of their answers alone; set train.distillation_weight, train.dense.weight "
            "and train.bridge.candidates to 0 and train.bridge.items and user to false, or leave "
            "train.tasks out."
        )
    if config.bridge.items and config.bridge.vectors == "dense" and not config.dense.weight:
        raise ConfigError(
            "train.bridge.vectors is dense, but train.dense.weight is 0, so no such vectors are "
            "learned; set train.dense.weight above 0, or train.bridge.vectors to joint, cf or text."
        )
    if config.bridge.frozen and config.language_model is None:
        raise ConfigError(
            "train.bridge.frozen is true, but train.language_model is null, and a small model from "
            "scratch has nothing to keep; name a model, or set train.bridge.frozen: false."
        )
    keys = ("teacher_weight", "alignment_weight", "cf")
    idle = [f"train.dense.{key}" for key in keys if getattr(config.dense, key)]
    if idle and not config.dense.weight:
        raise ConfigError(
            f"{', '.join(idle)} given, but train.dense.weight is 0, so there is no dense side; set "
            "it above 0, or leave these out."
        )
    if config.bridge.candidates == 1 and config.dense.weight:
        raise ConfigError(
            "train.bridge.candidates is 1, so nothing but the question is learned, and "
            f"train.dense.weight is {config.dense.weight}; set either to another value."
        )
    if config.reinforcement.steps and (config.dense.weight or config.bridge.used):
        raise ConfigError(
            f"train.reinforcement.steps is {config.reinforcement.steps}, but rewards are learned "
            "from codes alone: set it to 0, or train.dense.weight to 0 and train.bridge.items and "
            "user to false."
        )


def read_aids(
    config: TrainConfig, learner: Learner, inputs: Mapping[str, Path], runtime: Runtime
) -> Aids:
    """Make what a recipe wants, from the folders of the run.

    Args:
        config: The section of the recipe.
        learner: The model about to be trained.
        inputs: The folders by name: ``dataset``, ``index``, and those that the recipe reads.
        runtime: Where to compute.

    Raises:
        ArtifactError: When a folder is missing, damaged or of another dataset.
        ConfigError: When the teacher reads fewer items than the model.
    """
    model, device = learner.model, runtime.torch_device()
    teacher = None
    if config.teacher_weight or config.dense.taught:
        artifacts.require_made_from(inputs["cf"], "cf", inputs["dataset"])
        teacher = load_teacher(inputs["cf"], config.teacher, model.index, runtime)
        if teacher.max_history < model.prompts.max_history:
            raise ConfigError(
                f"train.max_history is {model.prompts.max_history}, but the teacher reads "
                f"{teacher.max_history} items; set cf.max_history at least as high, or "
                "train.max_history lower."
            )
    return Aids(
        teacher=teacher,
        distillation=_distillation(config, learner, inputs["index"], device),
        dense=dense_term(config.dense, model, inputs, device, teacher),
    )


def load_teacher(folder: Path, name: SasRecName, index: ItemIndex, runtime: Runtime) -> Teacher:
    """Read a SASRec of a ``cf`` folder as teacher.

    Raises:
        ArtifactError: When the folder is missing or damaged, or does not hold that one.
    """
    device = runtime.torch_device()
    ranker = load_baseline(folder, name, device)
    assert isinstance(ranker, SasRecRanker)
    return Teacher(ranker.network, index, device)


def _distillation(
    config: TrainConfig, learner: Learner, index: Path, device: torch.device
) -> Distillation | None:
    """Make the loss that teaches item vectors, which lie on the device as a whole."""
    if not config.distillation_weight:
        return None
    vectors = load_item_vectors(index, len(learner.model.catalog))
    embeddings: Any = learner.model.language_model.get_input_embeddings()
    projection = InModalityDistillation(
        int(embeddings.weight.shape[1]),
        vectors.shape[1],
        temperature=config.distillation_temperature,
    )
    table = torch.tensor(vectors, device=device)
    return Distillation(projection.to(device), table, config.distillation_weight)


def objective_of(learner: Learner, config: TrainConfig, aids: Aids) -> Objective:
    """Return what the model is trained to do on item histories."""
    model = learner.model
    device = next(model.language_model.parameters()).device
    kind = EncoderDecoderObjective if model.is_encoder_decoder else Objective
    return kind(
        model=model.language_model,
        head=CodeHead(model.language_model, model.vocabulary),
        prompts=model.prompts,
        item_tokens=torch.from_numpy(item_token_table(model.vocabulary, model.index)).to(device),
        pad_token=model.pad_token,
        label_smoothing=config.label_smoothing,
        teacher=aids.teacher,
        teacher_weight=config.teacher_weight,
        distillation=aids.distillation,
        dense=aids.dense,
    )

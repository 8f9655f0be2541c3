"""How much memory a training needs, and what to say when there is not as much."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from torch import nn

from genrec.config_train import TrainConfig
from genrec.errors import ConfigError, is_out_of_memory
from genrec.model.generative import GenerativeModel
from genrec.runtime import Runtime
from genrec.training.tasks.objective import LOGITS_AT_ONCE

# Bytes of one trained weight beside itself: gradient, two moments of AdamW, running average.
_BESIDE_A_WEIGHT = 16
# Logits, their softmax and their gradient, in single precision.
_BYTES_A_LOGIT = 12


@dataclass(frozen=True)
class MemoryEstimate:
    """What a training step holds, in bytes; a rough count.

    Attributes:
        weights: The language model, frozen or not.
        optimiser: Gradients, moments and running average of what is trained.
        activations: What is kept of a batch for its gradients.
        logits: Scores of the codes or words of a batch.
    """

    weights: int
    optimiser: int
    activations: int
    logits: int

    def __str__(self) -> str:
        total = self.weights + self.optimiser + self.activations + self.logits
        return (
            f"about {_size(total)} (weights {_size(self.weights)}, optimizer "
            f"{_size(self.optimiser)}, activations {_size(self.activations)}, logits "
            f"{_size(self.logits)})"
        )


def estimate(
    model: nn.Module,
    *,
    batch_tokens: int,
    width: int,
    logits: int,
    checkpointing: bool,
    value_bytes: int,
) -> MemoryEstimate:
    """Count what training a language model needs.

    A transformer block keeps per token about 9 h + 4 f + 2.5 a s values, h the width of the model,
    f that of its feed-forward layer, a its heads and s the tokens of a sequence: the count of
    Korthikanti et al., "Reducing Activation Recomputation in Large Transformer Models" (2022),
    equation 2, with a gated feed-forward layer. With checkpointing it keeps h, and one block is
    whole.

    Args:
        model: The model with what is trained of it.
        batch_tokens: Tokens in a step.
        width: Tokens in a sequence.
        logits: Scores computed at once.
        checkpointing: Whether blocks are read again for their gradients.
        value_bytes: Bytes of a value in the blocks.
    """
    whole: Any = model.config
    # Of a model that sees, the language side.
    config = whole if whole.is_encoder_decoder else whole.get_text_config()
    hidden, heads = int(config.hidden_size), int(config.num_attention_heads)
    inner = int(getattr(config, "intermediate_size", 0) or getattr(config, "d_ff", 0) or 4 * hidden)
    layers = int(config.num_hidden_layers) * (2 if config.is_encoder_decoder else 1)
    block = round(9 * hidden + 4 * inner + 2.5 * heads * width)
    kept = layers * hidden + block if checkpointing else layers * block
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    return MemoryEstimate(
        weights=sum(p.numel() * p.element_size() for p in model.parameters()),
        optimiser=_BESIDE_A_WEIGHT * trained,
        activations=batch_tokens * kept * value_bytes,
        logits=_BYTES_A_LOGIT * logits,
    )


# What to do while learning from rewards.
REWARDS = (
    "Lower train.reinforcement.histories, then train.reinforcement.group; set "
    "train.gradient_checkpointing: true, or take a smaller train.language_model or train.scratch"
)


@contextmanager
def explained(needs: str, remedy: str) -> Iterator[None]:
    """Turn running out of memory into an error that says what to lower.

    Args:
        needs: What the work inside needs, in words.
        remedy: What to lower and to set, without a full stop.

    Raises:
        ConfigError: When there is not enough memory on a GPU or in the machine.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        raise ConfigError(
            f"there is not enough memory to train: {needs}. {remedy}, or use a machine with more "
            "memory. A checkpoint that was written stays, but counts for an unchanged recipe only."
        ) from error


def _size(count: int) -> str:
    return f"{count / 2**30:.1f} GiB" if count >= 2**30 else f"{count / 2**20:.0f} MiB"


def of_rewards(model: GenerativeModel, config: TrainConfig, runtime: Runtime) -> MemoryEstimate:
    """Count the memory of a step that learns from rewards: all items of all groups at once."""
    levels, settings = model.index.levels, config.reinforcement
    width = model.prompts.longest(levels)
    items = settings.histories * settings.group
    embeddings: Any = model.language_model.get_output_embeddings()
    exact = model.facts["score"] == "exact"
    choices = int(embeddings.weight.shape[0]) if exact else max(model.index.level_sizes)
    return estimate(
        model.language_model,
        batch_tokens=items * width,
        width=width,
        logits=items * levels * choices,
        checkpointing=config.gradient_checkpointing,
        value_bytes=runtime.torch_dtype().itemsize,
    )


def of_step(model: GenerativeModel, config: TrainConfig, runtime: Runtime) -> MemoryEstimate:
    """Count the memory of a step from the recipe."""
    levels, width = model.index.levels, model.prompts.longest(model.index.levels)
    logits = config.batch_tokens * max(model.index.level_sizes)
    if config.tasks:
        logits = LOGITS_AT_ONCE
    elif config.form == "instruction":
        embeddings: Any = model.language_model.get_output_embeddings()
        rows = max(1, config.batch_tokens // (levels * model.prompts.max_history))
        logits = rows * levels * int(embeddings.weight.shape[0])
    if config.dense.weight:
        # A score of every item before every item that is named, and the teacher's beside it.
        places = config.batch_tokens // levels
        logits += places * len(model.catalog) * (2 if config.dense.teacher_weight else 1)
    return estimate(
        model.language_model,
        batch_tokens=config.batch_tokens,
        width=width,
        logits=logits,
        checkpointing=config.gradient_checkpointing,
        value_bytes=runtime.torch_dtype().itemsize,
    )

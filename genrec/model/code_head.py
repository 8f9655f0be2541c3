"""From hidden states to the codes of one level, without the full-vocabulary head."""

from collections.abc import Callable, Mapping
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from genrec.errors import ArtifactError, ConfigError
from genrec.model.output_layer import output_bias, output_scale
from genrec.semantic_ids.vocabulary import SidVocabulary

# What probabilities add up to one over: the whole vocabulary of the model, as everywhere else, or
# the codes of the level. Both are the same for a model trained on the codes of a level alone. The
# legal codes alone are no choice: a prefix with one way on would get it for nothing.
Score = Literal["exact", "level"]


def trained_score(facts: Mapping[str, Any]) -> Score:
    """Return the score a model was trained for, as its folder names it; ``level`` by default.

    Raises:
        ArtifactError: When it names one that there is not.
    """
    score = facts.get("score", "level")
    if score not in get_args(Score):
        raise ArtifactError(
            f"the model names the score {score!r}, expected one of {', '.join(get_args(Score))}; "
            "it is of a later version, or damaged. Train it again."
        )
    typed: Score = score
    return typed


class CodeHead:
    """The rows of a language model's output layer that belong to item codes.

    Reads the model's own weights each time it is used, so it is right while they are trained.
    Works for plain models, and for adapters whose new token rows are trained by PEFT, with tied
    or separate input and output embeddings.

    Args:
        model: A language model whose output layer covers the codes.
        vocabulary: Which token is which code.

    Raises:
        ConfigError: When the model scales its logits in a way that is not handled.
    """

    def __init__(self, model: nn.Module, vocabulary: SidVocabulary) -> None:
        config: Any = model.config
        for key in ("logits_scaling", "logit_scale"):
            if getattr(config, key, None) not in (None, 1, 1.0):
                raise ConfigError(
                    f"the language model scales its logits ({key}={getattr(config, key)}), which "
                    "code heads do not support; choose another language model."
                )
        self.softcap: float | None = getattr(config, "final_logit_softcapping", None)
        self.scale = output_scale(model)
        self.model: Any = model
        self.vocabulary = vocabulary

    def rows(self, level: int) -> Tensor:
        """Return the output weights of a level's codes, float[codes, hidden]."""
        tokens = self.vocabulary.level_range(level)
        layer = self.model.get_output_embeddings()
        adapter = getattr(layer, "token_adapter", None)
        if adapter is None:
            weight: Tensor = layer.weight
            return weight[tokens.start : tokens.stop]
        # PEFT keeps the trained rows, in token order, apart from the frozen matrix.
        trained: Tensor = adapter.trainable_tokens_delta[adapter.active_adapters[0]]
        first = tokens.start - self.vocabulary.first_token
        return trained[first : first + len(tokens)]

    def logits(self, hidden: Tensor, level: int) -> Tensor:
        """Score the codes of a level.

        Args:
            hidden: float[..., hidden], last hidden states.
            level: Level of the code that comes next.

        Returns:
            float32[..., codes of the level].
        """
        return self._logits(self.read(hidden), level)

    def read(self, hidden: Tensor) -> Tensor:
        """Return last hidden states as the output layer reads them, float[..., hidden]."""
        return hidden if self.scale == 1 else hidden * self.scale

    def _logits(self, read: Tensor, level: int) -> Tensor:
        rows, bias = self.rows(level), output_bias(self.model)
        tokens = self.vocabulary.level_range(level)
        own = None if bias is None else bias[tokens.start : tokens.stop].to(read.dtype)
        logits = nn.functional.linear(read, rows.to(read.dtype), own).float()
        if self.softcap:
            logits = self.softcap * torch.tanh(logits / self.softcap)
        return logits

    def log_probabilities(
        self, hidden: Tensor, level: int, normaliser: Callable[[Tensor], Tensor] | None = None
    ) -> Tensor:
        """Return log-probabilities of a level's codes, float32[..., codes of the level].

        Args:
            hidden: float[..., hidden], last hidden states.
            level: Level of the code that comes next.
            normaliser: Gives float32[..., 1], what is taken off the logits, for hidden states as
                the output layer reads them; None makes the codes of the level add up to one.
        """
        read = self.read(hidden)
        logits = self._logits(read, level)
        if normaliser is None:
            return torch.log_softmax(logits, dim=-1)
        return logits - normaliser(read)

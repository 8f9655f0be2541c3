"""The trainer that learns from groups of items a model named, and what each was worth."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import TrainingArguments

from genrec.config_reinforcement import ReinforcementConfig
from genrec.decoding.ranker import GenerativeRanker
from genrec.decoding.trie import PrefixTrie
from genrec.errors import ConfigError
from genrec.model.generative import GenerativeModel
from genrec.training.averaging import WeightCopy
from genrec.training.batches import IGNORED
from genrec.training.groups import Groups, draw_groups
from genrec.training.grpo import grpo_loss
from genrec.training.objectives import Objective
from genrec.training.policy import Policy
from genrec.training.rewards import group_advantages, group_rewards
from genrec.training.target_plan import TargetPlan
from genrec.training.trained_module import TrainedModule
from genrec.training.trainer import CodeTrainer

logger = logging.getLogger(__name__)


@dataclass
class RewardedBatch:
    """Groups that were drawn for a batch, and all that does not change while it is learned from.

    Attributes:
        histories: Catalogue rows, oldest first.
        groups: The items.
        advantages: float32[B, G].
        drawn: bool[B, G, L], true for codes that the model chose.
        reference: float32[B, G, L], log-probabilities of the model as it was trained on events.
        old: Those of the model that named the items; None before the first step on them.
    """

    histories: list[NDArray[np.int32]]
    groups: Groups
    advantages: Tensor
    drawn: Tensor
    reference: Tensor
    old: Tensor | None = None


class ReinforcementTrainer(CodeTrainer):
    """Group relative policy optimisation of a model that names items.

    The model is in evaluation mode throughout: what is learned from is what is searched with.

    Args:
        trained: The model whose trainable parameters are updated and saved.
        args: Trainer settings; checkpoints are made between batches only.
        plan: Histories and their next items.
        objective: Gives the code head.
        validation: As in ``CodeTrainer``.
        model: The model as it is searched, sharing the trained weights.
        reference: The weights as they were trained on events.
        settings: How groups are drawn and learned from.
    """

    def __init__(
        self,
        trained: nn.Module,
        args: TrainingArguments,
        plan: TargetPlan,
        objective: Objective,
        validation: Callable[[], dict[str, float]],
        *,
        model: GenerativeModel,
        reference: WeightCopy,
        settings: ReinforcementConfig,
    ) -> None:
        module = TrainedModule(trained, objective)
        # Without decay the average is the last step's weights.
        super().__init__(module, args, plan, validation, 0.0, None, [])
        self._searched = model
        self._reference = reference
        self._settings = settings
        self._policy = Policy(model, objective.head)
        self._trie = PrefixTrie.from_index(model.index, model.item_counts)
        self._batch: RewardedBatch | None = None
        self._figures: dict[str, float] = {}

    def _prepare_inputs(self, inputs: dict[str, Any]) -> dict[str, Any]:
        """Let the model name items for a batch it has not seen; the trainer calls it every step.

        Reference weights are in place while no number type is chosen for the step yet, so that no
        converted copy of them is kept.
        """
        prepared = dict(super()._prepare_inputs(inputs))
        if self._batch is None or self.state.global_step % self._settings.inner_steps == 0:
            self._batch = self._rewarded(prepared["items"])
        return prepared

    @torch.no_grad()
    def _rewarded(self, items: Tensor) -> RewardedBatch:
        """Draw groups for histories int64[B, width] and give them rewards."""
        settings, device = self._settings, items.device
        rows = [row[row != IGNORED].astype(np.int32) for row in items.cpu().numpy()]
        histories = [row[:-1] for row in rows]
        ranker = GenerativeRanker(
            self._searched, beam=settings.group, new_item_weight=0.0, trie=self._trie
        )
        groups = draw_groups(
            ranker,
            histories,
            np.asarray([row[-1] for row in rows], dtype=np.int64),
            settings.group,
            hint_codes=settings.hint_codes,
            exclude_seen=settings.exclude_seen,
        )
        hits, real, hints = (
            torch.from_numpy(part).to(device) for part in (groups.hits, groups.real, groups.hints)
        )
        advantages = group_advantages(group_rewards(hits, real), real)
        self._note(groups, advantages)
        levels = torch.arange(self._searched.index.levels, device=device)
        drawn = real.unsqueeze(-1) & (levels >= hints[:, None, None])
        self._reference.swap()
        with self.accelerator.autocast():
            reference = self._policy.log_probabilities(histories, groups.items)
        self._reference.swap()
        return RewardedBatch(histories, groups, advantages, drawn, reference)

    def _note(self, groups: Groups, advantages: Tensor) -> None:
        """Keep the figures of a batch for the log; stop where batches have had nothing to teach."""
        hit = groups.hits.any(1)
        gains = groups.hits / np.log2(np.arange(groups.hits.shape[1]) + 2)
        self._figures = {
            "group_ndcg": float(gains.max(1).mean()),
            "groups_with_hit": float(hit.mean()),
            "groups_with_hint": float((hit & (groups.hints > 0)).mean()),
            "groups_that_teach": float((advantages != 0).any(1).float().mean()),
        }
        earlier = [entry for entry in self.state.log_history if "groups_that_teach" in entry]
        # A short training has no patience for more batches than it has.
        patience = min(self._settings.patience, self._settings.steps)
        last = [*earlier, self._figures][-patience:]
        if len(last) == patience and not any(figures["groups_that_teach"] for figures in last):
            hits = float(np.mean([figures["groups_with_hit"] for figures in last]))
            raise ConfigError(
                f"{len(last)} batches of {self._settings.histories} histories in a row gave "
                f"rewards that are alike within every group ({hits:.1%} of the groups hold the "
                "true item), so there is nothing to learn. "
                "Mostly the model does not find the true item yet: train longer on events, set "
                "train.reinforcement.hint_codes: 1, or raise train.reinforcement.group "
                f"({self._settings.group}). With train.reinforcement.steps: 0 the same command "
                "writes the model as it was trained on events, without training it again."
            )

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Tensor],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Tensor:
        """Return the loss of the groups that were drawn for the batch."""
        batch = self._batch
        assert batch is not None  # drawn by ``_prepare_inputs``
        model.eval()
        with self.accelerator.autocast():
            new = self._policy.log_probabilities(batch.histories, batch.groups.items)
        if batch.old is None:
            batch.old = new.detach()
        result = grpo_loss(
            new,
            batch.old,
            batch.reference,
            batch.advantages,
            batch.drawn,
            clip=self._settings.clip,
            kl_weight=self._settings.kl_weight,
        )
        self._figures.update(kl=result.kl, clipped=result.clipped)
        return result.loss

    def _rates(self) -> str:
        """Return the key of the recipe that holds the step size, and what it is now."""
        return f"train.reinforcement.learning_rate (now {self.args.learning_rate:g})"

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add the figures of the batch to training lines."""
        super().log({**logs, **self._figures} if "loss" in logs else logs, start_time)

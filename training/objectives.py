"""What the language model is trained to do, as a loss over one batch of item histories."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from genrec.model.code_head import CodeHead
from genrec.model.output_layer import full_logits
from genrec.model.prompts import Prompts
from genrec.training.batches import IGNORED
from genrec.training.dense import DenseTerm
from genrec.training.distillation import Distillation
from genrec.training.teacher import Teacher


@dataclass(frozen=True)
class Objective:
    """Computes the loss of a batch; the same object serves training and validation.

    This one is for causal models.

    Attributes:
        model: The language model (the one inside PEFT's wrapper, if any).
        head: Its code head.
        prompts: How histories are written.
        item_tokens: int64[n_items, L], code tokens of every catalogue row.
        pad_token: Token id that fills short sequences.
        label_smoothing: Share of the target spread over all choices: a level's codes, in
            instructions all words.
        teacher: Gives soft targets, for streams.
        teacher_weight: Share of the loss that comes from them.
        distillation: Teaches states after an item its vector, for streams.
        dense: Trains a dense side.
    """

    model: nn.Module
    head: CodeHead
    prompts: Prompts
    item_tokens: Tensor
    pad_token: int
    label_smoothing: float = 0.0
    teacher: Teacher | None = None
    teacher_weight: float = 0.0
    distillation: Distillation | None = None
    dense: DenseTerm | None = None

    @property
    def beside(self) -> dict[str, nn.Module]:
        """What is trained beside the language model, by name."""
        parts: dict[str, nn.Module] = {}
        if self.distillation is not None:
            parts["distillation"] = self.distillation.projection
        return parts if self.dense is None else {**parts, **self.dense.beside}

    def batch_losses(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the terms of the loss of one batch of a plan by name, weighted."""
        return self.losses(batch["items"])

    def losses(self, items: Tensor) -> dict[str, Tensor]:
        """Return the terms of the loss of a batch by name, weighted: ``codes`` and more.

        Args:
            items: int64[B, width], catalogue rows, right-padded with -100.
        """
        if self.prompts.form == "stream":
            return self._stream_losses(items)
        return self._instruction_losses(items)

    def codes(self, items: Tensor) -> Tensor:
        """Return code numbers int64[B, width, L], -100 where there is no item."""
        vocabulary = self.head.vocabulary
        tokens = self.item_tokens[items.clamp(min=0)]
        starts = [vocabulary.level_range(level).start for level in range(tokens.shape[-1])]
        codes = tokens - torch.tensor(starts, device=tokens.device)
        return codes.masked_fill((items == IGNORED).unsqueeze(-1), IGNORED)

    def stream_hidden(self, items: Tensor) -> Tensor:
        """Read histories as streams of codes.

        Padding stands on the right, where a causal model cannot see it, so no mask is needed.

        Args:
            items: int64[B, width], right-padded with -100.

        Returns:
            float[B, width, L, hidden]; entry ``[b, i, l]`` is the state that predicts code l of
            item i, having read all items before it and its codes before l.
        """
        hidden = self._read_stream(items, -1)
        return hidden.view(*items.shape, self.item_tokens.shape[1], -1)

    def _read_stream(self, items: Tensor, stop: int | None) -> Tensor:
        """Return the states after the start token and the codes before ``stop``, in order."""
        tokens = self.prompts.stream_tokens(items, self.item_tokens)
        if stop is None:
            # What comes after the very last code is read without its soft token.
            last = self.item_tokens[items[:, -1:].clamp(min=0)][:, :, -1]
            tokens = torch.cat([tokens, last], dim=1)
        decoder: Any = self.model.base_model
        hidden: Tensor = decoder(input_ids=tokens, use_cache=False).last_hidden_state
        return hidden

    def _stream_losses(self, items: Tensor) -> dict[str, Tensor]:
        """Cross-entropy of every code of every item, each over its own level's codes.

        With a teacher, part of it is against the teacher's distribution over the codes. With
        distillation, the state after every item is taught its vector.
        """
        real = items != IGNORED
        soft = self.teacher.targets(items) if self.teacher and self.teacher_weight else None
        # The state after the very last code predicts nothing; only distillation reads it.
        hidden = self._read_stream(items, None if self.distillation else -1)
        levels = self.item_tokens.shape[1]
        predicting = hidden[:, : items.shape[1] * levels].reshape(*items.shape, levels, -1)
        states = predicting[real]
        losses = {"codes": self.code_loss(states, self.codes(items)[real], soft)}
        if self.dense is not None:
            losses |= self.dense.losses(states[:, 0], items[real], self.teacher, items)
        if self.distillation is not None:
            losses["distillation"] = self.distillation.loss(hidden[:, levels::levels], items)
        return losses

    def code_loss(self, states: Tensor, codes: Tensor, soft: list[Tensor] | None) -> Tensor:
        """Return the mean cross-entropy of a level, summed over the levels.

        Args:
            states: float[P, L, hidden], what predicts each code.
            codes: int64[P, L], the true ones.
            soft: For each level float32[P, codes of the level], a teacher's distribution.
        """
        losses = []
        for level in range(codes.shape[-1]):
            logits = self.head.logits(states[:, level], level)
            loss = nn.functional.cross_entropy(
                logits, codes[:, level], label_smoothing=self.label_smoothing
            )
            if soft is not None:
                taught = nn.functional.cross_entropy(logits, soft[level])
                loss = torch.lerp(loss, taught, self.teacher_weight)
            losses.append(loss)
        return torch.stack(losses).sum()

    def _instruction_losses(self, items: Tensor) -> dict[str, Tensor]:
        """Cross-entropy of the last item's codes after the prompt, over the full vocabulary."""
        hidden, answers = self.instruction_hidden(items)
        logits = full_logits(self.model, hidden)
        loss = nn.functional.cross_entropy(
            logits.flatten(0, 1),
            self.item_tokens[answers].flatten(),
            label_smoothing=self.label_smoothing,
        )
        losses = {"codes": loss * self.item_tokens.shape[1]}
        if self.dense is not None:
            losses |= self.dense.losses(hidden[:, 0], answers)
        return losses

    def instruction_hidden(self, items: Tensor) -> tuple[Tensor, Tensor]:
        """Read prompts with all items but the last, then the codes of the last.

        Args:
            items: int64[B, width], right-padded with -100; rows without any item are left out.

        Returns:
            float[R, L, hidden], the states that predict each code of the last item, and the last
            item of each row, int64[R].
        """
        lengths = (items != IGNORED).sum(1)
        rows = [row[:length] for row, length in zip(items, lengths.tolist(), strict=True) if length]
        answers = torch.stack([row[-1] for row in rows])
        table = self.item_tokens.cpu().numpy()
        prompts = self.prompts.encode([row[:-1].cpu().numpy() for row in rows], table)
        levels = self.item_tokens.shape[1]
        width = self.prompt_width(items.shape[1]) + levels - 1
        tokens = torch.full((len(rows), width), self.pad_token)
        for place, prompt in enumerate(prompts):
            tokens[place, : len(prompt)] = torch.from_numpy(prompt)
        ends = torch.tensor([len(prompt) for prompt in prompts])
        places = ends.unsqueeze(1) + torch.arange(levels - 1)
        tokens.scatter_(1, places, self.item_tokens[answers][:, :-1].cpu())
        decoder: Any = self.model.base_model
        hidden = decoder(input_ids=tokens.to(items.device), use_cache=False).last_hidden_state
        where = (ends.unsqueeze(1) - 1 + torch.arange(levels)).to(items.device)
        picked = torch.gather(hidden, 1, where.unsqueeze(-1).expand(-1, -1, hidden.shape[-1]))
        return picked, answers

    def prompt_width(self, width: int) -> int:
        """Return the tokens of a prompt with width - 1 items: one shape for a bucket."""
        history = min(max(width - 1, 0), self.prompts.max_history)
        return self.prompts.width(history, self.item_tokens.shape[1])

    def last_states(self, items: Tensor) -> tuple[Tensor, Tensor]:
        """Return what predicts each code of each row's last item, and these items.

        Args:
            items: int64[B, width], right-padded with -100; every row holds an item.

        Returns:
            float[B, L, hidden] and int64[B].
        """
        if self.prompts.form == "instruction":
            return self.instruction_hidden(items)
        rows, last = torch.arange(len(items)), (items != IGNORED).sum(1) - 1
        return self.stream_hidden(items)[rows, last], items[rows, last]

    @torch.inference_mode()
    def last_item_scores(self, items: Tensor) -> tuple[Tensor, Tensor]:
        """Score the true codes of each row's last item.

        Args:
            items: int64[B, width], right-padded with -100; every row holds an item.

        Returns:
            Loss of each code float[B, L], and bool[B, L], true where the code was the best of its
            level given the true codes before it.
        """
        states, answers = self.last_states(items)
        codes = self.codes(answers.unsqueeze(1))[:, 0]
        losses, hits = [], []
        for level in range(codes.shape[1]):
            scores = self.head.log_probabilities(states[:, level], level)
            losses.append(-scores.gather(1, codes[:, level : level + 1])[:, 0])
            hits.append(scores.argmax(1) == codes[:, level])
        return torch.stack(losses, 1), torch.stack(hits, 1)

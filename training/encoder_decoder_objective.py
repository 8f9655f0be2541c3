"""What an encoder-decoder is trained to do: to name the last item of a history from the others."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from genrec.model.decoder_start import decoder_start_token
from genrec.model.prompts import pad_right
from genrec.training.batches import IGNORED
from genrec.training.objectives import Objective


@dataclass(frozen=True)
class EncoderDecoderObjective(Objective):
    """Cross-entropy of the last item's codes, each over its own level's codes.

    An encoder sees the whole history at once, so a sequence has one target only, not one an item:
    other targets come from histories cut at random (Rajput et al., "Recommender Systems with
    Generative Retrieval", 2023).
    """

    def losses(self, items: Tensor) -> dict[str, Tensor]:
        """Return the terms of the loss of a batch; see ``Objective``.

        Distillation reads the decoder's state after the last code of the answer.
        """
        lengths = (items != IGNORED).sum(1)
        real = items[lengths > 0]
        hidden, answers = self._decode(real, None if self.distillation else -1)
        levels = self.item_tokens.shape[1]
        soft = None
        if self.teacher is not None and self.teacher_weight:
            # Targets come for all items, row after row.
            ends = lengths[lengths > 0].cumsum(0) - 1
            soft = [targets[ends] for targets in self.teacher.targets(real)]
        codes = self.codes(answers.unsqueeze(1))[:, 0]
        losses = {"codes": self.code_loss(hidden[:, :levels], codes, soft)}
        if self.distillation is not None:
            losses["distillation"] = self.distillation.loss(hidden[:, levels], answers)
        if self.dense is not None:
            losses |= self.dense.losses(hidden[:, 0], answers)
        return losses

    def last_states(self, items: Tensor) -> tuple[Tensor, Tensor]:
        """Read histories without their last item, then decode it; see ``Objective``."""
        return self._decode(items, -1)

    def _decode(self, items: Tensor, stop: int | None) -> tuple[Tensor, Tensor]:
        """Return the decoder's states after the start token and the answer's codes before ``stop``.

        Also the answers, int64[B].
        """
        lengths = (items != IGNORED).sum(1).tolist()
        rows = [row[:length] for row, length in zip(items.cpu().numpy(), lengths, strict=True)]
        answers = torch.tensor([int(row[-1]) for row in rows], device=items.device)
        prompts = self.prompts.encode([row[:-1] for row in rows], self.item_tokens.cpu().numpy())
        read = pad_right(prompts, self.pad_token, self.prompt_width(items.shape[1]))
        tokens, real = (torch.from_numpy(part).to(items.device) for part in read)
        codes = self.item_tokens[answers]
        model: Any = self.model
        start = torch.full_like(codes[:, :1], decoder_start_token(model))
        encoded = model.get_encoder()(input_ids=tokens, attention_mask=real.long())
        hidden: Tensor = model.get_decoder()(
            input_ids=torch.cat([start, codes[:, :stop]], dim=1),
            encoder_hidden_states=encoded.last_hidden_state,
            encoder_attention_mask=real.long(),
            use_cache=False,
        ).last_hidden_state
        return hidden, answers

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

    def loss(self, items: Tensor) -> Tensor:
        """Return the loss of a batch.

        Args:
            items: int64[B, width], catalogue rows, right-padded with -100.
        """
        lengths = (items != IGNORED).sum(1)
        real = items[lengths > 0]
        states, answers = self.last_states(real)
        soft = None
        if self.teacher is not None:
            # Targets come for all items, row after row.
            ends = lengths[lengths > 0].cumsum(0) - 1
            soft = [targets[ends] for targets in self.teacher.targets(real)]
        return self.code_loss(states, self.codes(answers.unsqueeze(1))[:, 0], soft)

    def last_states(self, items: Tensor) -> tuple[Tensor, Tensor]:
        """Read histories without their last item, then decode it; see ``Objective``."""
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
            input_ids=torch.cat([start, codes[:, :-1]], dim=1),
            encoder_hidden_states=encoded.last_hidden_state,
            encoder_attention_mask=real.long(),
            use_cache=False,
        ).last_hidden_state
        return hidden, answers

"""Joint vectors of items: stage 1 of A-LLMRec.

Kim et al., "Large Language Models meet Collaborative Filtering: An Efficient All-round LLM-based
Recommender System", KDD 2024. Two autoencoders, one for an item's vector in a collaborative model
and one for that of its text, whose codes are made to match. The item code is then a vector that
knows what people do and what a thing is; where nobody did anything yet, the text code stands in.

Shapes: B users in a batch, n items, d and t dimensions of their cf and text vectors, w of codes.
"""

from dataclasses import asdict, dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional


@dataclass(frozen=True)
class JointWeights:
    """Weights of the losses; 0 leaves one out.

    The paper has 1 for match and recommendation, 0.5 for item and 0.5 or 0.2 for text
    reconstruction.

    Attributes:
        match: Codes of both sides of an item shall be equal.
        item_reconstruction: The cf vector shall come back from its code.
        text_reconstruction: The text vector shall come back from its code.
        recommendation: The decoded cf vector shall rank like the cf vector.
    """

    match: float = 1.0
    item_reconstruction: float = 0.5
    text_reconstruction: float = 0.2
    recommendation: float = 1.0


class JointNetwork(nn.Module):
    """Both autoencoders: one layer each way, codes between 0 and 1.

    Vectors are divided by the root mean square of their table on the way in and multiplied by it
    on the way out, so that the weights of losses mean the same for every collaborative model.

    Args:
        items: d.
        texts: t.
        dimensions: w.
        item_scale: Root mean square of the cf vectors.
        text_scale: That of the text vectors.
    """

    item_scale: Tensor
    text_scale: Tensor

    def __init__(
        self, items: int, texts: int, dimensions: int, item_scale: float, text_scale: float
    ) -> None:
        super().__init__()
        self.item_encoder = nn.Linear(items, dimensions)
        self.item_decoder = nn.Linear(dimensions, items)
        self.text_encoder = nn.Linear(texts, dimensions)
        self.text_decoder = nn.Linear(dimensions, texts)
        self.register_buffer("item_scale", torch.tensor(item_scale))
        self.register_buffer("text_scale", torch.tensor(text_scale))

    def item_codes(self, vectors: Tensor) -> Tensor:
        """Return codes float32[m, w] of cf vectors float32[m, d]."""
        return torch.sigmoid(self.item_encoder(vectors / self.item_scale))

    def text_codes(self, vectors: Tensor) -> Tensor:
        """Return codes float32[m, w] of text vectors float32[m, t]."""
        return torch.sigmoid(self.text_encoder(vectors / self.text_scale))


@dataclass(frozen=True)
class JointBatch:
    """Users with the item each chose and one that was drawn for them.

    Attributes:
        users: float32[B, d], the cf model's state before the chosen item.
        items: float32[2 B, d], cf vectors of the chosen items, then of the drawn ones.
        texts: float32[2 B, t], text vectors of the same items.
        has_text: bool[2 B], false where an item has no text to learn from.
    """

    users: Tensor
    items: Tensor
    texts: Tensor
    has_text: Tensor


def joint_losses(network: JointNetwork, batch: JointBatch) -> dict[str, Tensor]:
    """Return the losses of a batch by name, not weighted.

    ``match`` is the mean squared difference of the two codes, over items with a text, and the
    reconstructions that of vectors divided by their table's root mean square. ``recommendation`` is
    ``-log s(x.p) - log(1 - s(x.n))`` for a user's state x, the decoded chosen item p, the decoded
    drawn item n and the logistic function s (equations 2 to 5 of the paper).
    """
    item_codes, text_codes = network.item_codes(batch.items), network.text_codes(batch.texts)
    decoded = network.item_decoder(item_codes)
    known = batch.has_text.to(item_codes.dtype)
    count = known.sum().clamp(min=1)
    text_error = network.text_decoder(text_codes) - batch.texts / network.text_scale
    scores = (batch.users.repeat(2, 1) * decoded * network.item_scale).sum(1)
    chosen, drawn = scores.chunk(2)
    return {
        "match": ((item_codes - text_codes).square().mean(1) * known).sum() / count,
        "item_reconstruction": functional.mse_loss(decoded, batch.items / network.item_scale),
        "text_reconstruction": (text_error.square().mean(1) * known).sum() / count,
        "recommendation": functional.softplus(-chosen).mean() + functional.softplus(drawn).mean(),
    }


def total(losses: dict[str, Tensor], weights: JointWeights) -> Tensor:
    """Return the weighted sum of the losses whose weight is not 0."""
    return torch.stack(
        [weight * losses[name] for name, weight in asdict(weights).items() if weight]
    ).sum()


@torch.inference_mode()
def joint_vectors(
    network: JointNetwork,
    items: NDArray[np.float32],
    texts: NDArray[np.float32],
    *,
    known: NDArray[np.bool_],
    has_text: NDArray[np.bool_],
    rows_at_once: int = 8192,
) -> NDArray[np.float32]:
    """Return the joint vector of every item, float32[n, w].

    That of a known item is its item code; that of any other its text code, for its cf vector says
    nothing. An item with neither gets the mean of the known ones.

    Args:
        network: Trained.
        items: float32[n, d].
        texts: float32[n, t].
        known: bool[n], whether there are training events of an item.
        has_text: bool[n].
        rows_at_once: Items encoded at once.
    """
    device = network.item_scale.device
    vectors = np.empty((len(items), network.item_decoder.in_features), dtype=np.float32)
    for wanted, table, encode in (
        (known, items, network.item_codes),
        (~known & has_text, texts, network.text_codes),
    ):
        rows = np.flatnonzero(wanted)
        for part in np.array_split(rows, -(-len(rows) // rows_at_once) or 1):
            read = torch.from_numpy(np.asarray(table[part], dtype=np.float32)).to(device)
            vectors[part] = encode(read).cpu().numpy()
    vectors[~known & ~has_text] = vectors[known].mean(0)
    return vectors

"""The dense side of a generative model: a user vector that scores every item at once.

The state of the language model after a history, from which it goes on to name codes, is also
projected to a user vector; its product with the vector of an item is the item's score. The two
sides know different things: codes carry over between items that are alike, vectors tell apart
items whose codes are nearly the same, and reach items that a beam has left behind. Both together
are what serves best; Yang et al., "Unifying Generative and Dense Retrieval for Sequential
Recommendation" (LIGER, 2024), find the same.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor

from genrec.errors import ArtifactError
from genrec.semantic_ids.neighbours import with_neighbours

FILE_NAME = "dense.safetensors"
_NAMES = ("items", "user_weight", "user_bias")


@dataclass(frozen=True)
class DenseSide:
    """Vectors of items and the map from a state to the vector of a user.

    Attributes:
        items: float32[n, d], one vector a catalogue row.
        user_weight: float32[d, hidden].
        user_bias: float32[d].
        weight: Share of this side in the sum with the generative side, from 0 to 1.
        cf_share: Share of the collaborative model of the bridge, where there is one, in this side.
    """

    items: Tensor
    user_weight: Tensor
    user_bias: Tensor
    weight: float
    cf_share: float = 0.0

    def user_vectors(self, states: Tensor) -> Tensor:
        """Return the vectors of users, float32[B, d].

        Args:
            states: float[B, hidden], the last state after each prompt.
        """
        return torch.nn.functional.linear(states.float(), self.user_weight, self.user_bias)

    def log_probabilities(self, states: Tensor) -> Tensor:
        """Return the log-probability of every item, float32[B, n]; a row's add up to one."""
        return (self.user_vectors(states) @ self.items.T).log_softmax(dim=1)

    def for_items(
        self,
        old_rows: NDArray[np.int64],
        old_codes: NDArray[np.int32],
        codes: NDArray[np.int32],
    ) -> "DenseSide":
        """Return the dense side for a later catalogue.

        An item that came later gets the mean vector of those that share the longest beginning of
        its codes.

        Args:
            old_rows: int64[n], the row in the old catalogue of each item; -1 for none.
            old_codes: int32[m, L], codes of the old catalogue.
            codes: int32[n, L].
        """
        vectors = with_neighbours(self.items.cpu().numpy(), old_rows, old_codes, codes)
        items = torch.from_numpy(vectors).to(self.items.device)
        return replace(self, items=items)

    def save(self, folder: Path) -> None:
        """Write ``dense.safetensors`` into a model folder."""
        arrays = {name: getattr(self, name).cpu().contiguous() for name in _NAMES}
        save_file(arrays, folder / FILE_NAME)

    @classmethod
    def load(
        cls, folder: Path, weight: float, cf_share: float, device: torch.device
    ) -> "DenseSide":
        """Read what ``save`` wrote.

        Args:
            folder: The model folder.
            weight: See ``DenseSide``.
            cf_share: See ``DenseSide``.
            device: Where to compute.

        Raises:
            ArtifactError: When an array is missing.
        """
        arrays = load_file(folder / FILE_NAME, device=str(device))
        missing = [name for name in _NAMES if name not in arrays]
        if missing:
            raise ArtifactError(
                f"{folder / FILE_NAME} lacks {', '.join(missing)}; it is damaged. Train again."
            )
        own = (arrays["items"], arrays["user_weight"], arrays["user_bias"])
        return cls(*own, weight=weight, cf_share=cf_share)

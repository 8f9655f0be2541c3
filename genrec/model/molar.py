"""Molar's user-side model as a folder that serving reads alone."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from transformers import AutoModel

from genrec import artifacts
from genrec.data.catalog import Catalog
from genrec.embeddings.table import EmbeddingTable
from genrec.errors import ArtifactError
from genrec.model.progress_bars import without_progress_bars
from genrec.model.user_model import UserModel

_BODY = "body."


@dataclass(frozen=True)
class Molar:
    """The network, and what is needed to understand its rows.

    Attributes:
        network: Reads item vectors and gives user vectors.
        catalog: Item ids, titles and attributes.
        item_counts: int64[n], training events of each item, for the popularity fallback.
        facts: What the items are read as, the language model, training figures.
    """

    network: UserModel
    catalog: Catalog
    item_counts: NDArray[np.int64]
    facts: dict[str, Any]

    def __post_init__(self) -> None:
        rows = len(self.network.items)
        if rows != len(self.catalog) or rows != len(self.item_counts):
            raise ArtifactError(
                f"the model has vectors of {rows} items and counts of {len(self.item_counts)}, the "
                f"catalogue has {len(self.catalog)} items; run `genrec molar` again."
            )

    def save(self, folder: Path) -> None:
        """Write the language model as a Hugging Face folder, the rest beside it."""
        language_model: Any = self.network.body
        with without_progress_bars():
            language_model.save_pretrained(folder / "language_model")
        rest = {
            name: value.contiguous()
            for name, value in self.network.state_dict().items()
            if not name.startswith(_BODY)
        }
        save_file(rest, folder / "heads.safetensors")
        EmbeddingTable(self.network.items.cpu().numpy(), {"vectors": self.facts["vectors"]}).save(
            folder, name="items"
        )
        self.catalog.save(folder)
        counts = {"item_counts": torch.from_numpy(self.item_counts)}
        save_file(counts, folder / "item_counts.safetensors")
        body = {"settings": self.network.settings, "facts": self.facts}
        (folder / "molar.json").write_text(json.dumps(body, indent=2) + "\n")

    @classmethod
    def load(
        cls, folder: Path, *, device: torch.device, dtype: torch.dtype | None = None
    ) -> "Molar":
        """Read a folder and check it against its manifest.

        Args:
            folder: What stage molar wrote.
            device: Where to put the model.
            dtype: Number type of the language model's weights; None keeps what was saved.

        Raises:
            ArtifactError: When the folder is missing, damaged or of another kind.
        """
        folder = Path(folder)
        artifacts.verify(folder, "molar")
        body = json.loads((folder / "molar.json").read_text(encoding="utf-8"))
        with without_progress_bars():
            language_model: Any = AutoModel.from_pretrained(
                folder / "language_model",
                dtype=dtype or "auto",
                use_safetensors=True,
                local_files_only=True,
            )
        items = np.array(EmbeddingTable.load(folder, "items").vectors)
        network = UserModel(language_model, items, **body["settings"])
        missing, unexpected = network.load_state_dict(
            load_file(folder / "heads.safetensors"), strict=False
        )
        wrong = [name for name in missing if not name.startswith(_BODY)] + unexpected
        if wrong:
            raise ArtifactError(
                f"{folder / 'heads.safetensors'} does not fit this genrec ({', '.join(wrong)}); "
                "run `genrec molar` again."
            )
        return cls(
            network=network.to(device).eval(),
            catalog=Catalog.load(folder),
            item_counts=load_file(folder / "item_counts.safetensors")["item_counts"].numpy(),
            facts=body["facts"],
        )

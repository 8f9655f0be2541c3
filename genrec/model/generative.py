"""All that serving needs, in one folder: model, tokenizer, codes, prompts and item table."""

import json
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file
from transformers import AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from genrec import artifacts
from genrec.data.catalog import Catalog
from genrec.errors import ArtifactError, ConfigError
from genrec.model.auto_model import auto_model
from genrec.model.bridge import Bridge, BridgedPrompts
from genrec.model.dense_side import DenseSide
from genrec.model.progress_bars import without_progress_bars
from genrec.model.prompts import Prompts
from genrec.semantic_ids.item_index import ItemIndex
from genrec.semantic_ids.vocabulary import SidVocabulary


@dataclass(frozen=True)
class GenerativeModel:
    """A language model that names items, and everything needed to understand it.

    Attributes:
        language_model: Causal or encoder-decoder language model with one token a code, adapters
            merged.
        tokenizer: Its tokenizer, which knows the code tokens.
        vocabulary: Codes to tokens and back.
        index: The code tuple of every item.
        prompts: How histories become token ids. With a bridge, its soft tokens are among them and
            attached to the language model.
        catalog: Item ids, titles and attributes.
        item_counts: int64[n_items], training events of each item, for the popularity fallback.
        facts: Base model, form, index digest, training figures.
        dense: Scores all items beside the codes; None for none.
    """

    language_model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    vocabulary: SidVocabulary
    index: ItemIndex
    prompts: Prompts
    catalog: Catalog
    item_counts: NDArray[np.int64]
    facts: dict[str, Any]
    dense: DenseSide | None = None

    def __post_init__(self) -> None:
        if len(self.index) != len(self.catalog) or len(self.item_counts) != len(self.catalog):
            raise ArtifactError(
                f"the index names {len(self.index)} items and the counts {len(self.item_counts)}, "
                f"the catalogue has {len(self.catalog)}; run index and train again."
            )
        if self.vocabulary.level_sizes != self.index.level_sizes:
            raise ArtifactError(
                f"the model has tokens for levels of {self.vocabulary.level_sizes} codes, the "
                f"index has levels of {self.index.level_sizes}; they do not belong together. Run "
                "train again."
            )
        rows = self.language_model.get_output_embeddings().weight.shape[0]
        if self.vocabulary.first_token + sum(self.index.level_sizes) > rows:
            raise ArtifactError(
                f"the model has {rows} token rows, its codes need "
                f"{self.vocabulary.first_token + sum(self.index.level_sizes)}; model and index do "
                "not belong together. Run train again."
            )

    @property
    def pad_token(self) -> int:
        """Token id that fills short prompts; never attended to."""
        pad = self.tokenizer.pad_token_id
        return int(pad if pad is not None else (*self.prompts.before, *self.prompts.after)[0])

    @property
    def is_encoder_decoder(self) -> bool:
        """Whether an encoder reads the history and a decoder names the item."""
        return bool(self.language_model.config.is_encoder_decoder)

    @property
    def bridge(self) -> Bridge | None:
        """The vectors that the model reads beside the codes; None for none."""
        return self.prompts.bridge if isinstance(self.prompts, BridgedPrompts) else None

    def save(self, folder: Path) -> None:
        """Write a Hugging Face model folder with ``genrec.json``, the index and the item table."""
        bridge = self.bridge
        apart = bridge.soft.detached_from(self.language_model) if bridge else nullcontext()
        with without_progress_bars(), apart:
            self.language_model.save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)
        self.index.save(folder)
        self.catalog.save(folder)
        save_file({"item_counts": self.item_counts}, folder / "item_counts.safetensors")
        if self.dense is not None:
            self.dense.save(folder)
        body = {
            "prompts": self.prompts.to_dict(),
            "vocabulary": self.vocabulary.to_dict(),
            "facts": self.facts,
            "bridge": None if bridge is None else bridge.save(folder),
            "dense": None
            if self.dense is None
            else {"weight": self.dense.weight, "cf_share": self.dense.cf_share},
        }
        (folder / "genrec.json").write_text(json.dumps(body, indent=2) + "\n")

    @classmethod
    def load(
        cls, folder: Path, *, device: torch.device, dtype: torch.dtype | None = None
    ) -> "GenerativeModel":
        """Read a model folder and check it against its manifest.

        Args:
            folder: What the train stage wrote.
            device: Where to put the language model; ``meta`` reads its shape and no weights, for
                engines that read them themselves.
            dtype: Number type of its weights; None keeps what was saved.

        Raises:
            ArtifactError: When the folder is missing, damaged or not a model.
            ConfigError: When its weights shall not be read, but the model has a bridge.
        """
        folder = Path(folder)
        artifacts.verify(folder, "model")
        body = _body(folder)
        language_model = _language_model(folder, device, dtype)
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        prompts = Prompts.from_dict(body["prompts"])
        _check_engine(folder, body, device)
        if body.get("bridge"):
            hidden = int(language_model.config.hidden_size)
            bridge = Bridge.load(folder, body["bridge"], hidden, device)
            bridge.soft.attach(language_model)
            prompts = BridgedPrompts.of(prompts, bridge, tokenizer)
        return cls(
            language_model=language_model,
            tokenizer=tokenizer,
            vocabulary=SidVocabulary.from_dict(body["vocabulary"]),
            index=ItemIndex.load(folder),
            prompts=prompts,
            catalog=Catalog.load(folder),
            item_counts=load_file(folder / "item_counts.safetensors")["item_counts"],
            facts=body["facts"],
            dense=_dense(folder, body, device),
        )


def saved_facts(folder: Path) -> dict[str, Any]:
    """Return the facts of a model folder without loading the model."""
    facts: dict[str, Any] = _body(folder)["facts"]
    return facts


def saved_shares(folder: Path) -> dict[str, float] | None:
    """Return the shares of the dense side of a model folder; None where it has no dense side."""
    shares: dict[str, float] | None = _body(folder).get("dense")
    return shares


def _body(folder: Path) -> dict[str, Any]:
    body: dict[str, Any] = json.loads((folder / "genrec.json").read_text(encoding="utf-8"))
    return body


def _check_engine(folder: Path, body: dict[str, Any], device: torch.device) -> None:
    """Refuse to leave the weights to another engine where it cannot do all that the model needs."""
    if device.type != "meta":
        return
    if body.get("bridge"):
        raise ConfigError(
            f"{folder} has a bridge, whose vectors of items and users only the engine "
            "torch can read; set runtime.engine to torch."
        )
    if body.get("dense"):
        raise ConfigError(
            f"{folder} has a dense side, which needs hidden states that only the engine torch "
            "gives; set runtime.engine to torch."
        )


def _dense(folder: Path, body: dict[str, Any], device: torch.device) -> DenseSide | None:
    if not body.get("dense"):
        return None
    shares = body["dense"]
    return DenseSide.load(folder, float(shares["weight"]), float(shares["cf_share"]), device)


def _language_model(
    folder: Path, device: torch.device, dtype: torch.dtype | None
) -> PreTrainedModel:
    with without_progress_bars():
        language_model: Any = auto_model(
            folder, dtype=dtype or "auto", local_files_only=True, empty=device.type == "meta"
        )
    language_model.to(device)
    language_model.eval()
    ready: PreTrainedModel = language_model
    return ready

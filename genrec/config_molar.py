"""The sections of the recipe on images, the item-side model and Molar's user-side model."""

from typing import Literal

from genrec.config_lora import AdapterConfig
from genrec.config_section import Section, setting


class ImageConfig(Section):
    """Stage image: one vector per item from its picture; left out when nothing names pictures."""

    path: str | None = setting(
        None, "Folder or uncompressed tar of image files; null: the items have no pictures."
    )
    file_column: str | None = setting(
        None,
        "Item column with the name of the image file; null takes the file whose name without its "
        "ending is the item id.",
    )
    vectors: str | None = setting(
        None,
        "File of ready-made vectors, read instead of pictures: Parquet with the columns item_id "
        "and vector, safetensors with vectors and their item_ids, or .npy whose row number is the "
        "item id.",
    )
    method: Literal["vision", "sentence_transformer", "none"] = setting(
        "vision",
        "vision: an image encoder of transformers (ViT, CLIP, SigLIP, ...); sentence_transformer: "
        "a model of that package that takes images; none makes no vectors and only keeps pictures.",
    )
    model: str | None = setting(None, "Local folder or hub id of the encoder.")
    revision: str | None = setting(None, "Pinned hub revision.")
    pooling: Literal["mean", "cls"] = setting(
        "mean",
        "vision: how the states of an encoder without an image vector of its own become one.",
    )
    keep: bool = setting(
        False, "Keep the pictures in the run, for a vision-language item_model.language_model."
    )
    batch_size: int = setting(32, "Images encoded at once.", "images", ge=1)
    max_bytes: int = setting(32 * 2**20, "Larger image files are set aside.", "bytes", ge=1)
    max_pixels: int = setting(50_000_000, "Larger images are set aside.", "pixels", ge=1)

    @property
    def named(self) -> bool:
        """Whether the recipe names images or vectors of them."""
        return self.path is not None or self.vectors is not None


class ItemModelConfig(Section):
    """Stage items: a language model reads text and image of an item into one vector."""

    language_model: str = setting(
        "smollm2",
        "smollm2, a local folder or a hub id of a causal or a vision-language model. A causal one "
        "reads the vectors of stage image as soft tokens, a vision-language one the images.",
    )
    revision: str | None = setting(None, "Pinned hub revision.")
    tasks: list[Literal["image_text", "attributes", "next_item"]] = setting(
        ["image_text", "attributes", "next_item"],
        "What it is tuned on: image and title to description, title and attributes to "
        "description, history to next item; none leaves the model as it is.",
    )
    description: str | None = setting(
        None,
        "Item column to be written in the first two tasks; null takes description or overview, "
        "else the item's text.",
    )
    examples: int = setting(10_000, "Most examples of a task.", "examples", ge=1)
    image_tokens: int = setting(4, "Soft tokens that stand for an image.", "tokens", ge=1)
    max_tokens: int = setting(256, "Most tokens of an example; older ones go.", "tokens", ge=16)
    max_history: int = setting(10, "next_item: newest items that are read.", "items", ge=1)
    lora: AdapterConfig = setting(AdapterConfig(), "Adapters.")
    epochs: int = setting(1, "Passes over the examples.", "epochs", ge=1)
    batch_size: int = setting(8, "Examples in a step.", "examples", ge=1)
    learning_rate: float = setting(1e-4, "Peak step size of AdamW.", gt=0)
    warmup: float = setting(0.05, "Share of steps with a rising step size.", "fraction", ge=0, lt=1)


class UserScratchConfig(Section):
    """The small user-side model, when no pretrained one is named."""

    hidden: int = setting(64, "Width.", "dimensions", ge=8)
    layers: int = setting(2, "Transformer blocks.", "blocks", ge=1)
    heads: int = setting(2, "Attention heads.", "heads", ge=1)
    feed_forward: int = setting(256, "Width of the feed-forward layers.", "dimensions", ge=8)
    dropout: float = setting(
        0.3, "Dropout on item vectors, attention and feed-forward.", "probability", ge=0, lt=1
    )


class MolarConfig(Section):
    """Stage molar: a language model reads item vectors into a user vector, aligned with cf."""

    vectors: Literal["text", "image", "multimodal", "item_model"] = setting(
        "text",
        "What items are read as: text, image, multimodal (both side by side) or the item-side "
        "model's vectors.",
    )
    language_model: str | None = setting(
        None,
        "smollm2, a local folder or a hub id of a causal or vision-language model; null trains a "
        "small one from scratch.",
    )
    revision: str | None = setting(None, "Pinned hub revision.")
    lora: AdapterConfig = setting(AdapterConfig(), "Adapters, when a language model is named.")
    scratch: UserScratchConfig = setting(
        UserScratchConfig(), "The small model, when none is named."
    )
    loss: Literal["cross_entropy", "bce"] = setting(
        "cross_entropy",
        "cross_entropy: over all items with a training event; bce: against one drawn item, as in "
        "the paper.",
    )
    alignment_weight: float = setting(
        0.1, "Weight of the post-alignment loss with the cf model's user vector; 0 has none.", ge=0
    )
    alignment_temperature: float = setting(0.07, "Temperature of the post-alignment loss.", gt=0)
    epochs: int = setting(100, "Most passes over the training sequences.", "epochs", ge=1)
    patience: int = setting(
        8, "Stop after so many epochs without a better validation NDCG@10.", "epochs", ge=1
    )
    batch_items: int = setting(2048, "Most items in a batch, padding included.", "items", ge=1)
    learning_rate: float = setting(1e-3, "Step size of AdamW.", gt=0)
    weight_decay: float = setting(0.01, "Weight decay of AdamW.", ge=0)
    max_history: int = setting(50, "Newest items of a user that are read.", "items", ge=1)

    @property
    def vectors_read(self) -> tuple[str, ...]:
        """The folders of item vectors that are read."""
        return ("text", "image") if self.vectors == "multimodal" else (self.vectors,)

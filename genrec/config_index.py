"""The section of the recipe that says how items are named."""

from typing import Annotated, Literal

from pydantic import Field

from genrec.config_section import Section, setting


class RqVaeConfig(Section):
    """RQ-VAE of LC-Rec: an autoencoder with residual codebooks in between."""

    hidden: list[Annotated[int, Field(ge=1)]] = setting(
        [512], "Widths of the encoder's layers; the decoder mirrors them.", "dimensions"
    )
    dimensions: int = setting(32, "Width of the codebooks.", "dimensions", ge=1)
    epochs: int = setting(200, "Passes over the items.", "epochs", ge=1)
    batch_size: int = setting(1024, "Items in a step.", "items", ge=2)
    learning_rate: float = setting(2e-3, "Peak step size of AdamW.", gt=0)
    weight_decay: float = setting(1e-4, "Weight decay of AdamW.", ge=0)
    commitment: float = setting(0.25, "Weight of the commitment loss.", ge=0)
    uniform_mapping: bool = setting(
        True, "Uniform semantic mapping: last-level codes are given out evenly while training."
    )
    epsilon: float = setting(
        0.003, "Uniform mapping: how soft it is, on distances from -1 to 1.", gt=0
    )
    collaborative_weight: float = setting(
        0.0, "Weight of LETTER's loss that aligns codes with cf vectors.", ge=0
    )
    diversity_weight: float = setting(
        0.0, "Weight of LETTER's loss that spreads the codes of a codebook.", ge=0
    )
    minimum_usage: float = setting(
        0.3, "Stop when a level uses a smaller share of its codes.", "fraction", ge=0, le=1
    )


class AlignmentConfig(Section):
    """PRORec: text and cf vectors of an item learned to agree before they are quantized."""

    temperature: float = setting(0.5, "Temperature of the contrastive loss.", gt=0)
    weight: float = setting(0.5, "Weight of the contrastive loss beside next-item loss.", ge=0)
    epochs: int = setting(10, "Passes over the training sequences.", "epochs", ge=1)
    learning_rate: float = setting(1e-3, "Step size of AdamW.", gt=0)
    weight_decay: float = setting(1e-4, "Weight decay of AdamW.", ge=0)


class ClassicConfig(Section):
    """Indices that learn no codebook."""

    clusters: int = setting(10, "collaborative: clusters at each split.", "clusters", ge=2)
    leaf_items: int = setting(100, "collaborative: most items in a leaf.", "items", ge=2)
    categories: str | None = setting(
        None,
        "semantic: item column with the category path; null takes the first of categories, "
        "category, genres and attributes.",
    )
    title_words: int = setting(4, "title: words of a title that are codes.", "words", ge=1, le=7)
    digit_base: int = setting(
        100, "random, sequential: size of the digits that a number is written in.", "codes", ge=2
    )
    prefix: Literal["collaborative", "semantic"] = setting(
        "collaborative", "hybrid: what stands before the item's own code."
    )


class IndexConfig(Section):
    """Stage index: the codes of every item."""

    method: Literal[
        "residual_kmeans",
        "rq_vae",
        "product",
        "random",
        "independent",
        "title",
        "sequential",
        "collaborative",
        "semantic",
        "hybrid",
    ] = setting(
        "residual_kmeans",
        "residual_kmeans, rq_vae and product quantize item vectors; the others are the classic "
        "ways to name items.",
    )
    vectors: Literal["text", "cf", "concatenation", "aligned", "multimodal"] = setting(
        "concatenation",
        "Which vectors to quantize; concatenation joins text and cf, each at length 1; aligned "
        "lets both agree first (PRORec); multimodal joins text and image.",
    )
    levels: int | None = setting(
        None, "Codes per item; null takes 2 up to 26,214 items and 3 beyond.", "codes", ge=1, le=8
    )
    codes_per_level: int | None = setting(
        None,
        "Size of each codebook; null takes 256, less for small catalogues.",
        "codes",
        ge=2,
        le=65536,
    )
    collisions: Literal["nearest_free", "sinkhorn", "extra_digit", "shared"] | None = setting(
        None,
        "Items with equal codes: nearest_free moves all but one to the nearest free last code; "
        "sinkhorn spreads them first (LC-Rec); extra_digit counts them (TIGER); shared leaves "
        "them, and later stages rank them by popularity. null takes nearest_free, or extra_digit "
        "where the method knows no distances.",
    )
    iterations: int = setting(50, "k-means iterations a level.", "iterations", ge=1)
    restarts: int = setting(1, "k-means restarts a level, best kept.", "runs", ge=1)
    balanced: bool = setting(
        False, "residual_kmeans: no code has more than its equal share of items at a level."
    )
    normalise_residuals: bool = setting(
        True, "residual_kmeans: what is left after a level is scaled to length 1."
    )
    rotate: bool = setting(True, "product: learn a rotation first (OPQ).")
    rq_vae: RqVaeConfig = setting(RqVaeConfig(), "Settings of method rq_vae.")
    alignment: AlignmentConfig = setting(AlignmentConfig(), "Settings of vectors aligned.")
    classic: ClassicConfig = setting(ClassicConfig(), "Settings of the classic methods.")

    @property
    def quantizes(self) -> bool:
        """Whether the method turns item vectors into codes."""
        return self.method in ("residual_kmeans", "rq_vae", "product")

    @property
    def vectors_read(self) -> tuple[str, ...]:
        """The folders of vectors that are learned from: of ``cf``, ``image``, ``text``, or none."""
        if not self.quantizes:
            return ()
        single = {"text": {"text"}, "cf": {"cf"}, "multimodal": {"image", "text"}}
        read = single.get(self.vectors, {"cf", "text"})
        if self.method == "rq_vae" and self.rq_vae.collaborative_weight:
            read = read | {"cf"}
        return tuple(sorted(read))

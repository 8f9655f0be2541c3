"""The ways to index items that are compared, each as overrides of a recipe."""

from dataclasses import dataclass

# Shape of the codes of the methods that let one choose it.
PLAIN = "index.normalise_residuals=false"
SHAPE = ("index.levels=3", "index.codes_per_level=256", PLAIN)
RQ_VAE = (*SHAPE, "index.method=rq_vae")
TEXT, CF, ALIGNED = "index.vectors=text", "index.vectors=cf", "index.vectors=aligned"


@dataclass(frozen=True)
class Method:
    """One row of the table.

    Attributes:
        name: Of the row, and of its run folder.
        overrides: What differs from the recipe that all share.
        published: Reads the published codes of the data set instead of making an index.
    """

    name: str
    overrides: tuple[str, ...] = ()
    published: bool = False


METHODS = (
    Method("kmeans-text", (*SHAPE, TEXT)),
    Method("kmeans-cf", (*SHAPE, CF)),
    Method("kmeans-concatenation", SHAPE),
    Method("kmeans-aligned", (*SHAPE, ALIGNED)),
    Method("kmeans-balanced", (*SHAPE, "index.balanced=true")),
    Method("kmeans-normalised", (*SHAPE[:-1], "index.normalise_residuals=true")),
    Method(
        "kmeans-normalised-2-levels",
        ("index.levels=2", "index.codes_per_level=256", "index.normalise_residuals=true"),
    ),
    Method("kmeans-extra-digit", (*SHAPE, "index.collisions=extra_digit")),
    Method("kmeans-shared", (*SHAPE, "index.collisions=shared")),
    Method("kmeans-4-levels", ("index.levels=4", "index.codes_per_level=256", PLAIN)),
    Method("kmeans-2-levels", ("index.levels=2", "index.codes_per_level=512", PLAIN)),
    Method("product", (*SHAPE, "index.method=product")),
    Method("rqvae-text", (*RQ_VAE, TEXT, "index.collisions=sinkhorn")),
    Method("rqvae", (*RQ_VAE, "index.collisions=sinkhorn")),
    Method(
        "rqvae-not-uniform",
        (*RQ_VAE, "index.rq_vae.uniform_mapping=false", "index.collisions=sinkhorn"),
    ),
    Method(
        "rqvae-text-not-uniform",
        (*RQ_VAE, TEXT, "index.rq_vae.uniform_mapping=false", "index.collisions=sinkhorn"),
    ),
    Method(
        "rqvae-letter",
        (
            *RQ_VAE,
            TEXT,
            "index.rq_vae.collaborative_weight=0.01",
            "index.rq_vae.diversity_weight=1e-4",
            "index.collisions=sinkhorn",
        ),
    ),
    Method("rqvae-aligned", (*RQ_VAE, ALIGNED, "index.collisions=sinkhorn")),
    Method("random", ("index.method=random",)),
    Method("independent", ("index.method=independent",)),
    Method("title", ("index.method=title", "index.collisions=extra_digit")),
    Method("sequential", ("index.method=sequential",)),
    Method("collaborative", ("index.method=collaborative",)),
    Method("semantic", ("index.method=semantic",)),
    Method("hybrid", ("index.method=hybrid",)),
    Method("letter-published", published=True),
)


def method(name: str) -> Method:
    """Return the method of this name; ``KeyError`` when there is none."""
    return {each.name: each for each in METHODS}[name]

"""RQ-VAE: codes from an autoencoder with residual codebooks in between."""

import hashlib
import inspect
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from safetensors.numpy import load_file, save_file

from genrec.cf.training_checkpoint import Checkpoint
from genrec.errors import ConfigError, DataError
from genrec.tokenization.collisions import dense_ids
from genrec.tokenization.kmeans import (
    as_float32,
    blocks,
    checked,
    not_empty,
    quantized,
)
from genrec.tokenization.letter_losses import Letter
from genrec.tokenization.quantizer import Quantized, read_settings, write_settings
from genrec.tokenization.rq_vae_codec import Codes, Doubles, RqVaeCodec, squared_distances
from genrec.tokenization.rq_vae_network import RqVaeNetwork, Scaling
from genrec.tokenization.rq_vae_training import Round, Schedule, best_round, train

logger = logging.getLogger(__name__)

# A network that has hardly been trained may lose a little more than all; beyond this it diverged.
LARGEST_ERROR = 2.0

METHOD = "rq_vae"


class RqVae:
    """LC-Rec's item tokenizer: an encoder, residual codebooks and a decoder, learned together.

    RQ-VAE (Lee et al., "Autoregressive Image Generation using Residual Quantization", CVPR 2022)
    with the uniform semantic mapping of LC-Rec (Zheng et al., ICDE 2024) in the last level while
    training, and on request the two losses of LETTER (Wang et al., CIKM 2024). ``encode`` takes
    the nearest code at every level, for items seen or not. See ``rq_vae_network`` for the
    equations and ``rq_vae_training`` for how it is codec.

    Vectors are centred and divided by one number, so that their elements have a mean square of 1
    and keep their proportions; ``encode`` and ``decode`` take and give vectors as they were.
    ``distances`` are between latents. Tables may be memory-mapped and of type float16 or float32;
    they are read by rows and never held whole.

    The same seed and vectors give the same codes, whatever the number of threads: torch runs on
    one. Equal vectors get equal latents, to the bit: trained networks compute in double
    precision, in batches of one size, and the digits beyond float32 are cut off.

    When there are fewer distinct vectors than codes, only so many codes are learned; those above
    stand for nothing and are infinitely far.

    Attributes:
        log: One entry for each round of the training; empty after ``load``.
    """

    def __init__(
        self,
        levels: int,
        codes_per_level: int,
        *,
        hidden: Sequence[int] = (512,),
        dimensions: int = 32,
        epochs: int = 200,
        batch_size: int = 1024,
        learning_rate: float = 2e-3,
        weight_decay: float = 1e-4,
        commitment: float = 0.25,
        uniform_mapping: bool = True,
        epsilon: float = 0.003,
        sinkhorn_iterations: int = 50,
        collaborative_weight: float = 0.0,
        diversity_weight: float = 0.0,
        diversity_clusters: int = 10,
        minimum_usage: float = 0.3,
        seed: int = 42,
        checkpoint: Path | None = None,
        quiet: bool = True,
    ) -> None:
        """Set the shape of the codes and of the network, and how it is codec.

        Args:
            levels: Codes of an item.
            codes_per_level: Size of each codebook.
            hidden: Widths of the encoder's layers; the decoder mirrors them.
            dimensions: Width of the latents and the codebooks.
            epochs: Passes over the items.
            batch_size: Items in a step.
            learning_rate: Peak step size of AdamW.
            weight_decay: Weight decay of AdamW.
            commitment: Weight of the commitment loss.
            uniform_mapping: Give out the codes of the last level evenly while training.
            epsilon: How soft that is, on distances from -1 to 1.
            sinkhorn_iterations: Rounds of Sinkhorn-Knopp for it.
            collaborative_weight: Weight of LETTER's loss that aligns codes with collaborative
                vectors.
            diversity_weight: Weight of LETTER's loss that spreads the codes of a codebook.
            diversity_clusters: Clusters of a codebook for that.
            minimum_usage: Share of its codes that each level must use after training.
            seed: Seed of weights, batches and all else that is drawn.
            checkpoint: Folder from which an interrupted ``fit`` goes on; the caller removes it.
            quiet: No progress bar.
        """
        self.levels = levels
        self.codes_per_level = codes_per_level
        self.hidden = list(hidden)
        self.dimensions = dimensions
        self.epochs = epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.commitment = commitment
        self.uniform_mapping = uniform_mapping
        self.epsilon = epsilon
        self.sinkhorn_iterations = sinkhorn_iterations
        self.collaborative_weight = collaborative_weight
        self.diversity_weight = diversity_weight
        self.diversity_clusters = diversity_clusters
        self.minimum_usage = minimum_usage
        self.seed = seed
        self.checkpoint = checkpoint
        self.quiet = quiet
        self.log: list[Round] = []
        self._codec: RqVaeCodec | None = None

    @property
    def level_sizes(self) -> tuple[int, ...]:
        """Number of codes of each level."""
        return (self.codes_per_level,) * self.levels

    def fit(self, x: NDArray[Any], collaborative: NDArray[np.float32] | None = None) -> Self:
        """Train the network on vectors.

        Args:
            x: float32[n, d] or float16[n, d].
            collaborative: float32[n, c], item vectors of a collaborative model; read only when
                ``collaborative_weight`` is above 0.

        Raises:
            DataError: When x is empty, not a table or not finite, or ``collaborative`` is needed
                and cannot be used.
            ConfigError: When the training diverges, or a level hardly uses its codes afterwards.
            ArtifactError: When the checkpoint is damaged.
        """
        x = not_empty(x)
        letter = Letter(
            self.collaborative_weight,
            self.diversity_weight,
            self.diversity_clusters,
            collaborative,
        )
        letter.check(len(x))
        scaling = Scaling.of(x)
        distinct = _count_distinct(x)
        size = min(distinct, self.codes_per_level)
        schedule = Schedule(
            self.epochs, self.batch_size, self.learning_rate, self.weight_decay, self.seed
        )
        network, self.log = train(
            x,
            scaling,
            schedule,
            lambda: self._network(x.shape[1], size),
            letter=letter,
            checkpoint=self._checkpoint(x, letter),
            quiet=self.quiet,
        )
        self._codec = RqVaeCodec(network, scaling)
        best = best_round(self.log)
        logger.info(
            "RQ-VAE: best of %d epochs is %d, error %.3f, collision rate %.4f",
            self.log[-1].epoch,
            best.epoch,
            best.error,
            best.collision_rate,
        )
        _check_error(best, size)
        _check_usage(self.codes_of(x), distinct, size, self.minimum_usage)
        return self

    def _network(self, width: int, size: int) -> RqVaeNetwork:
        return RqVaeNetwork(
            width,
            self.hidden,
            self.dimensions,
            (size,) * self.levels,
            commitment=self.commitment,
            epsilon=self.epsilon if self.uniform_mapping else None,
            iterations=self.sinkhorn_iterations,
        )

    def _checkpoint(self, x: NDArray[Any], letter: Letter) -> Checkpoint | None:
        if self.checkpoint is None:
            return None
        digests = [_digest(x)]
        if self.collaborative_weight > 0 and letter.collaborative is not None:
            digests.append(_digest(letter.collaborative))
        return Checkpoint(self.checkpoint, {"settings": self._settings(), "vectors": digests})

    def encode(self, x: NDArray[Any]) -> Quantized:
        """Give each vector its codes, level by level the nearest code vector to its latent.

        Args:
            x: float32[n, d] or float16[n, d], seen by ``fit`` or not.

        Returns:
            Codes, what the decoder makes of them, and the squared distance to that.

        Raises:
            DataError: When x has another width than what was learned from, or is not finite.
        """
        codes = self.codes_of(x)
        return quantized(x, codes, self.decode(codes))

    def codes_of(self, x: NDArray[Any]) -> Codes:
        """Return the codes that ``encode`` gives, int32[n, L], reading x in blocks.

        Raises:
            DataError: As ``encode``.
        """
        codec = self._fitted()
        x = checked(x, codec.width)
        codes = np.zeros((len(x), self.levels), dtype=np.int32)
        for rows in track(
            blocks(len(x)), "RQ-VAE codes", console=Console(stderr=True), disable=self.quiet
        ):
            residual = codec.latents(x[rows])
            for level, codebook in enumerate(codec.codebooks):
                codes[rows, level] = squared_distances(residual, codebook).argmin(axis=1)
                residual = residual - codebook[codes[rows, level]]
        return codes

    def decode(self, codes: Codes, levels: int | None = None) -> NDArray[np.float32]:
        """Return what the decoder makes of the sum of the code vectors, float32[n, d].

        Args:
            codes: int32[n, L], codes that ``encode`` gave.
            levels: Add up only so many levels; None adds all. The decoder has learned from whole
                sums alone, so less than all is only a rough picture.
        """
        codec = self._fitted()
        vectors = np.zeros((len(codes), codec.width), dtype=np.float32)
        for rows in blocks(len(codes)):
            vectors[rows] = codec.vectors(codec.sum_of(codes[rows], levels))
        return vectors

    def distances(self, x: NDArray[Any], prefix: Codes) -> Doubles:
        """Return how far each vector is from every code that may follow its prefix.

        See ``Quantizer.distances``; they are squared distances between latents, and a code that
        stands for no vector is infinitely far.
        """
        codec = self._fitted()
        x = checked(x, codec.width)
        codebook = codec.codebooks[prefix.shape[1]]
        distances = np.full((len(x), self.codes_per_level), np.inf)
        for rows in blocks(len(x)):
            residual = codec.residuals(x[rows], prefix[rows])
            distances[rows, : len(codebook)] = squared_distances(residual, codebook)
        return distances

    def _fitted(self) -> RqVaeCodec:
        if self._codec is None:
            raise DataError("the quantizer has no weights yet; call fit or load first.")
        return self._codec

    def _settings(self) -> dict[str, Any]:
        """Return the arguments that decide what is learned."""
        names = inspect.signature(type(self)).parameters
        return {name: getattr(self, name) for name in names if name not in ("checkpoint", "quiet")}

    def save(self, folder: Path) -> None:
        """Write ``quantizer.safetensors`` and ``quantizer.json`` into the folder."""
        save_file(self._fitted().tensors(), folder / "quantizer.safetensors")
        write_settings(folder, METHOD, self._settings())

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what ``save`` wrote.

        Raises:
            ArtifactError: When the folder holds another kind of quantizer.
        """
        quantizer = cls(**read_settings(folder, METHOD))
        tensors = load_file(folder / "quantizer.safetensors")
        scaling = Scaling(tensors.pop("centre"), float(tensors.pop("factor")[0]))
        network = quantizer._network(len(scaling.centre), len(tensors["codebooks.0"]))
        network.load_state_dict({name: torch.from_numpy(t) for name, t in tensors.items()})
        quantizer._codec = RqVaeCodec(network, scaling)
        return quantizer


def _digest(x: NDArray[Any]) -> str:
    digest = hashlib.sha256(f"{x.shape} {x.dtype}".encode())
    for rows in blocks(len(x)):
        digest.update(np.ascontiguousarray(x[rows]).tobytes())
    return digest.hexdigest()


def _count_distinct(x: NDArray[Any]) -> int:
    """Return the number of distinct vectors, told apart by a 64-bit sum of their bits."""
    weights = np.random.default_rng(0).integers(1, 2**63, size=x.shape[1], dtype=np.uint64)
    sums = np.zeros(len(x), dtype=np.uint64)
    for rows in blocks(len(x)):
        # -0 equals 0 but has other bits; adding 0 makes it 0.
        bits = (as_float32(x[rows]) + np.float32(0)).view(np.uint32)
        sums[rows] = (bits * (2 * weights + 1)).sum(axis=1, dtype=np.uint64)
    return len(np.unique(sums))


def _check_error(best: Round, size: int) -> None:
    """Refuse a network that tells far less of the vectors than their mean; warn of one near it.

    Raises:
        ConfigError: When it does.
    """
    if size == 1 or best.error < 1:
        return
    words = (
        f"the RQ-VAE loses {best.error:.3g} times the vectors' spread at its best, so the mean "
        "of all vectors would say as much; set a lower index.rq_vae.learning_rate, more "
        "index.rq_vae.epochs, or fewer layers in index.rq_vae.hidden."
    )
    if best.error >= LARGEST_ERROR:
        raise ConfigError(words)
    logger.warning("%s", words)


def _check_usage(codes: Codes, distinct: int, size: int, minimum: float) -> None:
    """Refuse codebooks that have collapsed.

    A level that follows codes which already tell all items apart has nothing left to say, and
    may use as few codes as it likes.

    Args:
        codes: int32[n, L] of the items that were learned from.
        distinct: Number of distinct vectors among them. Not of latents: an encoder that has
            died gives all items one.
        size: Codes that were learned at each level.
        minimum: Share of them that each level must use.

    Raises:
        ConfigError: When a level uses a smaller share.
    """
    for level in range(codes.shape[1]):
        used = len(np.unique(codes[:, level]))
        told_apart = int(dense_ids(codes[:, :level]).max()) + 1
        if used < minimum * size and told_apart < distinct:
            raise ConfigError(
                f"level {level} of the RQ-VAE uses {used} of its {size} codes, a share below "
                f"index.rq_vae.minimum_usage ({minimum}); set a smaller index.codes_per_level, "
                "more index.rq_vae.epochs or another index.rq_vae.learning_rate, or lower "
                "minimum_usage to take the codes as they are."
            )

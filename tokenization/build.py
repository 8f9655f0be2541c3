"""The index stage: item vectors to one semantic ID an item."""

import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from genrec import artifacts
from genrec.config import Recipe
from genrec.data.dataset import Dataset
from genrec.embeddings.table import EmbeddingTable
from genrec.errors import ArtifactError, ConfigError, DataError
from genrec.runtime import Runtime
from genrec.semantic_ids.item_index import ItemIndex
from genrec.tokenization.collisions import Resolution, resolve
from genrec.tokenization.quality import measure, to_markdown
from genrec.tokenization.quantizer import Quantizer
from genrec.tokenization.residual_kmeans import ResidualKMeans

logger = logging.getLogger(__name__)

ITEMS_PER_CODE = 20
SMALLEST_LEVEL = 8
LARGEST_LEVEL = 256

Vectors = Literal["text", "cf", "concatenation"]
# Folder of the run and name of the table in it.
_TABLES = {"cf": "items", "text": "vectors"}


@dataclass(frozen=True)
class BuiltIndex:
    """An index, the quantizer that made it and how good it is (see ``quality.measure``)."""

    index: ItemIndex
    quantizer: Quantizer
    quality: dict[str, Any]

    def save(self, folder: Path) -> None:
        """Write the index, the quantizer, ``quality.json`` and ``quality.md`` into the folder."""
        self.index.save(folder)
        self.quantizer.save(folder)
        body = json.dumps(self.quality, indent=2, ensure_ascii=False)
        (folder / "quality.json").write_text(body + "\n", encoding="utf-8")
        (folder / "quality.md").write_text(to_markdown(self.quality), encoding="utf-8")


def run(run_folder: Path, recipe: Recipe, runtime: Runtime) -> Path:
    """Learn the semantic ID of every item of a run and write them to ``index``.

    Args:
        run_folder: Folder of the run; ``dataset`` is read, and ``text``, ``cf`` or both, as
            ``index.vectors`` says.
        recipe: The section ``index`` says how.
        runtime: Seed and whether to show progress.

    Returns:
        The folder written.

    Raises:
        ArtifactError: When a folder is missing, damaged or was made from another dataset.
        ConfigError: When the codes asked for cannot be numbered.
        DataError: When the vectors hold nothing to learn from.
    """
    section = recipe.index
    dataset = Dataset.load(run_folder / "dataset")
    names = ("cf", "text") if section.vectors == "concatenation" else (section.vectors,)
    inputs = {"dataset": run_folder / "dataset", **{name: run_folder / name for name in names}}
    tables = {name: _table(run_folder, name, len(dataset.catalog)) for name in names}
    codes_per_level = section.codes_per_level or default_codes_per_level(len(dataset.catalog))
    quantizer = ResidualKMeans(
        section.levels,
        codes_per_level,
        iterations=section.iterations,
        restarts=section.restarts,
        seed=runtime.seed,
        quiet=runtime.quiet,
    )
    built = build_index(
        item_vectors(tables),
        quantizer,
        dataset.catalog.item_ids,
        dataset.catalog.titles,
        facts={"method": "residual_kmeans", "vectors": section.vectors},
        seed=runtime.seed,
    )
    folder = run_folder / "index"
    with artifacts.writing(
        folder,
        "index",
        seed=runtime.seed,
        config=section.model_dump(mode="json"),
        inputs=inputs,
        facts=built.index.facts,
    ) as partial:
        built.save(partial)
    return folder


def default_codes_per_level(items: int) -> int:
    """Return the size of a codebook for a catalogue of so many items.

    The largest power of two that leaves 20 items a code, not below 8 and not above 256: 64 from
    1,280 items on, 128 from 2,560, 256 from 5,120.

    Example:
        >>> [default_codes_per_level(items) for items in (100, 1500, 2414, 12101, 10**6)]
        [8, 64, 64, 256, 256]
    """
    wanted = max(items // ITEMS_PER_CODE, 1)
    return min(max(1 << (wanted.bit_length() - 1), SMALLEST_LEVEL), LARGEST_LEVEL)


def _table(run_folder: Path, name: str, items: int) -> EmbeddingTable:
    """Read the vectors of one input and check that they belong to the run's dataset."""
    folder = run_folder / name
    manifest = artifacts.verify(folder, name)
    dataset = artifacts.read_manifest(run_folder / "dataset", "dataset")
    table = EmbeddingTable.load(folder, _TABLES[name])
    made_from = manifest.inputs.get("dataset", {}).get("digest")
    if made_from != dataset.digest or len(table) != items:
        raise ArtifactError(
            f"{folder} has {len(table)} vectors made from dataset {str(made_from)[:12]}, but "
            f"{run_folder / 'dataset'} is {dataset.digest[:12]} with {items} items; run the stage "
            f"that writes {folder.name} again."
        )
    return table


def item_vectors(tables: dict[str, EmbeddingTable]) -> NDArray[np.float32]:
    """Return the vectors to quantize: each table at length 1, side by side.

    Args:
        tables: Name -> vectors float32[n, d_i], in the order of the columns.

    Returns:
        float32[n, sum of d_i].

    Raises:
        DataError: When all vectors of a table are zero.
    """
    for name, table in tables.items():
        if not table.vectors.any():
            other = "cf" if name == "text" else "text"
            raise DataError(
                f"all {len(table)} vectors of {name!r} are zero, so they tell no item from "
                f"another; set index.vectors: {other}, or make the {name} vectors again."
            )
    return np.concatenate([table.normalised() for table in tables.values()], axis=1)


def build_index(
    x: NDArray[np.float32],
    quantizer: Quantizer,
    item_ids: list[str],
    titles: list[str],
    *,
    facts: dict[str, Any],
    seed: int,
) -> BuiltIndex:
    """Fit a quantizer to item vectors and give every item codes of its own.

    Args:
        x: float32[n, d], one row an item.
        quantizer: Not yet fitted.
        item_ids: Outside id of each row; they break ties between colliding items.
        titles: Title of each row, for the examples in the quality report.
        facts: What to keep with the index about its making; counts are added.
        seed: Draws the examples in the quality report.

    Raises:
        ConfigError: When there are more possible tuples than a 64-bit integer can number.
    """
    raw = quantizer.fit(x).encode(x).codes
    resolution = resolve(
        raw,
        quantizer.level_sizes,
        item_ids,
        lambda rows: quantizer.last_distances(x[rows], raw[rows]),
    )
    _check_size(resolution)
    quality = measure(x, quantizer, raw, resolution, titles, seed=seed)
    before = quality["collisions_before"]
    logger.info(
        "codes %s: %d items shared their codes, %d moved, now every item has its own.",
        " x ".join(str(size) for size in resolution.level_sizes),
        before["items_sharing"],
        resolution.moves,
    )
    counts = {
        "collision_policy": "nearest_free_code",
        "items_sharing_before": before["items_sharing"],
        "items_moved": resolution.moves,
        "extra_level": quality["extra_level"],
        "quantizer_levels": len(quantizer.level_sizes),
    }
    index = ItemIndex(resolution.codes, resolution.level_sizes, {**facts, **counts})
    return BuiltIndex(index, quantizer, quality)


def _check_size(resolution: Resolution) -> None:
    """Refuse shapes whose tuples a 64-bit integer cannot number (256 codes at 8 levels)."""
    possible = 1
    for size in resolution.level_sizes:
        possible *= size
    if possible >= 2**63:
        raise ConfigError(
            f"level sizes {resolution.level_sizes} make {possible} tuples, more than 2^63; set "
            "fewer index.levels or smaller index.codes_per_level."
        )

"""The index stage: what a run knows of its items to one semantic ID an item."""

import json
import logging
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from genrec import artifacts
from genrec.config import Recipe
from genrec.config_index import IndexConfig
from genrec.data.dataset import Dataset
from genrec.errors import ArtifactError
from genrec.runtime import Runtime
from genrec.semantic_ids.generations import lineage
from genrec.semantic_ids.item_index import ItemIndex
from genrec.tokenization.collision_policy import Policy, settle
from genrec.tokenization.collisions import Distances
from genrec.tokenization.forecast import forecast
from genrec.tokenization.fusion import Fusion
from genrec.tokenization.indexer import Indexer, ItemTables, Proposal
from genrec.tokenization.methods import indexer_of
from genrec.tokenization.quality import measure, to_markdown
from genrec.tokenization.run_tables import checkpoint_folder, fused, item_tables, read_vectors

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class BuiltIndex:
    """An index, what made it and how good it is.

    Attributes:
        index: The codes.
        proposal: The codes before collisions were resolved, and the quantizer, if there is one.
        quality: See ``quality.measure``.
    """

    index: ItemIndex
    proposal: Proposal
    quality: dict[str, Any]

    def save(self, folder: Path) -> None:
        """Write the index, the quantizer, ``quality.json`` and ``quality.md`` into the folder."""
        self.index.save(folder)
        if self.proposal.quantizer is not None:
            self.proposal.quantizer.save(folder)
        body = json.dumps(self.quality, indent=2, ensure_ascii=False)
        (folder / "quality.json").write_text(body + "\n", encoding="utf-8")
        (folder / "quality.md").write_text(to_markdown(self.quality), encoding="utf-8")


def run(run_folder: Path, recipe: Recipe, runtime: Runtime) -> Path:
    """Name every item of a run and write the codes to ``index``.

    Args:
        run_folder: Folder of the run; ``dataset`` is read, and ``text``, ``cf`` or both, as
            ``index.method`` and ``index.vectors`` say.
        recipe: The section ``index`` says how.
        runtime: Seed and whether to show progress.

    Returns:
        The folder written.

    Raises:
        ArtifactError: When a folder is missing, damaged or was made from another dataset.
        ConfigError: When the codes collapse, or collisions cannot be resolved as asked.
        DataError: When the tables hold nothing to learn from.
    """
    section = recipe.index
    dataset = Dataset.load(run_folder / "dataset")
    vectors = read_vectors(run_folder, section, len(dataset.catalog))
    inputs = {name: run_folder / name for name in ("dataset", *vectors)}
    fusion = fused(run_folder, section, dataset, vectors, runtime)
    tables = item_tables(dataset, section, None if fusion is None else fusion.vectors, vectors)
    checkpoint = checkpoint_folder(run_folder)
    indexer = indexer_of(
        section, len(tables), checkpoint=checkpoint / "quantizer", quiet=runtime.quiet
    )
    facts = {"vectors": section.vectors} if fusion is not None else {}
    built = build_index(
        indexer, tables, section.collisions, facts=facts, seed=runtime.seed, quiet=runtime.quiet
    )
    folder = write(run_folder, built, section, dataset, runtime, inputs=inputs, fusion=fusion)
    shutil.rmtree(checkpoint, ignore_errors=True)
    return folder


def write(
    run_folder: Path,
    built: BuiltIndex,
    section: IndexConfig,
    dataset: Dataset,
    runtime: Runtime,
    *,
    inputs: Mapping[str, Path],
    fusion: Fusion | None = None,
) -> Path:
    """Forecast how well an index will do and write it as the index of a run.

    Args:
        run_folder: Folder of the run.
        built: The index and how good it is.
        section: What the recipe says about it.
        dataset: Of the run; the forecast is for its validation part, where there is one.
        runtime: Seed and whether to show progress.
        inputs: Folders that it was made from.
        fusion: The vectors that were quantized, and what makes those of new items.
    """
    quality = {**built.quality, "forecast": _forecast(built.index, dataset, runtime)}
    folder = run_folder / "index"
    with artifacts.writing(
        folder,
        "index",
        seed=runtime.seed,
        config=section.model_dump(mode="json"),
        inputs=inputs,
        facts=built.index.facts,
    ) as partial:
        replace(built, quality=quality).save(partial)
        if fusion is not None:
            fusion.save(partial)
    try:
        lineage(run_folder)
    except ArtifactError as error:
        # Said now and not when the run is served: what was added later needs adding again.
        logger.warning("items that were added or removed later are not in this index: %s", error)
    return folder


def _forecast(index: ItemIndex, dataset: Dataset, runtime: Runtime) -> dict[str, Any] | None:
    validation = dataset.histories("validation")
    if not len(validation):
        return None
    return forecast(
        index.codes,
        index.level_sizes,
        dataset.sequences(),
        validation,
        dataset.item_counts,
        seed=runtime.seed,
        quiet=runtime.quiet,
    )


def build_index(
    indexer: Indexer,
    tables: ItemTables,
    policy: Policy | None,
    *,
    facts: dict[str, Any],
    seed: int,
    quiet: bool = True,
) -> BuiltIndex:
    """Name all items, resolve collisions and measure the result.

    Args:
        indexer: The way to index items.
        tables: What it learns from and what the report compares with.
        policy: What happens to items with equal codes; None takes ``nearest_free``, or
            ``extra_digit`` where the indexer knows no distances.
        facts: What to keep with the index about its making; counts are added.
        seed: Seed of all that is drawn.
        quiet: No progress bars.

    Raises:
        ConfigError: When the codes collapse, or collisions cannot be resolved as asked.
        DataError: When the tables hold nothing to learn from.
    """
    return settled(
        indexer.propose(tables, seed),
        tables,
        policy,
        facts={"method": indexer.name, **facts},
        seed=seed,
        quiet=quiet,
    )


def settled(
    proposal: Proposal,
    tables: ItemTables,
    policy: Policy | None,
    *,
    facts: dict[str, Any],
    seed: int,
    quiet: bool = True,
) -> BuiltIndex:
    """Resolve the collisions of proposed codes and measure the result; see ``build_index``."""
    distances = _distances(proposal, tables)
    policy = policy or ("extra_digit" if distances is None else "nearest_free")
    resolution = settle(
        proposal.codes, proposal.level_sizes, tables.item_ids, policy, distances, quiet=quiet
    )
    quality = measure(
        tables,
        resolution.codes,
        resolution.level_sizes,
        seed=seed,
        proposal=proposal,
        resolution=resolution,
    )
    counts = {
        "collision_policy": policy,
        "items_sharing_before": quality["collisions_before"]["items_sharing"],
        "items_sharing": quality["collisions_after"]["items_sharing"],
        "items_moved": resolution.moves,
        "extra_level": quality["extra_level"],
        "quantizer_levels": len(proposal.level_sizes),
    }
    logger.info(
        "codes %s: %d items shared their codes, %d moved, %d share them now (%s).",
        " x ".join(str(size) for size in resolution.level_sizes),
        counts["items_sharing_before"],
        resolution.moves,
        counts["items_sharing"],
        policy,
    )
    index = ItemIndex(
        resolution.codes,
        resolution.level_sizes,
        {**facts, **proposal.facts, **counts},
        shared=resolution.shared,
    )
    return BuiltIndex(index, proposal, quality)


def _distances(proposal: Proposal, tables: ItemTables) -> Distances | None:
    """Return what tells how far items are from the last codes; None when nothing does."""
    quantizer, vectors = proposal.quantizer, tables.vectors
    if quantizer is None or vectors is None:
        return None

    def distances(rows: NDArray[np.int64]) -> NDArray[np.float64]:
        return quantizer.distances(vectors[rows], proposal.codes[rows, :-1])

    return distances

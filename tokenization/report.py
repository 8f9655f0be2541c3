"""The quality of indices as pages for people: one index at length, or several side by side."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from genrec import artifacts
from genrec.data.catalog import Catalog
from genrec.embeddings.table import EmbeddingTable
from genrec.errors import ArtifactError, ConfigError
from genrec.semantic_ids.generations import Generation, verified
from genrec.semantic_ids.item_index import ItemIndex
from genrec.tokenization.compare import Comparison, compare
from genrec.tokenization.fusion import Fusion
from genrec.tokenization.report_page import write_page


def report(run_folders: Sequence[Path], path: Path, *, quiet: bool = True) -> Comparison | None:
    """Write one HTML file about the index of the first run, the others beside it.

    The page loads nothing from elsewhere, so it opens without a network.

    Args:
        run_folders: Runs that have an index; the first is shown at length.
        path: File to write; replaced when it is there.
        quiet: No progress bar.

    The index that the model is trained on is what is shown; where items were added or removed
    later, the page says so.

    Returns:
        The indices side by side; None when there is one only.

    Raises:
        ArtifactError: When a run has no index, or it is damaged or of another dataset than the
            run's.
        ConfigError: When two runs have the same name, so that nobody could tell them apart, or
            they are of different datasets.
    """
    names = [folder.resolve().name for folder in run_folders]
    if len(set(names)) < len(names):
        raise ConfigError(f"the runs are called {', '.join(names)}; give runs of different names.")
    chains = [verified(folder) for folder in run_folders]
    _require_one_dataset(run_folders)
    qualities = [_quality(folder / "index") for folder in run_folders]
    comparison = compare(list(zip(names, qualities, strict=True))) if len(names) > 1 else None
    first = run_folders[0]
    write_page(
        qualities[0],
        ItemIndex.load(first / "index"),
        Catalog.load(first / "dataset").titles,
        path,
        name=names[0],
        notes=_later(chains[0]),
        vectors=_vectors(first),
        comparison=comparison,
        quiet=quiet,
    )
    return comparison


def quality_of(run_folder: Path) -> dict[str, Any]:
    """Return what the index stage measured.

    Raises:
        ArtifactError: When the run has no index, or it is damaged.
    """
    folder = run_folder / "index"
    artifacts.verify(folder, "index")
    return _quality(folder)


def _quality(folder: Path) -> dict[str, Any]:
    quality: dict[str, Any] = json.loads((folder / "quality.json").read_text(encoding="utf-8"))
    return quality


def _require_one_dataset(run_folders: Sequence[Path]) -> None:
    digests = {str(folder): _dataset_of(folder / "index") for folder in run_folders}
    if len(set(digests.values())) > 1:
        shown = ", ".join(f"{name} of {digest[:12]}" for name, digest in digests.items())
        raise ConfigError(
            f"the indices were made from different datasets ({shown}), so their figures cannot be "
            "compared; write a report for each."
        )


def _dataset_of(folder: Path) -> str:
    return str(artifacts.read_manifest(folder).inputs["dataset"]["digest"])


def _later(chain: Sequence[Generation]) -> list[str]:
    """Return what the page does not show: items that came or went after this index was made."""
    if len(chain) == 1:
        return []
    added, removed = sum(link.added for link in chain), sum(link.removed for link in chain)
    return [
        f"This is the index the model was trained on. Since then {added:,} items were added and "
        f"{removed:,} removed, up to generation {chain[-1].number}, which this page leaves out."
    ]


def _vectors(run_folder: Path) -> NDArray[np.float32] | None:
    """Return what the items are drawn by: the vectors of the index, else those of their texts.

    Raises:
        ArtifactError: When the texts are those of another dataset.
    """
    if (run_folder / "index" / "fusion.json").is_file():
        return Fusion.load(run_folder / "index").vectors
    text = run_folder / "text"
    if not artifacts.exists(text):
        return None
    artifacts.verify(text, "text")
    if _dataset_of(text) != _dataset_of(run_folder / "index"):
        raise ArtifactError(
            f"{text} was made from another dataset than {run_folder / 'index'}. Run `genrec run "
            f"{run_folder}`, which makes again what is stale."
        )
    return EmbeddingTable.load(text).vectors

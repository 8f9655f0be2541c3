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
from genrec.errors import ConfigError
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

    Returns:
        The indices side by side; None when there is one only.

    Raises:
        ArtifactError: When a run has no index, or it is damaged.
        ConfigError: When two runs have the same name, so that nobody could tell them apart.
    """
    names = [folder.resolve().name for folder in run_folders]
    if len(set(names)) < len(names):
        raise ConfigError(f"the runs are called {', '.join(names)}; give runs of different names.")
    qualities = [quality_of(folder) for folder in run_folders]
    comparison = compare(list(zip(names, qualities, strict=True))) if len(names) > 1 else None
    first = run_folders[0]
    write_page(
        qualities[0],
        ItemIndex.load(first / "index"),
        Catalog.load(first / "dataset").titles,
        path,
        name=names[0],
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
    quality: dict[str, Any] = json.loads((folder / "quality.json").read_text(encoding="utf-8"))
    return quality


def _vectors(run_folder: Path) -> NDArray[np.float32] | None:
    """Return what the items are drawn by: the vectors of the index, else those of their texts."""
    if (run_folder / "index" / "fusion.json").is_file():
        return Fusion.load(run_folder / "index").vectors
    if artifacts.exists(run_folder / "text"):
        return EmbeddingTable.load(run_folder / "text").vectors
    return None

"""Items that arrive at an index: read from a file, encoded, and given codes."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from genrec import artifacts
from genrec.data.catalog import Catalog
from genrec.data.dataset import Dataset
from genrec.data.new_items import NewItems, read_new_items
from genrec.embeddings.table import EmbeddingTable
from genrec.embeddings.text import embed_new_texts
from genrec.errors import ArtifactError, ConfigError, DataError
from genrec.run_folder import read_recipe
from genrec.runtime import Runtime
from genrec.semantic_ids.item_index import ItemIndex
from genrec.tokenization.fusion import Fusion
from genrec.tokenization.growth import NO_FREE_TUPLE, add_items, codes_in_use, usable_quantizer
from genrec.tokenization.load_quantizer import load_quantizer

VECTORS, TEXT_VECTORS = "added", "added_text"


@dataclass(frozen=True)
class Vectors:
    """What new items are encoded from.

    Attributes:
        text: Their text vectors, float32[m, d_t].
        quantized: What the quantizer reads, float32[m, d].
    """

    text: EmbeddingTable
    quantized: EmbeddingTable

    def of(self, rows: NDArray[np.int64]) -> "Vectors":
        """Return the vectors of some rows."""
        text, quantized = self.text, self.quantized
        return Vectors(
            EmbeddingTable(text.vectors[rows], text.origin),
            EmbeddingTable(quantized.vectors[rows], quantized.origin),
        )


@dataclass(frozen=True)
class Placed:
    """What became of arrivals.

    Attributes:
        items: Those that got codes: first those that came back, then the new ones.
        codes: int32[a, L].
        back: How many came back to the codes they had.
        moved: How many new ones got other codes than they would have alone.
        vectors: Of the new ones; None when there are none.
    """

    items: NewItems
    codes: NDArray[np.int32]
    back: int = 0
    moved: int = 0
    vectors: Vectors | None = None

    def counts(self) -> dict[str, int]:
        """Return what is worth keeping in the manifest."""
        texts = self.vectors.text.vectors if self.vectors else np.ones((0, 1))
        return {
            "added": len(self.codes),
            "back": self.back,
            "moved": self.moved,
            "without_text": int((~texts.any(axis=1)).sum()),
            "refused": self.items.refused.height,
        }

    def save(self, folder: Path) -> None:
        """Write the vectors and the rows that were refused into the folder."""
        if self.vectors:
            self.vectors.text.save(folder, TEXT_VECTORS)
            self.vectors.quantized.save(folder, VECTORS)
        self.items.refused.write_parquet(folder / "quarantine.parquet")


def read_arrivals(run_folder: Path, items_file: Path, catalog: Catalog) -> NewItems:
    """Read the items of a file that a catalogue does not have, as the run read its own.

    Raises:
        DataError: When the file cannot be read or holds no new item.
    """
    config = read_recipe(run_folder).data
    return read_new_items(
        items_file,
        catalog,
        config.item_columns,
        text_columns=_text_columns(run_folder / "dataset"),
        separator=config.separator,
    )


def _text_columns(dataset: Path) -> list[str] | None:
    """Return the columns that the texts of a dataset were joined from; None when nobody knows."""
    path = dataset / "report.json"
    if not path.is_file():
        return None
    columns = json.loads(path.read_text(encoding="utf-8"))["item_file"]["text_columns"]
    return [str(name) for name in columns]


def place(
    run_folder: Path, items: NewItems, index: ItemIndex, catalog: Catalog, runtime: Runtime
) -> Placed:
    """Give codes to arrivals: their old ones to those that come back, free ones to the others.

    Args:
        run_folder: A run with ``dataset`` and ``index``, and for new items ``text``.
        items: Items that are not in the index.
        index: The codes in use now.
        catalog: The items that have them.
        runtime: Device and whether to show progress.

    Raises:
        ArtifactError: When a folder is damaged or does not belong to the others, or the run kept
            no text encoder.
        ConfigError: When the index was made by a method, or from vectors, that a new item cannot
            be encoded with.
        DataError: When no item gets codes.
    """
    trained_index = ItemIndex.load(run_folder / "index")
    dataset = Dataset.load(run_folder / "dataset")
    trained = dataset.catalog
    places, codes = _returning(items.ids, trained, trained_index, index)
    back = items.take(places.tolist())
    others = np.setdiff1d(np.arange(len(items.ids)), places)
    if not len(others):
        return Placed(back, codes, back=len(codes))
    taken = ItemIndex(
        np.concatenate([index.codes, codes]), index.level_sizes, index.facts, index.shared
    )
    quantizer = usable_quantizer(taken, load_quantizer(run_folder / "index"))
    new = items.take(others.tolist())
    vectors = _encode(run_folder, new.table["text"].to_list(), runtime)
    added = add_items(
        taken,
        quantizer,
        vectors.quantized.vectors,
        new.ids,
        [*catalog.item_ids, *back.ids],
        codes_known=codes_in_use(trained_index, dataset.item_counts),
        quiet=runtime.quiet,
    )
    placed = np.concatenate([places, others[added.rows]])
    if not len(placed):
        raise DataError(f"{items.file}: none of its {len(new.ids)} new items: {NO_FREE_TUPLE}.")
    refused = others[[each.row for each in added.refused]]
    return Placed(
        items=replace(
            items.take(placed.tolist()),
            refused=items.refuse(refused.tolist(), NO_FREE_TUPLE).refused,
        ),
        codes=np.concatenate([codes, added.codes]),
        back=len(codes),
        moved=int(added.moved.sum()),
        vectors=vectors.of(added.rows),
    )


def _returning(
    ids: Sequence[str], trained: Catalog, trained_index: ItemIndex, index: ItemIndex
) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """Find the items that the model was trained with and whose codes nobody has now.

    Returns:
        Places in ``ids``, int64[b], and the codes of each, int32[b, L].
    """
    row_of = {item_id: row for row, item_id in enumerate(trained.item_ids)}
    rows = np.array([row_of.get(item_id, -1) for item_id in ids], dtype=np.int64)
    places = np.flatnonzero(rows >= 0)
    codes = trained_index.codes[rows[places]]
    if not index.shared:
        free = np.diff(index.rows_of(codes)[1]) == 0
        places, codes = places[free], codes[free]
    return places, codes


def _encode(run_folder: Path, texts: list[str], runtime: Runtime) -> Vectors:
    """Return the vectors of new items in the spaces of the run."""
    made_from = artifacts.read_manifest(run_folder / "index", "index").inputs
    if "text" not in made_from:
        raise ConfigError(
            f"{run_folder / 'index'} was made without text vectors, and a new item has nothing but "
            "its text. Make the index and the model again with index.vectors: concatenation."
        )
    folder = run_folder / "text"
    digest = artifacts.read_manifest(folder, "text").digest
    if made_from["text"]["digest"] != digest:
        raise ArtifactError(
            f"{run_folder / 'index'} was made from text {made_from['text']['digest'][:12]}, but "
            f"{folder} is {digest[:12]}, of another space. Run `genrec run {run_folder}`, which "
            "makes again what is stale."
        )
    batch_size = read_recipe(run_folder).embed.batch_size
    text = embed_new_texts(folder, texts, runtime, batch_size=batch_size)
    fusion = Fusion.load(run_folder / "index")
    return Vectors(text, EmbeddingTable(fusion.new_items(text.vectors), {"method": fusion.method}))

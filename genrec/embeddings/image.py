"""Stage image: one vector for each item that has a picture, zeros for the others."""

import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from genrec import artifacts
from genrec.config import Recipe
from genrec.config_molar import ImageConfig
from genrec.data.catalog import Catalog
from genrec.data.dataset import Dataset
from genrec.embeddings.image_chunks import Chunk, Chunks
from genrec.embeddings.image_encoder import ImageEncoder, load_image_encoder
from genrec.embeddings.image_files import ImageFiles, by_column, by_item_id, open_images
from genrec.embeddings.image_reading import Unreadable, read_picture
from genrec.embeddings.image_vectors_file import read_vectors
from genrec.embeddings.kept_pictures import keep_pictures
from genrec.embeddings.table import EmbeddingTable, unit_rows
from genrec.errors import ConfigError, DataError
from genrec.runtime import Runtime

logger = logging.getLogger(__name__)

# Pictures between two writes of the checkpoint: what a killed job loses at most.
CHUNK = 256
SCHEMA = {"item_id": pl.String, "file": pl.String, "reason": pl.String}

Encode = Callable[[Sequence[Any]], NDArray[np.float32]]


@dataclass(frozen=True)
class Pictures:
    """What was read of the pictures.

    Attributes:
        vectors: float32[n, d] of length 1, zero without a picture; none when none were wanted.
        reasons: Why the picture of a row was set aside.
    """

    vectors: NDArray[np.float32] | None
    reasons: dict[int, str]


def run(run_folder: Path, recipe: Recipe, runtime: Runtime) -> Path:
    """Turn the pictures of a run's items into vectors and write them to ``image``.

    ``quarantined.parquet`` names each picture that could not be used, with the reason; its item
    has a zero vector, as those without a picture have. A stopped job goes on from
    ``image.checkpoint``.

    Returns:
        The folder written.

    Raises:
        ConfigError: When the recipe names no pictures, or an encoder that cannot be used.
        DataError: When not one item gets a picture, or the source is damaged.
        DependencyError: When Pillow, sentence-transformers or the model is not there.
    """
    section = recipe.image
    _check(section)
    source, folder = run_folder / "dataset", run_folder / "image"
    catalog = Dataset.load(source).catalog
    facts: dict[str, Any] = {"items": len(catalog)}
    with artifacts.writing(
        folder,
        "image",
        seed=runtime.seed,
        config=section.model_dump(mode="json"),
        inputs={"dataset": source},
        facts=facts,
    ) as partial:
        if section.vectors is not None:
            vectors, there = read_vectors(Path(section.vectors), catalog.item_ids)
            facts |= {"method": "file", "file": section.vectors, "images": int(there.sum())}
            pictures = Pictures(unit_rows(vectors), {})
            quarantine: list[tuple[str, str, str]] = []
        else:
            pictures, quarantine = _from_pictures(
                partial, run_folder, catalog, section, runtime, facts
            )
        _finish(partial, pictures, quarantine, facts)
    return folder


def _check(section: ImageConfig) -> None:
    if not section.named:
        raise ConfigError(
            "the recipe names no images; set image.path to a folder or a tar of them, or "
            "image.vectors to a file of ready-made vectors."
        )
    if section.path is not None and section.vectors is not None:
        raise ConfigError("image.path and image.vectors are both set; give one of them.")
    if section.method == "none" and section.path is not None and not section.keep:
        raise ConfigError(
            "image.method is none and image.keep is false, so nothing would be made of the "
            "pictures; name a method, or keep them."
        )
    if section.keep and section.path is None:
        raise ConfigError("image.keep is true, but image.path names no pictures to keep.")


def _from_pictures(
    partial: Path,
    run_folder: Path,
    catalog: Catalog,
    section: ImageConfig,
    runtime: Runtime,
    facts: dict[str, Any],
) -> tuple[Pictures, list[tuple[str, str, str]]]:
    """Read and encode the pictures; return them and what was set aside."""
    files = open_images(Path(str(section.path)).expanduser())
    names, quarantine = names_of(files, catalog, section.file_column)
    encoder = None
    if section.method != "none":
        encoder = load_image_encoder(
            section.method,
            model=section.model,
            revision=section.revision,
            pooling=section.pooling,
            device=str(runtime.torch_device()),
            dtype=torch.bfloat16 if runtime.dtype == "bfloat16" else torch.float32,
            quiet=runtime.quiet,
        )
    chunks = Chunks(run_folder / "image.checkpoint", _job(run_folder, section, names, encoder))
    pictures = encode_pictures(
        files,
        names,
        encoder.encode if encoder else None,
        chunks,
        items=len(catalog),
        max_bytes=section.max_bytes,
        max_pixels=section.max_pixels,
        batch_size=section.batch_size,
        quiet=runtime.quiet,
    )
    quarantine += [
        (catalog.item_ids[row], names[row], why) for row, why in sorted(pictures.reasons.items())
    ]
    readable = {row: name for row, name in names.items() if row not in pictures.reasons}
    if not readable:
        raise DataError(
            f"none of the {len(names)} pictures in {section.path} can be read; the first, "
            f"{quarantine[0][1]!r}, {quarantine[0][2]}."
        )
    if section.keep:
        keep_pictures(partial, files, readable)
    facts |= {"method": section.method, "images": len(readable)}
    facts |= encoder.facts if encoder else {}
    chunks.remove()
    return pictures, quarantine


def _job(
    run_folder: Path, section: ImageConfig, names: dict[int, str], encoder: ImageEncoder | None
) -> dict[str, Any]:
    path = Path(str(section.path)).expanduser()
    return {
        "config": section.model_dump(mode="json"),
        "dataset": artifacts.read_manifest(run_folder / "dataset").digest,
        "names": sorted(names.items()),
        "changed": os.stat(path).st_mtime_ns,
        "encoder": encoder.facts if encoder else None,
    }


def names_of(
    files: ImageFiles, catalog: Catalog, column: str | None
) -> tuple[dict[int, str], list[tuple[str, str, str]]]:
    """Find the picture of each item.

    Args:
        files: The pictures there are.
        catalog: The items.
        column: Item column with file names; None looks for files named by item id.

    Returns:
        Catalogue row -> file; and item, file and reason of what a column names and is not there.

    Raises:
        ConfigError: When the catalogue has no such column.
        DataError: When no item has a picture.
    """
    if column is not None and column not in catalog.table.columns:
        raise ConfigError(
            f"image.file_column is {column!r}, but the items have the columns "
            f"{', '.join(catalog.table.columns)}."
        )
    wanted = None if column is None else catalog.table[column].cast(pl.String).to_list()
    found = (
        by_item_id(files.names, catalog.item_ids)
        if wanted is None
        else by_column(files.names, wanted)
    )
    names = {row: name for row, name in enumerate(found) if name is not None}
    if not names:
        example = catalog.item_ids[0] if wanted is None else wanted[0]
        raise DataError(
            f"no item has a picture: image.path holds {len(files.names)} image files (such as "
            f"{list(files.names[:3])}), and the items want names such as {example!r}. Set "
            "image.file_column to the item column that names the files."
        )
    missing = [
        (catalog.item_ids[row], name, "is not there")
        for row, name in enumerate(wanted or [])
        if name and row not in names
    ]
    return names, missing


def encode_pictures(
    files: ImageFiles,
    names: dict[int, str],
    encode: Encode | None,
    chunks: Chunks,
    *,
    items: int,
    max_bytes: int,
    max_pixels: int,
    batch_size: int,
    quiet: bool = True,
) -> Pictures:
    """Read and encode pictures chunk by chunk; finished chunks are taken from the checkpoint.

    Args:
        files: Where they lie.
        names: Catalogue row -> file.
        encode: Turns pictures into float32[m, d]; None only looks whether they can be read.
        chunks: Where finished chunks are kept.
        items: Size of the catalogue.
        max_bytes: Larger files are set aside.
        max_pixels: Larger pictures are set aside.
        batch_size: Pictures encoded at once.
        quiet: No progress bar.
    """
    order = sorted(names)
    rows: list[int] = []
    parts: list[NDArray[np.float32]] = []
    reasons: dict[int, str] = {}
    columns = (TextColumn("images"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), disable=quiet) as progress:
        task = progress.add_task("", total=len(order))
        for number, start in enumerate(range(0, len(order), CHUNK)):
            some = order[start : start + CHUNK]
            chunk = chunks.load(number)
            if chunk is None:
                chunk = _chunk(files, names, some, encode, max_bytes, max_pixels, batch_size)
                chunks.save(number, chunk)
            rows += [row for row in some if row not in chunk.reasons]
            parts.append(chunk.vectors)
            reasons |= chunk.reasons
            progress.advance(task, len(some))
    if encode is None:
        return Pictures(None, reasons)
    width = max(part.shape[1] for part in parts)
    vectors = np.zeros((items, width), dtype=np.float32)
    if rows:
        vectors[rows] = np.concatenate([part for part in parts if len(part)])
    return Pictures(vectors, reasons)


def _chunk(
    files: ImageFiles,
    names: dict[int, str],
    rows: Sequence[int],
    encode: Encode | None,
    max_bytes: int,
    max_pixels: int,
    batch_size: int,
) -> Chunk:
    """Read and encode the pictures of some rows, a batch in memory at a time."""
    parts: list[NDArray[np.float32]] = []
    reasons: dict[int, str] = {}
    for start in range(0, len(rows), batch_size):
        pictures = []
        for row in rows[start : start + batch_size]:
            try:
                picture, _ = read_picture(
                    files, names[row], max_bytes=max_bytes, max_pixels=max_pixels
                )
            except Unreadable as error:
                reasons[row] = str(error)
                continue
            pictures.append(picture)
        if pictures and encode is not None:
            parts.append(encode(pictures))
    return Chunk(np.concatenate(parts) if parts else np.zeros((0, 1), np.float32), reasons)


def _finish(
    folder: Path,
    pictures: Pictures,
    quarantine: list[tuple[str, str, str]],
    facts: dict[str, Any],
) -> None:
    """Write the vectors and the quarantine, and say how many items have no picture."""
    facts |= {
        "without_image": facts["items"] - facts["images"],
        "set_aside": len(quarantine),
    }
    if pictures.vectors is not None:
        facts["dimensions"] = pictures.vectors.shape[1]
        EmbeddingTable(pictures.vectors, facts).save(folder)
    pl.DataFrame(quarantine, schema=SCHEMA, orient="row").write_parquet(
        folder / "quarantined.parquet"
    )
    if facts["without_image"]:
        logger.warning(
            "%d of %d items have no picture that can be read (%d were set aside, see "
            "image/quarantined.parquet); their vectors are zero.",
            facts["without_image"],
            facts["items"],
            len(quarantine),
        )

"""A run folder with a dataset, text vectors and an index made from them; all small and real."""

import numpy as np

from genrec import artifacts
from genrec.config import EmbedConfig, Recipe
from genrec.embeddings import text
from genrec.embeddings.table import EmbeddingTable
from genrec.run_folder import keep_recipe
from genrec.runtime import Runtime
from genrec.semantic_ids.item_index import ItemIndex
from genrec.tokenization.collisions import resolve
from genrec.tokenization.fusion import Fusion
from genrec.tokenization.residual_kmeans import ResidualKMeans
from tests.embeddings.item_dataset import write_dataset

QUIET = Runtime(seed=3, device="cpu", quiet=True)
WORDS = "red green blue steel wool cotton lamp chair table mug spoon knife bag coat boot".split()
ITEMS, CODES = 40, 6


def texts_of(n, seed):
    rng = np.random.default_rng(seed)
    return [" ".join(rng.choice(WORDS, size=5)) for _ in range(n)]


def write_index(run_folder, codes_per_level=CODES):
    """Index the items of a run by their text vectors, as the index stage does."""
    vectors = EmbeddingTable.load(run_folder / "text").normalised()
    quantizer = ResidualKMeans(3, codes_per_level, seed=1).fit(vectors)
    codes = quantizer.codes_of(vectors)
    ids = [f"i{row}" for row in range(len(codes))]
    resolution = resolve(
        codes,
        quantizer.level_sizes,
        ids,
        lambda rows: quantizer.distances(vectors[rows], codes[rows, :-1]),
    )
    inputs = {name: run_folder / name for name in ("dataset", "text")}
    with artifacts.writing(run_folder / "index", "index", seed=3, inputs=inputs) as partial:
        facts = {"method": "residual_kmeans"}
        ItemIndex(resolution.codes, resolution.level_sizes, facts).save(partial)
        quantizer.save(partial)
        Fusion("text", vectors, text_dimensions=vectors.shape[1]).save(partial)


def build(run_folder, items=ITEMS):
    """Write ``recipe.yaml``, ``dataset``, ``text`` and ``index``; items i0, i1, ..."""
    recipe = Recipe(embed=EmbedConfig(dimensions=8))
    run_folder.mkdir()
    keep_recipe(run_folder, recipe)
    write_dataset(run_folder / "dataset", texts_of(items, seed=0))
    text.run(run_folder, recipe, QUIET)
    write_index(run_folder)
    return run_folder


def write_items(path, texts, start=0, stem="n"):
    """Write an item file with ids n0, n1, ... and return them."""
    ids = [f"{stem}{start + number}" for number in range(len(texts))]
    rows = zip(ids, texts, strict=True)
    lines = [f"{item_id},T {item_id},{words}" for item_id, words in rows]
    path.write_text("\n".join(["item_id,title,text", *lines]) + "\n")
    return ids

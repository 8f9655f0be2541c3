"""Items that nothing was trained on: taken out of the data, added to the index, recommended.

500 items are drawn by seed and taken out of items and histories. Data, cf models, text vectors,
index and language model are made without them; ``genrec index add`` then names them. Every event
with one of them, and with known items before it, is an example. The model ranks all items, old and
new, with several weights of new items (0 leaves them to the model); so does the baseline, which
takes the items whose texts are nearest to those of the newest items of the history. What the old
items lose by it is measured on the test events of the data without the new items.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from flow_runs import call, program
from indexing_runs import RECIPE
from numpy.typing import NDArray

from genrec import artifacts
from genrec.data.catalog import Catalog
from genrec.data.dataset import Dataset
from genrec.decoding.ranker import GenerativeRanker
from genrec.embeddings.text import embed_new_texts
from genrec.runtime import Runtime
from genrec.semantic_ids.generations import latest, lineage
from genrec.semantic_ids.item_index import ItemIndex
from genrec.serving.recommender import Recommender

HELD_OUT = 500
EXAMPLES = 5000
SEED = 42
CUTOFFS = (10, 50)
# Newest items of a history that the baseline looks at.
NEWEST = 5
WEIGHTS = (0.0, 1.0, 2.0, 4.0)

Row = dict[str, Any]
Ints = NDArray[np.int64]
Rows = NDArray[np.int32]


def measure(folder: Path, data: Path, text_model: Path | None) -> list[Row]:
    """Hold items out, train without them, add them and measure what comes back."""
    folder.mkdir(parents=True, exist_ok=True)
    items = pl.read_parquet(data / "items.parquet")
    sequences = pl.read_parquet(data / "sequences.parquet")
    draw = np.random.default_rng(SEED).permutation(items.height)[:HELD_OUT]
    held_out = set(items["item_id"].gather(draw).to_list())
    run_folder = _train_without(folder, items, sequences, held_out, text_model)
    if not (run_folder / "index.generations").is_dir():
        call([program(), "index", "add", str(run_folder), str(folder / "new.parquet"), "--quiet"])
    histories, targets = _examples(sequences["item_ids"].to_list(), held_out)
    rows = [_codes(run_folder)]
    rankers = {weight: _ranker(run_folder, weight) for weight in WEIGHTS}
    catalog = rankers[0.0].model.catalog
    new = np.array([item_id in {str(each) for each in held_out} for item_id in catalog.item_ids])
    known = [np.asarray(catalog.rows(history)[0], dtype=np.int32) for history in histories]
    wanted = np.asarray(catalog.rows(targets)[0], dtype=np.int64)
    vectors = _text_vectors(run_folder, catalog)
    old_rows = np.flatnonzero(~new).astype(np.int32)
    for among, hidden in (("all items", old_rows[:0]), ("new items only", old_rows)):
        exclude = [np.union1d(hidden, history).astype(np.int32) for history in known]
        lists = {
            f"genrec, new_item_weight {weight:g}": _lists(ranker, known, exclude)
            for weight, ranker in rankers.items()
        }
        lists["nearest texts"] = [
            _nearest(vectors, history, out) for history, out in zip(known, exclude, strict=True)
        ]
        rows += [_row(name, among, found, wanted, new) for name, found in lists.items()]
    histories, wanted = _old_examples(run_folder)
    for weight, ranker in rankers.items():
        found = _lists(ranker, histories, [np.unique(history) for history in histories])
        row = _row(f"genrec, new_item_weight {weight:g}", "all items", found, wanted, new)
        rows.append({**row, "table": "old items, new ones beside them"})
    return rows


def _ranker(run_folder: Path, weight: float) -> GenerativeRanker:
    ranker = Recommender.from_pretrained(run_folder, new_item_weight=weight).ranker
    assert isinstance(ranker, GenerativeRanker)
    return ranker


def _lists(ranker: GenerativeRanker, histories: list[Rows], exclude: list[Rows]) -> list[Rows]:
    return [each.items for each in ranker.rank(histories, max(CUTOFFS), exclude=exclude)]


def _old_examples(run_folder: Path) -> tuple[list[Rows], Ints]:
    """Return histories and targets of test events, by seed; a generation keeps the rows."""
    test = Dataset.load(run_folder / "dataset").histories("test")
    draw = np.random.default_rng(SEED).permutation(len(test))[:EXAMPLES]
    return [test[row] for row in draw.tolist()], test.target[draw].astype(np.int64)


def _train_without(
    folder: Path,
    items: pl.DataFrame,
    sequences: pl.DataFrame,
    held_out: set[int],
    text_model: Path | None,
) -> Path:
    """Write the data without the items and run all stages up to the model; return the run."""
    source = folder / "data"
    source.mkdir(exist_ok=True)
    gone = pl.col("item_id").is_in(sorted(held_out))
    items.filter(~gone).write_parquet(source / "items.parquet")
    items.filter(gone).write_parquet(folder / "new.parquet")
    kept = sequences.with_columns(
        pl.col("item_ids").list.eval(pl.element().filter(~pl.element().is_in(sorted(held_out))))
    )
    kept.filter(pl.col("item_ids").list.len() >= 3).write_parquet(source / "sequences.parquet")
    run_folder = folder / "run"
    shape = ["index.levels=3", "index.codes_per_level=256"]
    overrides = [f"data.path={source}", "name=new-items", *shape]
    overrides += [f"embed.model={text_model}"] if text_model else ["embed.method=tfidf"]
    words = [word for override in overrides for word in ("--set", override)]
    call([program(), "run", str(RECIPE), "--run", str(run_folder), "--until", "train", "--quiet",
          *words])  # fmt: skip
    return run_folder


def _examples(sequences: list[list[int]], held_out: set[int]) -> tuple[list[list[str]], list[str]]:
    """Return histories of known items and the held-out item that came next, drawn by seed."""
    histories, targets = [], []
    for items in sequences:
        for place, item in enumerate(items):
            before = [str(each) for each in items[:place] if each not in held_out]
            if item in held_out and before:
                histories.append(before)
                targets.append(str(item))
    draw = np.random.default_rng(SEED).permutation(len(targets))[:EXAMPLES]
    return [histories[row] for row in draw], [targets[row] for row in draw]


def _codes(run_folder: Path) -> Row:
    """Compare the generation with the index that the model was trained on."""
    root, newest = lineage(run_folder)[0], latest(run_folder)
    artifacts.verify(newest, "index")
    old, new = ItemIndex.load(root.folder), ItemIndex.load(newest)
    found, offsets = new.rows_of(new.codes)
    return {
        "table": "codes",
        "items_before": len(old),
        "items_after": len(new),
        "old_codes_changed": int((new.codes[: len(old)] != old.codes).any(axis=1).sum()),
        "tuples_shared": len(new) - len(np.unique(new.codes, axis=0)),
        "new_items_found_by_their_codes": int(
            (found[offsets[:-1]][len(old) :] == np.arange(len(old), len(new))).sum()
        ),
    }


def _text_vectors(run_folder: Path, catalog: Catalog) -> NDArray[np.float32]:
    return embed_new_texts(
        run_folder / "text", catalog.texts, Runtime(seed=SEED, quiet=True)
    ).normalised()


def _nearest(vectors: NDArray[np.float32], history: Ints, exclude: Ints) -> Ints:
    """Rank items by the mean cosine of their text with those of the newest history items."""
    scores = vectors @ vectors[history[-NEWEST:]].mean(axis=0)
    scores[exclude] = -np.inf
    best = np.argsort(-scores, kind="stable")[: max(CUTOFFS)]
    return best[np.isfinite(scores[best])]


def _row(
    name: str, among: str, found: Sequence[Rows | Ints], wanted: Ints, new: NDArray[np.bool_]
) -> Row:
    """Return recall of the new items, and how many of a list are new."""
    hits = {
        f"recall@{cutoff}": float(
            np.mean([target in items[:cutoff] for items, target in zip(found, wanted, strict=True)])
        )
        for cutoff in CUTOFFS
    }
    exposure = float(np.mean([new[items[: CUTOFFS[0]]].mean() for items in found]))
    return {"table": "recall", "model": name, "ranked": among, "examples": len(wanted), **hits,
            f"new_share@{CUTOFFS[0]}": exposure}  # fmt: skip

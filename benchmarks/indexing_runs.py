"""Run folders of the comparison: one a data set, one an index, made by the command line."""

import json
import lzma
import os
import shutil
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from flow_runs import call, program
from indexing_methods import Method
from results_file import ROOT

from genrec import artifacts
from genrec.data.dataset import Dataset
from genrec.embeddings.table import EmbeddingTable
from genrec.evaluation.results import Report
from genrec.run_folder import read_timings
from genrec.semantic_ids.item_index import ItemIndex
from genrec.tokenization.agreement import neighbour_agreement
from genrec.tokenization.code_tree import CodeTree
from genrec.tokenization.fusion import fuse

RECIPE = ROOT / "benchmarks" / "indexing.yaml"
SHARED = ("dataset", "cf", "text")
METRICS = ("recall@10", "ndcg@10", "recall@50")
SEED = 42

Row = dict[str, Any]


def prepare(folder: Path, data: Path, text_model: Path | None) -> Path:
    """Make the dataset, the cf models and the text vectors that all ways to index share."""
    overrides = [f"data.path={data}", f"name={folder.name}"]
    overrides += [f"embed.model={text_model}"] if text_model else ["embed.method=tfidf"]
    _genrec("run", RECIPE, "--run", folder, "--until", "embed", *_set(overrides))
    return folder


def baselines(prepared: Path) -> list[Row]:
    """Measure popularity, transition counts and SASRec on the same test users."""
    folder = prepared.with_name(f"{prepared.name}-baselines")
    _share(prepared, folder)
    models = "recommend.models=[popularity, transition, sasrec]"
    for verb in ("recommend", "evaluate"):
        _genrec(verb, folder, *_set([models, f"name={folder.name}"]))
    report = Report.load(folder / "report")
    return [{"table": "baselines", "method": row["model"], **_metrics(row)} for row in report.rows]


def measure_method(prepared: Path, method: Method, published: Path) -> Row:
    """Index a prepared data set in one way, train the small model on it and measure both."""
    folder = prepared.with_name(f"{prepared.name}-{method.name}")
    _share(prepared, folder)
    overrides = _set([*method.overrides, f"name={folder.name}"])
    started = time.perf_counter()
    if method.published:
        _import(folder, published, overrides)
    else:
        _genrec("index", folder, *overrides)
    seconds = read_timings(folder).get("index", time.perf_counter() - started)
    _genrec("run", folder, *overrides)
    return {
        "table": "methods",
        "method": method.name,
        **index_figures(folder, prepared),
        "index_seconds": round(seconds, 1),
        "train_seconds": round(read_timings(folder)["train"], 1),
        **_metrics(Report.load(folder / "report").rows[0]),
    }


def other_seeds(prepared: Path, row: Row, seeds: Sequence[int]) -> list[Row]:
    """Index and train again with other seeds; cf and text vectors stay as they are."""
    first = prepared.with_name(f"{prepared.name}-{row['method']}")
    rows = [{"table": "seeds", "method": row["method"], "seed": SEED, **_only_metrics(row)}]
    for seed in seeds:
        folder = first.with_name(f"{first.name}-seed{seed}")
        _share(first, folder)
        overrides = _set([f"name={folder.name}", f"seed={seed}"])
        for verb in ("index", "train", "recommend", "evaluate"):
            _genrec(verb, folder, *overrides)
        metrics = _metrics(Report.load(folder / "report").rows[0])
        rows.append({"table": "seeds", "method": row["method"], "seed": seed, **metrics})
    return rows


def index_figures(folder: Path, prepared: Path) -> Row:
    """Return what the report of an index says, and its agreement with one set of vectors."""
    quality = json.loads((folder / "index" / "quality.json").read_text(encoding="utf-8"))
    index = ItemIndex.load(folder / "index")
    tables = {
        "cf": EmbeddingTable.load(prepared / "cf", "items"),
        "text": EmbeddingTable.load(prepared / "text"),
    }
    counts = Dataset.load(prepared / "dataset").item_counts
    vectors = fuse("concatenation", tables, has_events=counts > 0).vectors
    agreement = neighbour_agreement(CodeTree.of(index.codes, index.level_sizes), vectors, seed=SEED)
    assert agreement is not None  # there are many items
    levels = quality["levels_before"] or quality["levels_after"]
    before, after = quality["collisions_before"], quality["collisions_after"]
    error, forecast = quality["error"], quality["forecast"]
    return {
        "codes": " x ".join(str(size) for size in index.level_sizes),
        "sharing_before": None if before is None else before["items_sharing"],
        "sharing_after": after["items_sharing"],
        "used": [level["used"] for level in levels],
        "perplexity": [round(level["perplexity"]) for level in levels],
        "reconstruction": error[-1]["relative_error"] if error else None,
        **{f"neighbours_{row['codes']}": row["share"] for row in agreement["prefixes"]},
        "forecast_recall@10": forecast["recall@10"],
        "forecast_bits": forecast["bits"],
    }


def _import(folder: Path, published: Path, overrides: list[str]) -> None:
    with tempfile.TemporaryDirectory() as temporary:
        path = Path(temporary) / "index.json"
        with lzma.open(published) as packed:
            path.write_bytes(packed.read())
        _genrec("index", "import", folder, path, "--keyed-by", "row", *overrides,
                *_set(["index.collisions=extra_digit"]))  # fmt: skip


def _share(prepared: Path, folder: Path) -> None:
    """Give a run folder the finished stages of another, as links to the same files."""
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(prepared / "recipe.yaml", folder / "recipe.yaml")
    for name in SHARED:
        if not artifacts.exists(folder / name):
            shutil.copytree(prepared / name, folder / name, copy_function=os.link)


def _genrec(*words: Any) -> None:  # noqa: ANN401 - anything that can be shown
    call([program(), *(str(word) for word in words), "--quiet"])


def _set(overrides: Sequence[str]) -> list[str]:
    return [word for override in overrides for word in ("--set", override)]


def _metrics(row: Row) -> Row:
    shown = {name: row[name] for name in METRICS}
    ends = ("recall@10_low", "recall@10_high", "ndcg@10_low", "ndcg@10_high")
    return {**shown, **{name: row[name] for name in ends if name in row}}


def _only_metrics(row: Row) -> Row:
    return {name: row[name] for name in METRICS}

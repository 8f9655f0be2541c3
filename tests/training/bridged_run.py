"""Tiny runs with a bridge: an untrained SASRec or graph model and random joint vectors."""

import numpy as np
import torch

from genrec import artifacts
from genrec.cf.graph_ranker import GraphRanker
from genrec.cf.sasrec import SasRec
from genrec.cf.sasrec_ranker import SasRecRanker
from genrec.embeddings.table import EmbeddingTable

WIDTH = 8


def user_model(name, items):
    generator = np.random.default_rng(3)
    if name in ("sasrec", "transition_sasrec"):
        torch.manual_seed(3)
        long = {} if name == "sasrec" else {"query_window": 3, "long_share": 0.4}
        network = SasRec(items, dimensions=WIDTH, layers=1, heads=2, max_history=10, **long)
        with torch.no_grad():
            network.item_vectors.weight.mul_(30)
        return SasRecRanker(network.eval(), name)
    vectors = generator.normal(size=(2, items, WIDTH)).astype(np.float32)
    return GraphRanker(name, vectors[0], vectors[1])


def write_run(folder, dataset, index, name="sasrec"):
    """Write dataset, index, cf, text and joint of a run that can be trained."""
    items = len(dataset.catalog)
    generator = np.random.default_rng(4)
    with artifacts.writing(folder / "dataset", "dataset") as partial:
        dataset.save(partial)
    with artifacts.writing(folder / "index", "index") as partial:
        index.save(partial)
    made_from = {"inputs": {"dataset": folder / "dataset"}}
    with artifacts.writing(folder / "cf", "cf", **made_from) as partial:
        model = user_model(name, items)
        model.save(partial)
        vectors = model.items if isinstance(model, GraphRanker) else model.item_vectors()
        EmbeddingTable(vectors, {"method": name}).save(partial, "items")
    for kind, width in (("text", 5), ("joint", 6)):
        vectors = generator.normal(size=(items, width)).astype(np.float32)
        with artifacts.writing(folder / kind, kind, **made_from) as partial:
            EmbeddingTable(vectors, {"method": kind}).save(partial)
    return folder

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
import torch

from genrec import artifacts
from genrec.data.catalog import Catalog
from genrec.decoding.ranker import GenerativeRanker
from genrec.errors import ArtifactError
from genrec.model.generation import with_generation
from genrec.semantic_ids.item_index import ItemIndex
from tests.serving import world


@pytest.fixture(scope="module")
def model():
    return world.model(world.dataset())


def write_generation(folder, model, *, root=None, level_sizes=(4, 4, 2)):
    """Without p03, and with two new items, one at the codes that p03 had."""
    keep = [row for row in range(world.ITEMS) if row != 3]
    codes = np.vstack([model.index.codes[keep], model.index.codes[3], [3, 3, 1]])
    new = pl.DataFrame({"item_id": ["n0", "n1"], "title": ["New 0", "New 1"], "text": ["", ""]})
    table = pl.concat([model.catalog.table[keep], new])
    facts = {"generation": 3, "root": root or model.facts["index_digest"]}
    with artifacts.writing(folder, "index", facts=facts) as partial:
        ItemIndex(codes.astype(np.int32), level_sizes, {}).save(partial)
        Catalog(table).save(partial)
    return folder


def test_the_same_weights_rank_the_items_of_the_generation(model, tmp_path):
    folder = write_generation(tmp_path / "3", model)
    served = with_generation(model, folder)
    assert served.language_model is model.language_model
    assert served.vocabulary == model.vocabulary
    assert served.catalog.item_ids[-2:] == ["n0", "n1"]
    kept = [row for row in range(world.ITEMS) if row != 3]
    assert served.item_counts.tolist() == [*model.item_counts[kept].tolist(), 0, 0]
    assert served.item_counts.dtype == model.item_counts.dtype
    assert served.facts == {
        **model.facts,
        "generation": 3,
        "generation_digest": artifacts.read_manifest(folder).digest,
    }
    history = ["p05", "p10", "p07"]
    scores = {}
    for name, each in {"old": model, "new": served}.items():
        rows = np.array([each.catalog.row(item_id) for item_id in history], dtype=np.int32)
        [ranking] = GenerativeRanker(each, beam=64, new_item_weight=0).rank([rows], 40)
        ids = [each.catalog.item_ids[row] for row in ranking.items]
        scores[name] = dict(zip(ids, ranking.scores.tolist(), strict=True))
    assert set(scores["new"]) == set(scores["old"]) - {"p03"} | {"n0", "n1"}
    # Codes decide the score: n0 has those of p03, and the others keep theirs.
    expected = {("n0" if item_id == "p03" else item_id): s for item_id, s in scores["old"].items()}
    for item_id, score in expected.items():
        assert scores["new"][item_id] == pytest.approx(score, abs=1e-4)


def test_a_model_that_has_a_generation_takes_no_other(model, tmp_path):
    """It may lack items it was trained on, which would come back as if nobody ever chose them."""
    folder = write_generation(tmp_path / "3", model)
    with pytest.raises(ArtifactError, match="has generation 3 already"):
        with_generation(with_generation(model, folder), folder)


def test_what_does_not_belong_to_the_model_is_refused(model, tmp_path):
    folder = write_generation(tmp_path / "3", model, root="d" * 64)
    with pytest.raises(ArtifactError, match="of index dddddddddddd, but .* trained on cccccccccc"):
        with_generation(model, folder)
    folder = write_generation(tmp_path / "4", model, level_sizes=(4, 4, 3))
    with pytest.raises(ArtifactError, match=r"levels of \(4, 4, 3\) codes.*\(4, 4, 2\)"):
        with_generation(model, folder)
    with artifacts.writing(tmp_path / "index", "index") as partial:
        model.index.save(partial)
    with pytest.raises(ArtifactError, match="is no generation"):
        with_generation(model, tmp_path / "index")
    with pytest.raises(ArtifactError, match="does not exist"):
        with_generation(model, tmp_path / "nothing")


def test_a_damaged_generation_is_refused(model, tmp_path):
    folder = write_generation(tmp_path / "3", model)
    (folder / "catalog.parquet").write_bytes(b"PAR1")
    with pytest.raises(ArtifactError, match="changed or damaged"):
        with_generation(model, folder)


def test_the_trained_model_itself_is_not_changed(model, tmp_path):
    before = replace(model)
    weights = [weight.clone() for weight in model.language_model.parameters()]
    with_generation(model, write_generation(tmp_path / "3", model))
    assert model == before
    for old, new in zip(weights, model.language_model.parameters(), strict=True):
        assert torch.equal(old, new)

"""The Recommender and the service on a real (untrained) model folder, with the dataset gone."""

import shutil

import numpy as np
import pytest
from fastapi.testclient import TestClient

from genrec import Recommender, artifacts
from genrec.errors import ArtifactError
from genrec.semantic_ids.item_index import ItemIndex
from genrec.serving.http import create_app
from tests.serving.world import ITEMS, build


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A model folder copied away from its run, which is then deleted."""
    base = tmp_path_factory.mktemp("world")
    build(base / "run")
    shutil.copytree(base / "run" / "model", base / "copied")
    shutil.rmtree(base / "run")
    return base / "copied"


@pytest.fixture(scope="module")
def recommender(folder):
    return Recommender.from_pretrained(folder, device="cpu", dtype="float32", beam=10)


def test_the_digests_name_the_model_and_its_index(folder, recommender):
    assert recommender.name == "genrec"
    assert recommender.model_digest == artifacts.verify(folder, "model").digest
    assert recommender.index_digest == "c" * 64


def test_items_are_real_new_and_titled(recommender):
    [answer] = recommender.recommend([["p01", "p02"]], k=10)
    names = [item.item_id for item in answer.items]
    assert len(set(names)) == 10
    assert not {"p01", "p02"} & set(names)
    assert all(item.title == f"Thing {item.item_id}" for item in answer.items)
    scores = [item.score for item in answer.items]
    assert scores == sorted(scores, reverse=True)
    assert answer.shortfall is None and answer.fallback is None


def test_a_batch_answers_as_each_history_alone(recommender):
    random = np.random.default_rng(0)
    histories = [
        [f"p{row:02d}" for row in random.choice(ITEMS, size=length)] for length in range(9)
    ]
    together = recommender.recommend(histories, k=5)
    for history, batched in zip(histories, together, strict=True):
        [alone] = recommender.recommend([history], k=5)
        assert [i.item_id for i in alone.items] == [i.item_id for i in batched.items]
        assert [i.score for i in alone.items] == pytest.approx(
            [i.score for i in batched.items], abs=1e-4
        )


def test_only_the_newest_items_of_a_long_history_are_read(recommender):
    """The prompts of this model hold six items; what came before must not matter."""
    newest = ["p05", "p11", "p20", "p07", "p01", "p29"]
    [long] = recommender.recommend([["p03"] * 500 + newest], k=5, exclude_seen=False)
    [short] = recommender.recommend([newest], k=5, exclude_seen=False)
    assert [i.item_id for i in long.items] == [i.item_id for i in short.items]


def test_all_but_one_item_seen_leaves_that_one(recommender):
    seen = [f"p{row:02d}" for row in range(ITEMS) if row != 17]
    [answer] = recommender.recommend([seen], k=3)
    assert [item.item_id for item in answer.items] == ["p17"]
    assert "29 of them in the history" in answer.shortfall
    [nothing] = recommender.recommend([[*seen, "p17"]], k=3)
    assert nothing.items == []


def test_k_beyond_the_catalogue_returns_every_item_once(recommender):
    [answer] = recommender.recommend([["p00"]], k=1000, exclude_seen=False)
    assert sorted(item.item_id for item in answer.items) == [f"p{row:02d}" for row in range(ITEMS)]


def test_the_service_answers_from_the_copied_folder(recommender):
    with TestClient(create_app(recommender)) as client:
        body = client.post("/v1/recommend", json={"history": ["p01", "nope"], "k": 3}).json()
    [direct] = recommender.recommend([["p01", "nope"]], k=3)
    assert [item["item_id"] for item in body["items"]] == [i.item_id for i in direct.items]
    assert body["unknown_items"] == ["nope"]
    assert body["model_digest"] == recommender.model_digest


def test_a_user_who_comes_back_gets_the_same_list_for_fewer_tokens(folder, recommender):
    """A prompt has 1 + 3 tokens an item: with a fifth item, four blocks of three are known."""
    remembering = Recommender.from_pretrained(
        folder, device="cpu", dtype="float32", beam=10, prefix_cache_bytes=2**20
    )
    assert recommender.prefix_cache_stats is None
    history = ["p01", "p02", "p03", "p04", "p05"]
    with TestClient(create_app(remembering)) as client:
        for length in (4, 5):
            body = {"history": history[:length], "k": 3}
            answer = client.post("/v1/recommend", json=body).json()
        found = client.get("/healthz").json()["prefix_cache"]
    [direct] = recommender.recommend([history], k=3)
    assert [item["item_id"] for item in answer["items"]] == [i.item_id for i in direct.items]
    assert [item["score"] for item in answer["items"]] == pytest.approx(
        [i.score for i in direct.items], abs=1e-5
    )
    assert (found["prompts"], found["hits"]) == (2, 1)
    assert (found["tokens_read"], found["tokens_reused"]) == (13 + 4, 12)
    assert 0 < found["bytes_used"] <= found["bytes_limit"] == 2**20


@pytest.mark.parametrize("name", ["codes.safetensors", "index.json", "model.safetensors"])
@pytest.mark.parametrize("damage", ["cut", "flipped", "gone"])
def test_a_damaged_model_folder_is_refused(folder, tmp_path, name, damage):
    copy = shutil.copytree(folder, tmp_path / "copy")
    path = copy / name
    content = bytearray(path.read_bytes())
    if damage == "gone":
        path.unlink()
    else:
        content[len(content) // 2] ^= 1
        path.write_bytes(content if damage == "flipped" else content[: len(content) // 2])
    with pytest.raises(ArtifactError, match=rf"{name} (is missing|was changed or damaged).*again"):
        Recommender.from_pretrained(copy, device="cpu")


def test_the_index_of_another_model_is_refused(folder, tmp_path):
    """Codes of the same shape would load and give wrong items; only the digest tells."""
    copy = shutil.copytree(folder, tmp_path / "copy")
    index = ItemIndex.load(folder)
    ItemIndex(np.ascontiguousarray(index.codes[::-1]), index.level_sizes, index.facts).save(copy)
    with pytest.raises(ArtifactError, match=r"codes.safetensors was changed or damaged"):
        Recommender.from_pretrained(copy, device="cpu")


def test_an_index_of_fewer_items_than_the_catalogue_is_refused(folder, tmp_path):
    """Also when its manifest says that it belongs there."""
    copy = tmp_path / "copy"
    with artifacts.writing(copy, "model") as partial:
        shutil.copytree(folder, partial, dirs_exist_ok=True)
        index = ItemIndex.load(folder)
        ItemIndex(index.codes[:-1].copy(), index.level_sizes, index.facts).save(partial)
    with pytest.raises(ArtifactError, match=rf"names {ITEMS - 1} items .* has {ITEMS}; run index"):
        Recommender.from_pretrained(copy, device="cpu")

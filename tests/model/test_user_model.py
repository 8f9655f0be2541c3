"""Molar's user-side model: all beginnings at once, brute force ranking, saving and loading."""

import numpy as np
import polars as pl
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM, Qwen2VLConfig, Qwen2VLModel

from genrec import artifacts
from genrec.data.catalog import Catalog
from genrec.errors import ArtifactError, ConfigError, DependencyError, RequestError
from genrec.model.molar import Molar
from genrec.model.user_body import body_from_scratch, pretrained_body
from genrec.model.user_model import UserModel
from genrec.model.user_ranker import UserRanker

N, D, HIDDEN = 12, 6, 16
CPU = torch.device("cpu")


def vectors(seed=0):
    table = np.random.default_rng(seed).normal(size=(N, D)).astype(np.float32)
    table[5] = 0
    return table


def network(max_history=6, **keys):
    torch.manual_seed(1)
    body = body_from_scratch(hidden=HIDDEN, layers=2, heads=2, feed_forward=32, max_tokens=32)
    model = UserModel(body, vectors(), hidden=HIDDEN, max_history=max_history, **keys)
    return model.eval()


def rows(*items):
    return np.asarray(items, dtype=np.int32)


HISTORIES = [rows(3, 1, 4), rows(), rows(7), rows(5, 5, 0, 2), rows(*range(N))]


@torch.inference_mode()
def test_all_beginnings_at_once_are_what_each_alone_gives():
    model = network()
    together = model(torch.tensor([[3, 1, 4, 9], [7, 0, 0, 0]]))
    assert together.shape == (2, 5, HIDDEN)
    for t in range(5):
        alone = model.last_states([rows(3, 1, 4, 9)[:t]])[0]
        torch.testing.assert_close(together[0, t], alone, atol=1e-5, rtol=1e-4)
    # Of the padded one, the beginnings that are real.
    for t in range(2):
        torch.testing.assert_close(
            together[1, t], model.last_states([rows(7)[:t]])[0], atol=1e-5, rtol=1e-4
        )


@torch.inference_mode()
def test_a_user_vector_depends_on_the_newest_items_and_their_order_alone():
    model = network(max_history=3)
    states = model.last_states(HISTORIES)
    for history, state in zip(HISTORIES, states, strict=True):
        alone = model.last_states([history])[0]
        torch.testing.assert_close(state, alone, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(
        states[4], model.last_states([rows(9, 10, 11)])[0], atol=1e-5, rtol=1e-4
    )
    same, turned = (model.last_states([rows(*order)])[0] for order in ((9, 10, 11), (10, 9, 11)))
    assert (turned - states[4]).abs().max() > 20 * (same - states[4]).abs().max()


def test_ranking_is_the_sorted_product_by_brute_force():
    model = network()
    ranker = UserRanker(model)
    exclude = [np.unique(history) for history in HISTORIES]
    rankings = ranker.rank(HISTORIES, 5, exclude=exclude)
    users, items = ranker.user_vectors(HISTORIES), ranker.item_vectors()
    for user, barred, ranking in zip(users, exclude, rankings, strict=True):
        scores = {item: float(user @ items[item]) for item in range(N)}
        # Item 5 has no vector: nothing is known of it.
        allowed = [item for item in scores if item not in barred and item != 5]
        expected = sorted(allowed, key=lambda item: -scores[item])[:5]
        assert ranking.items.tolist() == expected
        np.testing.assert_allclose(
            ranking.scores, [scores[item] for item in expected], rtol=1e-4, atol=1e-5
        )
    assert [len(ranking) for ranking in rankings] == [5, 5, 5, 5, 0]
    with pytest.raises(RequestError, match="k is 0"):
        ranker.rank(HISTORIES, 0)


@torch.inference_mode()
def test_an_item_without_vector_tells_nothing():
    model = network()
    silent = model.item_vectors(torch.tensor([5]))
    told = vectors()
    told[5] = told[np.arange(N) != 5].mean(axis=0)
    with_mean = UserModel(model.body, told, hidden=HIDDEN)
    with_mean.load_state_dict(model.state_dict())
    torch.testing.assert_close(silent, with_mean.item_vectors(torch.tensor([5])), atol=1e-5, rtol=0)


def catalog():
    ids = [f"i{row}" for row in range(N)]
    return Catalog(pl.DataFrame({"item_id": ids, "title": ids, "text": [""] * N}))


def saved(folder, model):
    with artifacts.writing(folder, "molar") as partial:
        Molar(model, catalog(), np.arange(N), {"vectors": "text"}).save(partial)
    return folder


def test_what_is_loaded_ranks_as_what_was_saved(tmp_path):
    model = network()
    folder = saved(tmp_path / "molar", model).rename(tmp_path / "elsewhere")
    again = Molar.load(folder, device=CPU)
    assert again.item_counts.tolist() == list(range(N))
    assert again.catalog.item_ids == catalog().item_ids
    before = UserRanker(model).rank(HISTORIES, N)
    after = UserRanker(again.network).rank(HISTORIES, N)
    for one, other in zip(before, after, strict=True):
        np.testing.assert_array_equal(one.items, other.items)
        np.testing.assert_array_equal(one.scores, other.scores)
    with pytest.raises(ArtifactError, match="holds a 'molar', expected a 'model'"):
        artifacts.verify(folder, "model")


def test_a_folder_that_is_not_whole_is_refused(tmp_path):
    folder = saved(tmp_path / "molar", network())
    with pytest.raises(ArtifactError, match="counts of 3"):
        Molar(network(), catalog(), np.arange(3), {})
    (folder / "heads.safetensors").write_bytes(b"")
    with pytest.raises(ArtifactError, match="was changed or damaged"):
        Molar.load(folder, device=CPU)


def vision_language():
    text = {
        "vocab_size": 16, "hidden_size": HIDDEN, "intermediate_size": 32, "num_hidden_layers": 2,
        "num_attention_heads": 2, "num_key_value_heads": 1, "bos_token_id": 1, "eos_token_id": 2,
        "rope_parameters": {"rope_type": "default", "mrope_section": [1, 1, 2], "rope_theta": 1e4},
    }  # fmt: skip
    eyes = {
        "depth": 1, "embed_dim": 16, "hidden_size": HIDDEN, "num_heads": 2, "mlp_ratio": 2,
        "patch_size": 4, "spatial_merge_size": 2, "temporal_patch_size": 2,
    }  # fmt: skip
    tokens = {"image_token_id": 6, "video_token_id": 7, "vision_start_token_id": 3,
              "vision_end_token_id": 4}  # fmt: skip
    return Qwen2VLModel(Qwen2VLConfig(text_config=text, vision_config=eyes, **tokens))


def causal():
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=16, hidden_size=HIDDEN, intermediate_size=32, num_hidden_layers=2,
            num_attention_heads=2, num_key_value_heads=2, tie_word_embeddings=True,
        )
    )  # fmt: skip


@pytest.mark.parametrize("make", [causal, vision_language])
def test_the_language_side_of_a_pretrained_model_is_read_without_its_words(make, tmp_path):
    torch.manual_seed(2)
    whole = make()
    whole.save_pretrained(tmp_path / "whole")
    body, size = pretrained_body(
        str(tmp_path / "whole"), revision=None, dtype=torch.float32, quiet=True
    )
    words = whole.get_input_embeddings().weight.detach()
    assert size == pytest.approx(float((words**2).mean() ** 0.5), rel=1e-5)
    assert body.get_input_embeddings().weight.shape == (1, HIDDEN)
    inner = whole.language_model if hasattr(whole, "language_model") else whole.model
    given = torch.randn(1, 5, HIDDEN)
    with torch.inference_mode():
        expected = inner.eval()(inputs_embeds=given).last_hidden_state
        got = body.eval()(inputs_embeds=given).last_hidden_state
    torch.testing.assert_close(got, expected)
    model = UserModel(body, vectors(), hidden=HIDDEN, size=size).eval()
    folder = saved(tmp_path / "molar", model)
    again = Molar.load(folder, device=CPU)
    for one, other in zip(
        UserRanker(model).rank(HISTORIES, 4), UserRanker(again.network).rank(HISTORIES, 4),
        strict=True,
    ):  # fmt: skip
        np.testing.assert_array_equal(one.items, other.items)
    with torch.inference_mode():
        together = model(torch.tensor([[3, 1]]))
        torch.testing.assert_close(
            together[0, 2], model.last_states([rows(3, 1)])[0], atol=1e-5, rtol=1e-4
        )


def test_models_that_cannot_be_used_are_named(tmp_path):
    with pytest.raises(DependencyError, match="molar.language_model"):
        pretrained_body(str(tmp_path), revision=None, dtype=torch.float32)
    with pytest.raises(ConfigError, match="multiple of twice the heads"):
        body_from_scratch(hidden=30, layers=1, heads=4, feed_forward=8, max_tokens=8)
    from transformers import T5Config, T5Model

    T5Model(
        T5Config(vocab_size=8, d_model=8, d_kv=4, d_ff=8, num_layers=1, num_heads=2)
    ).save_pretrained(tmp_path / "t5")
    with pytest.raises(ConfigError, match="encoder-decoder"):
        pretrained_body(str(tmp_path / "t5"), revision=None, dtype=torch.float32, quiet=True)

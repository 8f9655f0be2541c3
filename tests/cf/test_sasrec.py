import numpy as np
import pytest
import torch

from genrec.cf.sasrec import Block, SasRec
from genrec.cf.sasrec_ranker import SasRecRanker
from genrec.errors import ArtifactError, ConfigError, RequestError
from tests.cf.worlds import arrays


def network(items=30, max_history=6, **settings):
    torch.manual_seed(0)
    made = SasRec(items, dimensions=8, layers=2, heads=2, max_history=max_history, **settings)
    # Larger than at the start of training, so that every part has a visible effect.
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return made.eval()


def test_a_block_equals_the_pre_norm_layer_of_torch():
    torch.manual_seed(1)
    block = Block(8, 2, dropout=0.0)
    layer = torch.nn.TransformerEncoderLayer(
        8, 2, 32, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
    )
    layer.load_state_dict(
        {
            "self_attn.in_proj_weight": block.query_key_value.weight,
            "self_attn.in_proj_bias": block.query_key_value.bias,
            "self_attn.out_proj.weight": block.output.weight,
            "self_attn.out_proj.bias": block.output.bias,
            "linear1.weight": block.expand.weight,
            "linear1.bias": block.expand.bias,
            "linear2.weight": block.contract.weight,
            "linear2.bias": block.contract.bias,
            "norm1.weight": block.attention_norm.weight,
            "norm1.bias": block.attention_norm.bias,
            "norm2.weight": block.feed_forward_norm.weight,
            "norm2.bias": block.feed_forward_norm.bias,
        }
    )
    states = torch.randn(3, 5, 8)
    later = torch.nn.Transformer.generate_square_subsequent_mask(5)
    torch.testing.assert_close(block(states), layer(states, src_mask=later, is_causal=True))


def test_a_state_reads_no_later_item():
    model = network()
    lengths = torch.tensor([5])
    rows = torch.tensor([[30, 1, 2, 3, 4]])
    states = model(rows, lengths)
    changed = model(torch.tensor([[30, 1, 2, 9, 8]]), lengths)
    torch.testing.assert_close(states[:, :3], changed[:, :3])
    assert not torch.allclose(states[:, 3:], changed[:, 3:])


def test_padding_changes_nothing():
    model = network()
    histories = arrays([], [4], [3, 2, 1], [5, 6, 7, 8, 9, 10])
    together = model.last_states(histories)
    alone = torch.cat([model.last_states([history]) for history in histories])
    torch.testing.assert_close(together, alone)


def test_only_the_newest_items_are_read():
    model = network(max_history=3)
    long, short, other = model.last_states(arrays([9, 9, 1, 2, 3], [1, 2, 3], [9, 2, 3]))
    torch.testing.assert_close(long, short)
    assert not torch.allclose(short, other)


def test_dropout_is_off_outside_training():
    model = network(dropout=0.9)
    first, second = model.last_states(arrays([1, 2])), model.last_states(arrays([1, 2]))
    torch.testing.assert_close(first, second, rtol=0, atol=0)


def test_heads_must_share_the_width():
    with pytest.raises(ConfigError, match="multiple of cf.heads"):
        SasRec(5, dimensions=10, heads=4)


def test_ranking_equals_sorting_all_scores(monkeypatch):
    # Small bounds, so that several batches are needed.
    monkeypatch.setattr("genrec.cf.scoring.POSITIONS_PER_BATCH", 12)
    monkeypatch.setattr("genrec.cf.scoring.SCORES_PER_BATCH", 90)
    model = network()
    generator = np.random.default_rng(0)
    histories = arrays(*(generator.integers(0, 30, size=size) for size in (3, 0, 9, 1, 5, 2, 6)))
    excluded = arrays(*(generator.integers(0, 30, size=size) for size in (0, 5, 9, 25, 1, 2, 3)))
    rankings = SasRecRanker(model).rank(histories, 12, exclude=excluded)
    vectors = model.item_vectors.weight.detach().numpy()[:30]
    for ranking, history, rows in zip(rankings, histories, excluded, strict=True):
        scores = vectors @ model.last_states([history])[0].detach().numpy()
        eligible = [item for item in range(30) if item not in set(rows.tolist())]
        expected = sorted(eligible, key=lambda item: -scores[item])[:12]
        assert ranking.items.tolist() == expected
        np.testing.assert_allclose(ranking.scores, scores[expected], rtol=1e-4, atol=1e-5)


def test_gives_every_eligible_item_when_k_is_larger_than_the_catalogue():
    (ranking,) = SasRecRanker(network(items=4)).rank(arrays([1]), 9, exclude=arrays([1, 0]))
    assert sorted(ranking.items.tolist()) == [2, 3]


def test_unknown_rows_are_refused():
    with pytest.raises(RequestError, match="rows 0 to 29"):
        SasRecRanker(network()).rank(arrays([30]), 3)


def test_no_histories_give_no_rankings():
    assert SasRecRanker(network()).rank([], 3) == []


def test_user_vectors_are_the_last_states():
    model = network()
    histories = arrays([1, 2, 3], [], [4])
    vectors = SasRecRanker(model).user_vectors(histories)
    np.testing.assert_allclose(
        vectors, model.last_states(histories).detach().numpy(), rtol=1e-4, atol=1e-5
    )


def test_comes_back_from_disk(tmp_path):
    ranker = SasRecRanker(network())
    ranker.save(tmp_path)
    again = SasRecRanker.load(tmp_path)
    histories = arrays([1, 2], [], [3])
    for one, other in zip(ranker.rank(histories, 5), again.rank(histories, 5), strict=True):
        assert one.items.tolist() == other.items.tolist()
        assert one.scores.tolist() == other.scores.tolist()
    assert again.name == "sasrec"
    np.testing.assert_array_equal(again.item_vectors(), ranker.item_vectors())


def test_files_that_do_not_belong_together_are_refused(tmp_path):
    SasRecRanker(network()).save(tmp_path)
    wrong = (tmp_path / "sasrec.json").read_text().replace('"items": 30', '"items": 31')
    (tmp_path / "sasrec.json").write_text(wrong)
    with pytest.raises(ArtifactError, match="does not fit sasrec.json"):
        SasRecRanker.load(tmp_path)
    (tmp_path / "sasrec.json").write_text("{")
    with pytest.raises(ArtifactError, match="sasrec.json cannot be read"):
        SasRecRanker.load(tmp_path)

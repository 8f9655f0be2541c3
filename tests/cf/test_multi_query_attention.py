"""Long and short queries: against attention written out position by position, and causality."""

import math

import pytest
import torch

from genrec.cf.sasrec import Block, SasRec, window_means
from genrec.errors import ConfigError
from tests.cf.worlds import arrays

WINDOW, SHARE = 3, 0.3


def network(**settings):
    torch.manual_seed(0)
    options = {"query_window": WINDOW, "long_share": SHARE} | settings
    made = SasRec(30, dimensions=8, layers=2, heads=2, max_history=6, **options)
    # Larger than at the start of training, so that every part has a visible effect.
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return made.eval()


def attend(query, keys, values):
    """One query over the positions up to its own, as sums of numbers."""
    scores = [sum(q * k for q, k in zip(query, key, strict=True)) for key in keys]
    weights = [math.exp(score / math.sqrt(len(query))) for score in scores]
    return [
        sum(weight * value[column] for weight, value in zip(weights, values, strict=True))
        / sum(weights)
        for column in range(len(query))
    ]


def test_a_block_is_the_mix_of_two_attentions_written_out():
    torch.manual_seed(1)
    block = Block(8, 2, dropout=0.0, query_window=WINDOW, long_share=SHARE).eval()
    states = torch.randn(1, 5, 8)
    mixed = block.query_key_value(block.attention_norm(states))[0].tolist()
    rows = []
    for position in range(5):
        row = []
        for head in range(2):
            part = slice(4 * head, 4 * head + 4)
            queries, keys, values = (
                [mixed[i][8 * kind : 8 * kind + 8][part] for i in range(position + 1)]
                for kind in range(3)
            )
            newest = queries[-WINDOW:]
            mean = [sum(query[c] for query in newest) / len(newest) for c in range(4)]
            short, long = attend(queries[-1], keys, values), attend(mean, keys, values)
            row += [(1 - SHARE) * s + SHARE * o for s, o in zip(short, long, strict=True)]
        rows.append(row)
    wanted = states + block.output(torch.tensor([rows]))
    hidden = torch.nn.functional.gelu(block.expand(block.feed_forward_norm(wanted)))
    torch.testing.assert_close(block(states), wanted + block.contract(hidden))


def test_a_mean_over_one_position_is_the_position():
    queries = torch.randn(2, 3, 4, 5)
    torch.testing.assert_close(window_means(queries, 1), queries, rtol=0, atol=0)
    means = window_means(queries, 10)
    torch.testing.assert_close(means[:, :, 3], queries.mean(2))


def test_without_a_long_query_it_is_sasrec():
    torch.manual_seed(0)
    plain = network(query_window=1, long_share=0.0)
    histories = arrays([], [4], [3, 2, 1], [5, 6, 7, 8, 9, 10])
    wanted = plain.last_states(histories)
    for same in (network(long_share=0.0), network(query_window=1, long_share=1.0)):
        torch.testing.assert_close(same.last_states(histories), wanted)
    assert not torch.allclose(network().last_states(histories)[1:], wanted[1:], atol=1e-3)


def test_a_later_item_never_changes_an_earlier_state():
    model = network(long_share=1.0)
    lengths = torch.tensor([6])
    rows = torch.tensor([[30, 1, 2, 3, 4, 5]])
    states = model(rows, lengths)
    for position in range(1, 6):
        other = rows.clone()
        other[0, position] = 17
        changed = model(other, lengths)
        torch.testing.assert_close(states[:, :position], changed[:, :position], rtol=0, atol=0)
        assert not torch.allclose(states[:, position:], changed[:, position:])


def test_padding_changes_nothing():
    model = network()
    histories = arrays([], [4], [3, 2, 1], [5, 6, 7, 8, 9, 10])
    together = model.last_states(histories)
    alone = torch.cat([model.last_states([history]) for history in histories])
    torch.testing.assert_close(together, alone)


@pytest.mark.parametrize("wrong", [{"query_window": 0}, {"long_share": 1.5}, {"long_share": -0.1}])
def test_settings_that_mean_nothing_are_refused(wrong):
    with pytest.raises(ConfigError, match=r"window of at least 1 and a share from 0 to 1"):
        network(**wrong)

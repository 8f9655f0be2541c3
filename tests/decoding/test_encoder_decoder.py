"""Readers of encoder-decoder models against the library's own passes and its own beam search."""

import numpy as np
import pytest
import torch
from transformers import PegasusConfig, PegasusForConditionalGeneration

from genrec.decoding.beam_rows_reader import BeamRowsReader
from genrec.decoding.encoder_decoder import encoder_decoder_reader
from genrec.decoding.ranker import GenerativeRanker
from genrec.decoding.t5_reader import T5Reader
from genrec.errors import ArtifactError
from genrec.model.prompts import pad_left, pad_right
from genrec.semantic_ids.item_index import ItemIndex
from tests.decoding.tiny_models import ENCODER_DECODERS, tiny_model

ITEMS, LEVELS = 40, 4
T5_KINDS = [kind for kind in ENCODER_DECODERS if "t5" in kind]


def generative(kind, form="stream"):
    every = np.stack(np.meshgrid(*[range(4)] * LEVELS, indexing="ij"), -1).reshape(-1, LEVELS)
    rows = np.random.default_rng(0).permutation(len(every))[:ITEMS]
    return tiny_model(ItemIndex(every[rows].astype(np.int32), (4,) * LEVELS, {}), kind, form)


def padded(model, histories, pad):
    table = model.vocabulary.tokens(model.index.codes)
    return [torch.from_numpy(part) for part in pad(model.prompts.encode(histories, table), 0)]


HISTORIES = [np.asarray(rows, dtype=np.int32) for rows in ([], [3], [5, 1, 9], list(range(12)))]
READERS = [
    *[(kind, T5Reader) for kind in T5_KINDS],
    *[(k, BeamRowsReader) for k in ENCODER_DECODERS],
]


@pytest.mark.parametrize(("kind", "reader"), READERS)
@torch.no_grad()
def test_beams_see_the_history_and_their_own_path(kind, reader):
    """Every beam's hidden state is that of its whole path read alone; widths may change."""
    model = generative(kind).language_model
    tokens = torch.randint(3, 19, (2, 6), generator=torch.Generator().manual_seed(1))
    real = torch.ones(2, 6, dtype=torch.bool)
    real[1, 2:] = False
    run = reader(model, tokens, real)

    def alone(request, path):
        read = model.get_encoder()(input_ids=tokens[request : request + 1, : real[request].sum()])
        own = torch.tensor([[model.config.decoder_start_token_id, *path]])
        return model.get_decoder()(
            input_ids=own, encoder_hidden_states=read.last_hidden_state
        ).last_hidden_state[0, -1]

    first = run.prompt()
    for request in range(2):
        torch.testing.assert_close(first[request], alone(request, []), atol=1e-4, rtol=1e-4)
    generator = np.random.default_rng(2)
    paths, seen = [[()], [()]], torch.zeros(2, 1, 0, dtype=torch.bool)
    for level, width in enumerate([3, 5, 2]):
        codes = generator.integers(3, 19, (2, width))
        parents = generator.integers(0, len(paths[0]), (2, width))
        paths = [
            [(*paths[b][p], int(c)) for p, c in zip(parents[b], codes[b], strict=True)]
            for b in range(2)
        ]
        above = seen.gather(1, torch.tensor(parents)[:, :, None].expand(-1, -1, seen.shape[2]))
        own = torch.eye(width, dtype=torch.bool).expand(2, -1, -1)
        seen = torch.cat([above, own], dim=2)
        hidden = run.beams(torch.tensor(codes), level, seen)
        for request in range(2):
            for beam in range(width):
                want = alone(request, paths[request][beam])
                torch.testing.assert_close(hidden[request, beam], want, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("kind", ENCODER_DECODERS)
@pytest.mark.parametrize("width", [2, 7, ITEMS])
def test_it_finds_what_generate_finds(kind, width):
    """The beam search of transformers, kept to the catalogue, gives the same items and scores."""
    model = generative(kind)
    language_model = model.language_model
    table = model.vocabulary.tokens(model.index.codes).tolist()
    row_of = {tuple(tokens): row for row, tokens in enumerate(table)}

    def allowed(_batch, tokens):
        path = tokens.tolist()[1:]
        below = {own[len(path)] for own in table if own[: len(path)] == path}
        return sorted(below)

    tokens, real = padded(model, HISTORIES, pad_right)
    found = language_model.generate(
        input_ids=tokens,
        attention_mask=real.long(),
        prefix_allowed_tokens_fn=allowed,
        num_beams=width,
        num_return_sequences=width,
        max_new_tokens=LEVELS,
        do_sample=False,
        length_penalty=0.0,
        return_dict_in_generate=True,
        output_scores=True,
    )
    rows = [row_of[tuple(path)] for path in found.sequences[:, 1:].tolist()]
    scores = found.sequences_scores.view(len(HISTORIES), width).numpy()
    ranker = GenerativeRanker(model, beam=width, score="exact", new_item_weight=0)
    rankings = ranker.rank(HISTORIES, width)
    for request, ranking in enumerate(rankings):
        assert ranking.items.tolist() == rows[request * width : (request + 1) * width]
        np.testing.assert_allclose(ranking.scores, scores[request], atol=1e-4)


@pytest.mark.parametrize(("kind", "reader"), [each for each in READERS if each[0] != "bart"])
@torch.no_grad()
def test_the_side_of_the_padding_changes_nothing(kind, reader):
    """T5 knows distances only, so where the padding stands is of no meaning."""
    model = generative(kind)
    codes = torch.tensor([[3, 7], [4, 8], [5, 9], [6, 10]])
    seen = torch.eye(2, dtype=torch.bool).expand(4, -1, -1)
    states = []
    for pad in (pad_left, pad_right):
        run = reader(model.language_model, *padded(model, HISTORIES, pad))
        states.append((run.prompt(), run.beams(codes, 0, seen)))
    for left, right in zip(*states, strict=True):
        torch.testing.assert_close(left, right, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", ENCODER_DECODERS)
@torch.no_grad()
def test_the_keys_of_the_history_are_computed_once_a_request(kind):
    model = generative(kind).language_model
    width = model.config.d_model
    reads = []
    for name, module in model.named_modules():
        if name.endswith(("EncDecAttention.k", "encoder_attn.k_proj")):
            module.register_forward_hook(lambda _m, given, _o: reads.append(given[0].shape))
    tokens = torch.randint(3, 19, (2, 6), generator=torch.Generator().manual_seed(1))
    run = encoder_decoder_reader(model, tokens, torch.ones_like(tokens, dtype=torch.bool))
    run.prompt()
    own = torch.eye(5, dtype=torch.bool).expand(2, -1, -1)
    run.beams(torch.randint(3, 19, (2, 5)), 0, own)
    run.beams(torch.randint(3, 19, (2, 5)), 1, torch.cat([own, own], dim=2))
    layers = len(model.get_decoder().block if "t5" in kind else model.get_decoder().layers)
    assert reads == [(2, 6, width)] * layers


@pytest.mark.parametrize("kind", T5_KINDS)
@torch.no_grad()
def test_in_bfloat16_it_is_as_near_to_float32_as_the_library_is(kind):
    model = generative(kind).language_model
    tokens = torch.randint(3, 19, (2, 6), generator=torch.Generator().manual_seed(1))
    start = torch.zeros(2, 1, dtype=torch.int64)

    def read():
        return model(
            input_ids=tokens, decoder_input_ids=start, output_hidden_states=True
        ).decoder_hidden_states[-1][:, -1]

    truth = read()
    model.to(torch.bfloat16)
    ours = T5Reader(model, tokens, torch.ones_like(tokens, dtype=torch.bool)).prompt()
    assert ours.dtype == torch.bfloat16
    assert (ours - truth).norm() < 2 * (read() - truth).norm() + 1e-3


def test_other_encoder_decoders_are_refused():
    model = generative("bart")
    config = PegasusConfig(
        vocab_size=19, d_model=16, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2,
        decoder_attention_heads=2, encoder_ffn_dim=16, decoder_ffn_dim=16,
    )  # fmt: skip
    other = type(model)(
        **{**model.__dict__, "language_model": PegasusForConditionalGeneration(config)}
    )
    with pytest.raises(ArtifactError, match="type pegasus; those that can be searched are t5"):
        GenerativeRanker(other)

"""What vLLM must be told so that its lists are items, and what happens when it is told otherwise.

The lists themselves are compared with those of other engines in ``tests/serving/test_engines.py``.
"""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from genrec.decoding import vllm_engine
from genrec.decoding.ranker import GenerativeRanker
from genrec.decoding.trie import PrefixTrie
from genrec.decoding.trie_scores import TrieScores
from genrec.decoding.vllm_engine import VllmEngine
from genrec.errors import ConfigError, DependencyError
from genrec.model.generative import GenerativeModel
from tests.model.test_language_model import pretrained
from tests.tiny_run import trained

# What vLLM and the packages it imports warn of is not ours to mend.
pytestmark = [pytest.mark.vllm, pytest.mark.slow, pytest.mark.filterwarnings("ignore")]
# A first level with more codes than vLLM scores by name.
SHAPE = (
    "data.store.items=200", "data.store.users=200", "train.scratch.hidden=64",
    "train.scratch.heads=2", "train.scratch.feed_forward=64", "train.max_steps=30",
    "index.levels=2", "index.codes_per_level=160",
)  # fmt: skip
HISTORIES = [np.asarray(rows, dtype=np.int32) for rows in ([], [3], [5, 1, 9], list(range(25)))]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return trained(tmp_path_factory.mktemp("vllm") / "run", *SHAPE) / "model"


@pytest.fixture(scope="module")
def model(folder):
    return GenerativeModel.load(folder, device=torch.device("cpu"), dtype=torch.float32)


def opened(folder, model, **more):
    return VllmEngine(folder, model, dtype=torch.float32, **more)


@pytest.fixture(scope="module")
def exact(folder, model):
    return opened(folder, model, score="exact", options={"max_logprobs": 400})


def test_exact_scores_are_those_of_torch_also_where_a_node_has_many_children(exact, model):
    widest = max(level.widest for level in PrefixTrie.from_index(model.index).levels)
    assert widest > vllm_engine.MOST_NAMED
    ours = GenerativeRanker(model, beam=10, score="exact")
    theirs = GenerativeRanker(model, beam=10, engine=exact)
    assert theirs.score == "exact"
    for found, want in zip(theirs.rank(HISTORIES, 10), ours.rank(HISTORIES, 10), strict=True):
        assert found.items.tolist() == want.items.tolist()
        np.testing.assert_allclose(found.scores, want.scores, atol=1e-3)


def test_the_beam_search_of_vllm_finds_the_same_items(exact, model):
    from vllm.sampling_params import BeamSearchParams

    ours = GenerativeRanker(model, beam=20, score="exact", new_item_weight=0)
    tokens = model.vocabulary.tokens(model.index.codes)
    prompts = model.prompts.encode(HISTORIES, tokens)
    answers = exact.llm.beam_search(
        [{"prompt_token_ids": prompt.tolist()} for prompt in prompts],
        BeamSearchParams(beam_width=20, max_tokens=model.index.levels, ignore_eos=True),
    )
    rankings = ours.rank(HISTORIES, 20)
    for prompt, ranking, answer in zip(prompts, rankings, answers, strict=True):
        found = [tuple(beam.tokens[len(prompt) :]) for beam in answer.sequences]
        wanted = [tuple(tokens[row].tolist()) for row in ranking.items]
        assert len(set(wanted)) == len(wanted)
        assert found == wanted


def test_an_answer_that_leads_to_no_item_is_refused(exact, model):
    outside = [exact.outsider()]
    with pytest.raises(DependencyError, match="lead to an item"):
        exact.ask([list(model.prompts.before)], [outside])


# A process holds one vLLM at a time: from here on the engine above is no longer used.
@pytest.mark.parametrize("mode", ["raw_logprobs", "raw_logits", "processed_logprobs"])
def test_modes_that_rank_by_other_scores_are_refused(folder, model, mode):
    with pytest.raises(DependencyError, match=f"logprobs_mode='{mode}'"):
        opened(folder, model, options={"logprobs_mode": mode})


def test_the_first_answer_shows_whether_the_constraint_holds(folder, model, monkeypatch):
    """The default of vLLM, taken for the right mode: the trial finds that it is not."""
    monkeypatch.setattr(vllm_engine, "LOGPROBS_MODE", "raw_logprobs")
    with pytest.raises(DependencyError, match="logits processor is not at work"):
        opened(folder, model)


@pytest.mark.parametrize("device", ["cuda", "cuda:1", "mps"])
def test_a_device_that_vllm_was_not_built_for_is_refused(folder, model, device):
    from vllm.platforms import current_platform

    if current_platform.device_type == "cuda" and device == "cuda":
        pytest.skip("this vLLM was built for it")
    with pytest.raises(ConfigError, match="was built for"):
        opened(folder, model, device=device)


def test_a_model_that_vllm_cannot_run_is_refused_with_a_way_out(tmp_path):
    """The CPU backend has no attention for heads of 8."""
    narrow = trained(tmp_path / "run") / "model"
    small = GenerativeModel.load(narrow, device=torch.device("meta"))
    with pytest.raises(DependencyError, match="cannot run .* set runtime.engine to torch"):
        opened(narrow, small)


@pytest.mark.parametrize("tied", [True, False])
def test_merged_models_with_tied_and_separate_heads_give_the_lists_of_torch(tied, tmp_path):
    language_model, tokenizer = pretrained(tied)
    language_model.save_pretrained(tmp_path / "base")
    tokenizer.save_pretrained(tmp_path / "base")
    base = f"train.language_model={tmp_path / 'base'}"
    lora = ("train.lora.rank=4", "train.teacher_weight=0", "train.form=instruction")
    folder = trained(tmp_path / "run", *SHAPE, base, *lora) / "model"
    assert (folder / "adapter").is_dir()
    model = GenerativeModel.load(folder, device=torch.device("cpu"), dtype=torch.float32)
    assert model.language_model.config.tie_word_embeddings == tied
    ours = GenerativeRanker(model, beam=8)
    theirs = GenerativeRanker(model, beam=8, engine=opened(folder, model))
    for found, want in zip(theirs.rank(HISTORIES, 8), ours.rank(HISTORIES, 8), strict=True):
        assert found.items.tolist() == want.items.tolist()
        np.testing.assert_allclose(found.scores, want.scores, atol=1e-3)


@pytest.fixture
def configured(model, tmp_path):
    trie = PrefixTrie.from_index(model.index)
    trie.save(tmp_path)
    settings = {
        "trie": str(tmp_path), "vocabulary": model.vocabulary.to_dict(), "score": "level",
    }  # fmt: skip
    config = SimpleNamespace(additional_config={"genrec": settings}, speculative_config=None)
    return config, TrieScores(trie, model.vocabulary, "level")


def rows_of_logits(model, count):
    words = model.language_model.get_output_embeddings().weight.shape[0]
    return torch.randn(count, words, generator=torch.Generator().manual_seed(0))


def test_the_processor_of_runner_v1_follows_rows_that_come_go_and_move(configured, model):
    from vllm import SamplingParams
    from vllm.v1.sample.logits_processor import BatchUpdate, MoveDirectionality

    from genrec.decoding.vllm_processor import TrieProcessorV1

    config, scores = configured
    processor = TrieProcessorV1(config, torch.device("cpu"), False)
    assert not processor.is_argmax_invariant()
    begin = [model.vocabulary.level_range(0).start + code for code in range(3)]
    start, params, grown = model.prompts.before[0], SamplingParams(), []

    def check(tails):
        logits = rows_of_logits(model, len(tails))
        want = scores.apply(logits.clone(), torch.tensor(tails).unsqueeze(1))
        assert torch.equal(processor.apply(logits), want)

    added = [(0, params, [start], []), (1, params, [start, begin[0]], []),
             (2, params, [start], grown)]  # fmt: skip
    processor.update_state(BatchUpdate(batch_size=3, removed=[], added=added, moved=[]))
    check([start, begin[0], start])
    grown.append(begin[2])
    processor.update_state(None)
    check([start, begin[0], begin[2]])
    move = [(2, 0, MoveDirectionality.UNIDIRECTIONAL)]
    processor.update_state(BatchUpdate(batch_size=2, removed=[0], added=[], moved=move))
    check([begin[2], begin[0]])


def test_the_processor_of_runner_v2_reads_the_history_on_the_device(configured, model):
    from genrec.decoding.vllm_processor import TrieProcessorV2

    config, scores = configured
    start = model.prompts.before[0]
    begin = [model.vocabulary.level_range(0).start + code for code in range(3)]
    history = torch.zeros(4, 6, dtype=torch.int32)
    history[3, :2] = torch.tensor([start, begin[1]])
    history[1, :1] = start
    history[2, :4] = torch.tensor([start, begin[0], begin[2], begin[0]])
    states = SimpleNamespace(device=torch.device("cpu"), all_token_ids=SimpleNamespace(gpu=history))
    rows = SimpleNamespace(
        expanded_idx_mapping=torch.tensor([3, 1, 2], dtype=torch.int32),
        pos=torch.tensor([1, 0, 3]),
    )
    logits = rows_of_logits(model, 3)
    tails = torch.tensor([[begin[1]], [start], [begin[0]]])
    want = scores.apply(logits.clone(), tails)
    processor = TrieProcessorV2(config, states)
    assert processor.add_request(0, None)
    assert torch.equal(processor.apply(logits, rows), want)
    config.speculative_config = object()
    with pytest.raises(ValueError, match="speculative"):
        TrieProcessorV2(config, states)

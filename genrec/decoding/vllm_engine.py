"""The search with vLLM as the engine: large models on GPUs, many requests at a time.

vLLM reads the prompts and scores codes; which items come back is decided by the same search, with
the same rules, as with every other engine. Each level asks for one token after every beam, and
vLLM's prefix cache keeps what was read of the history.

vLLM ranks by logits that no processor has touched unless it is told otherwise, and a constraint is
then void without a word. So the engine is configured here, tried once before it is used, and each
of its answers is checked.
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray

from genrec.decoding.trie import PrefixTrie
from genrec.decoding.vllm_scorer import Tokens, VllmScorer
from genrec.errors import ConfigError, DependencyError
from genrec.model.code_head import Score, trained_score
from genrec.model.generative import GenerativeModel

INSTALL = (
    "install it into an environment of its own: on NVIDIA GPUs `pip install 'genrec[vllm]'`, on a "
    "CPU as docs/vllm.md says; or set runtime.engine to torch"
)
# The one mode in which scores are handed out as the processor left them.
LOGPROBS_MODE = "processed_logits"
# Tokens that vLLM scores by name; of more, the best are asked for.
MOST_NAMED = 128
# On a CPU vLLM would take most of the memory for what it keeps of prompts.
CPU_CACHE_BYTES = 2 * 2**30
# The smallest block of the CPU backend: what fills no block is read again for every beam.
CPU_BLOCK_TOKENS = 32


class VllmEngine:
    """Runs the model in vLLM; implements ``Engine``.

    Args:
        folder: The model folder.
        model: What the folder holds, perhaps with a later generation of its index; its weights
            are not used and may be on the ``meta`` device.
        dtype: Number type of the weights.
        device: ``auto``, or the kind of device (``cpu``, ``cuda``) that vLLM must be built for.
        score: See ``CodeHead``; None takes what the model was trained for.
        trie: The catalogue; None builds it.
        options: More arguments of ``vllm.LLM``, such as ``tensor_parallel_size``.

    Raises:
        DependencyError: When vLLM is not installed, cannot run the model, or does not keep to the
            catalogue.
        ConfigError: When vLLM was built for another device, or the model has an encoder.
    """

    name = "vllm"
    device = torch.device("cpu")
    # vLLM keeps what it read by its own rules and does not tell here.
    prefix_cache_stats = None

    def __init__(
        self,
        folder: Path,
        model: GenerativeModel,
        *,
        dtype: torch.dtype,
        device: str = "auto",
        score: Score | None = None,
        trie: PrefixTrie | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        if model.is_encoder_decoder:
            raise ConfigError(
                f"{folder} is an encoder-decoder, which genrec runs in torch only; set "
                "runtime.engine to torch."
            )
        self.score: Score = score or trained_score(model.facts)
        self._vocabulary = model.vocabulary
        self._trie = trie or PrefixTrie.from_index(model.index)
        # The processor may live in another process, so it gets the trie as a file. What vLLM reads
        # it has read when it is open.
        with TemporaryDirectory(prefix="genrec-vllm-") as files:
            settings = self._settings(folder, Path(files), model, dtype)
            try:
                self.llm = open_llm({**settings, **(options or {})}, device)
                verify(self, model.prompts.before)
            except (ValueError, RuntimeError) as error:
                raise DependencyError(
                    f"vLLM cannot run {folder} ({error}). If that is not for want of memory, it "
                    "does not know this kind of model; set runtime.engine to torch."
                ) from error

    def _settings(
        self, folder: Path, files: Path, model: GenerativeModel, dtype: torch.dtype
    ) -> dict[str, Any]:
        """Write what vLLM shall read and return its arguments."""
        self._trie.save(files)
        catalogue = {
            "trie": str(files),
            "vocabulary": model.vocabulary.to_dict(),
            "score": self.score,
        }
        return {
            "model": str(_weights_alone(folder, files / "model")),
            "dtype": str(dtype).removeprefix("torch."),
            "max_model_len": model.prompts.longest(model.index.levels),
            "max_logprobs": max(level.widest for level in self._trie.levels),
            "logprobs_mode": LOGPROBS_MODE,
            "enable_prefix_caching": True,
            "generation_config": "vllm",
            "use_tqdm_on_load": False,
            "additional_config": {"genrec": catalogue},
        }

    def scorer(self, prompts: Sequence[NDArray[np.int64]], width: int) -> VllmScorer:
        """Return what scores codes after prompts; see ``Engine.scorer``."""
        return VllmScorer(self.ask, self._trie, self._vocabulary, prompts)

    def ask(
        self, sequences: Sequence[Tokens], wanted: Sequence[Tokens]
    ) -> Sequence[Sequence[float]]:
        """Score given tokens after given sequences.

        Args:
            sequences: Token ids.
            wanted: For each sequence all tokens that may follow it.

        Returns:
            The scores of the wanted tokens, in their order.

        Raises:
            DependencyError: When an answer is not one that the catalogue allows.
        """
        answers: list[list[float]] = [[]] * len(sequences)
        # A batch of vLLM's runner V1 holds either named tokens or best ones, never both.
        for wide in (False, True):
            places = [n for n, tokens in enumerate(wanted) if (len(tokens) > MOST_NAMED) == wide]
            if not places:
                continue
            outputs = self.llm.generate(
                [{"prompt_token_ids": sequences[place]} for place in places],
                [_sampling(wanted[place], wide) for place in places],
                use_tqdm=False,
            )
            for place, output in zip(places, outputs, strict=True):
                answers[place] = _checked(output, wanted[place])
        return answers

    def outsider(self) -> int:
        """Return a token that no item begins with."""
        first = self._vocabulary.level_range(0).start
        begin = set((self._trie.levels[0].code.long() + first).tolist())
        return next(token for token in range(len(begin) + 1) if token not in begin)

    def first_tokens(self) -> Tokens:
        """Return the tokens that items begin with."""
        first = self._vocabulary.level_range(0).start
        return cast("Tokens", (self._trie.levels[0].code.long() + first).tolist())


def open_llm(settings: Mapping[str, Any], device: str = "auto") -> Any:  # noqa: ANN401
    """Start vLLM with the processor that fits its model runner.

    It runs in this process unless ``VLLM_ENABLE_V1_MULTIPROCESSING`` is 1: a process of its own
    takes a minute to start and takes a core from the model.

    Args:
        settings: Arguments of ``vllm.LLM``; what they leave open is set for the device.
        device: ``auto``, or the kind of device that vLLM must be built for.

    Raises:
        DependencyError: When vLLM is not installed.
        ConfigError: When vLLM was built for another device.
    """
    os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
    try:
        from vllm import LLM, EngineArgs
        from vllm.platforms import current_platform
    except ImportError as error:
        raise DependencyError(f"vLLM cannot be imported ({error}); {INSTALL}.") from error
    built_for = str(current_platform.device_type)
    if device not in ("auto", built_for):
        raise ConfigError(
            f"runtime.device is {device!r}, but this vLLM was built for {built_for!r}; set "
            f"runtime.device to {built_for} or auto (CUDA_VISIBLE_DEVICES chooses among GPUs), or "
            "runtime.engine to torch."
        )
    given = dict(settings)
    if built_for == "cpu":
        given.setdefault("enforce_eager", True)
        given.setdefault("block_size", CPU_BLOCK_TOKENS)
        if "VLLM_CPU_KVCACHE_SPACE" not in os.environ:
            given.setdefault("kv_cache_memory_bytes", CPU_CACHE_BYTES)
    runner = "V2" if EngineArgs(**given).create_engine_config().use_v2_model_runner else "V1"
    processor = f"genrec.decoding.vllm_processor:TrieProcessor{runner}"
    return LLM(**given, logits_processors=[processor])


def verify(engine: VllmEngine, prompt: Sequence[int]) -> None:
    """Refuse an engine that does not keep to the catalogue.

    Also warms it up: the first request takes vLLM far longer than any other.

    Args:
        engine: As it was opened.
        prompt: Token ids to try it on, at whose end an item begins.

    Raises:
        DependencyError: When its scores are not those of the processor.
    """
    mode = engine.llm.llm_engine.vllm_config.model_config.logprobs_mode
    if mode != LOGPROBS_MODE:
        raise DependencyError(
            f"vLLM runs with logprobs_mode={mode!r}, in which it ranks by other scores than those "
            f"of the catalogue; leave the option out, or give {LOGPROBS_MODE!r}."
        )
    outsider = engine.outsider()
    [output] = engine.llm.generate(
        [{"prompt_token_ids": list(prompt)}], [_sampling([outsider], False)], use_tqdm=False
    )
    scores = _scores(output)
    best = output.outputs[0].token_ids[0]
    if scores[outsider] > -torch.inf or best not in engine.first_tokens():
        raise DependencyError(
            f"vLLM gives token {outsider}, with which no item begins, the score "
            f"{scores[outsider]} and takes {best} for the best: genrec's logits processor is not "
            "at work. Use vLLM 0.32 or later and no options that switch processors off."
        )
    engine.ask([list(prompt)], [engine.first_tokens()])


def _weights_alone(folder: Path, into: Path) -> Path:
    """Link the files of the language model into a folder: vLLM reads all arrays it finds in one."""
    into.mkdir()
    for path in sorted(folder.resolve().iterdir()):
        of_genrec = path.suffix == ".safetensors" and not path.name.startswith("model")
        if path.is_file() and not of_genrec:
            (into / path.name).symlink_to(path)
    return into


def _sampling(wanted: Tokens, wide: bool) -> Any:  # noqa: ANN401 - vllm.SamplingParams
    """Return the parameters that make vLLM answer with the scores of tokens.

    Args:
        wanted: The tokens.
        wide: Ask for as many best tokens, which are the same ones as all others are struck out.
    """
    from vllm import SamplingParams

    asked: dict[str, Any] = {"logprobs": len(wanted)} if wide else {"logprob_token_ids": wanted}
    return SamplingParams(
        max_tokens=1,
        temperature=0.0,
        detokenize=False,
        flat_logprobs=True,
        skip_clone=True,
        **asked,
    )


def _scores(output: Any) -> dict[int, float]:  # noqa: ANN401 - vllm.RequestOutput
    [completion] = output.outputs
    if completion.logprobs is None:
        raise DependencyError(
            f"vLLM answered without scores (finish reason {completion.finish_reason!r}); "
            "a sequence may be longer than its max_model_len, or the engine has stopped."
        )
    return dict(zip(completion.logprobs.token_ids, completion.logprobs.logprobs, strict=True))


def _checked(output: Any, wanted: Tokens) -> list[float]:  # noqa: ANN401 - vllm.RequestOutput
    """Return the scores of the wanted tokens.

    Raises:
        DependencyError: When one is missing, or some other token is the best.
    """
    scores = _scores(output)
    found = [scores.get(token, -torch.inf) for token in wanted]
    [best] = output.outputs[0].token_ids
    if best not in wanted or not all(-torch.inf < score < torch.inf for score in found):
        raise DependencyError(
            f"vLLM answered {best} where only tokens {wanted[:8]}{'...' * (len(wanted) > 8)} lead "
            "to an item, or has no score for one of them; its lists cannot be trusted."
        )
    return found

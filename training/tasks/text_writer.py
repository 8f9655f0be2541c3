"""Texts from a language model on this machine, written once and kept in a file."""

import hashlib
import json
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
from transformers import GenerationConfig

from genrec.errors import ConfigError
from genrec.model.language_model import context_length, load_pretrained
from genrec.model.prompts import pad_left, start_token
from genrec.runtime import Runtime

logger = logging.getLogger(__name__)


class TextWriter(Protocol):
    """Answers prompts in words."""

    def write(self, prompts: Sequence[str]) -> list[str]:
        """Return one text a prompt, in order; an empty one where there is nothing to say."""
        ...


class TransformersWriter:
    """A causal language model of transformers that writes greedily; implements ``TextWriter``.

    Greedy, so that the same prompt gets the same text. Where the tokenizer has a chat template the
    prompt is a user's message in it.

    Args:
        model: ``smollm2``, a local folder or a hub id.
        revision: Pinned hub revision.
        runtime: Device and number type.
        most_tokens: Tokens of a text at most.
        batch_size: Prompts answered at once.

    Raises:
        DependencyError: When the model can be reached neither locally nor on the hub.
        ConfigError: When a prompt and its answer are longer than the model reads.
    """

    def __init__(
        self,
        model: str,
        *,
        revision: str | None = None,
        runtime: Runtime,
        most_tokens: int = 40,
        batch_size: int = 16,
    ) -> None:
        self._batch_size = batch_size
        loaded: Any
        loaded, self._tokenizer = load_pretrained(
            model,
            revision=revision,
            dtype=runtime.torch_dtype(),
            key="train.text_writer",
            quiet=runtime.quiet,
        )
        self._model = loaded
        self._model.to(runtime.torch_device()).eval()
        self._context = context_length(loaded)
        ends = {self._tokenizer.eos_token_id, *_ids(self._model.generation_config.eos_token_id)}
        # Whatever the model brings along, nothing is sampled.
        self._settings = GenerationConfig(
            max_new_tokens=most_tokens,
            do_sample=False,
            eos_token_id=sorted(end for end in ends if end is not None) or None,
            pad_token_id=self._pad,
        )

    @property
    def _pad(self) -> int:
        pad = self._tokenizer.pad_token_id
        return int(pad) if pad is not None else start_token(self._tokenizer)

    @torch.inference_mode()
    def write(self, prompts: Sequence[str]) -> list[str]:
        """Return the model's answer to each prompt as one line; see ``TextWriter.write``."""
        texts: list[str] = []
        for start in range(0, len(prompts), self._batch_size):
            texts.extend(self._answers(prompts[start : start + self._batch_size]))
        return texts

    def _answers(self, prompts: Sequence[str]) -> list[str]:
        encoded = [torch.tensor(self._encode(prompt)).numpy() for prompt in prompts]
        tokens, real = (
            torch.from_numpy(part).to(self._model.device) for part in pad_left(encoded, self._pad)
        )
        written = self._model.generate(
            input_ids=tokens, attention_mask=real.long(), generation_config=self._settings
        )
        answers = self._tokenizer.batch_decode(
            written[:, tokens.shape[1] :], skip_special_tokens=True
        )
        return [" ".join(answer.split()) for answer in answers]

    def _encode(self, prompt: str) -> list[int]:
        tokens = self._tokens(prompt)
        most = int(self._settings.max_new_tokens)
        if self._context is not None and len(tokens) + most > self._context:
            raise ConfigError(
                f"a prompt for the text writer has {len(tokens)} tokens and its answer up to "
                f"{most}, but the model reads {self._context}; lower train.task_texts.most_words "
                "or train.max_history, or choose another train.text_writer."
            )
        return tokens

    def _tokens(self, prompt: str) -> list[int]:
        if self._tokenizer.chat_template is None:
            tokens = self._tokenizer.encode(prompt + "\n", add_special_tokens=False)
            return [start_token(self._tokenizer), *tokens]
        text: Any = self._tokenizer.apply_chat_template(
            [{"role": "user", "content": prompt}], tokenize=False, add_generation_prompt=True
        )
        return list(self._tokenizer.encode(text, add_special_tokens=False))


def _ids(value: int | list[int] | None) -> list[int]:
    if value is None:
        return []
    return list(value) if isinstance(value, list) else [value]


class CachedWriter:
    """Keeps what a writer wrote in a file of JSON lines; implements ``TextWriter``.

    Every block of texts is on disk before the next is asked for, so a writing that was stopped
    goes on where it was. The model is loaded only when something is left to write.

    Args:
        name: Says which writer it is; texts of another one are not taken.
        make: Makes the writer.
        path: The file; texts are added to it.
        block: Prompts between two writes to the file.
    """

    def __init__(
        self, name: str, make: Callable[[], TextWriter], path: Path, *, block: int = 64
    ) -> None:
        self._name = name
        self._make = make
        self._path = path
        self._block = block

    def write(self, prompts: Sequence[str]) -> list[str]:
        """Return a text for each prompt, those on file as they are; see ``TextWriter.write``."""
        known = self._read()
        keys = [self._key(prompt) for prompt in prompts]
        asked = dict(zip(keys, prompts, strict=True))
        missing = {key: prompt for key, prompt in asked.items() if key not in known}
        if missing:
            logger.info(
                "%s writes %d texts (%d are in %s)",
                self._name,
                len(missing),
                len(asked) - len(missing),
                self._path,
            )
            self._add(missing, known)
        return [known[key] for key in keys]

    def _add(self, missing: dict[str, str], known: dict[str, str]) -> None:
        writer, wanted = self._make(), list(missing.items())
        with self._path.open("a", encoding="utf-8") as file:
            for start in range(0, len(wanted), self._block):
                part = wanted[start : start + self._block]
                texts = writer.write([prompt for _, prompt in part])
                for (key, _), text in zip(part, texts, strict=True):
                    known[key] = text
                    file.write(json.dumps({"key": key, "text": text}, ensure_ascii=False) + "\n")
                file.flush()
                logger.info("%d of %d texts are written", start + len(part), len(wanted))

    def _key(self, prompt: str) -> str:
        return hashlib.sha256(json.dumps([self._name, prompt]).encode()).hexdigest()

    def _read(self) -> dict[str, str]:
        """Return the texts on file; a line that was cut off is passed over and cut away."""
        if not self._path.is_file():
            return {}
        known: dict[str, str] = {}
        lines = self._path.read_bytes().split(b"\n")
        whole = lines[:-1]
        for number, line in enumerate(whole, start=1):
            try:
                entry = json.loads(line)
                known[str(entry["key"])] = str(entry["text"])
            except (ValueError, KeyError, TypeError) as error:
                logger.warning("%s, line %d cannot be read (%s)", self._path, number, error)
        if lines[-1]:
            logger.warning("%s ends in the middle of a text, which is written again", self._path)
            self._path.write_bytes(b"".join(line + b"\n" for line in whole))
        return known

"""Keys and values of prompts that were read, for prompts that begin in the same way.

A user comes back with a longer history: all but the end of the prompt was read before. Tokens are
kept in blocks, each of which hangs on the block before it, as in the automatic prefix caching of
vLLM (Kwon et al., "Efficient Memory Management for LLM Serving with PagedAttention", 2023). So what
prompts have in common lies in memory once, and a prompt that grew adds its new blocks only. A block
is found by its tokens and those of all blocks before it, compared whole, so it is never mistaken.
"""

import math
import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from genrec.decoding.tree_decoder import TreeDecoder
from genrec.errors import RequestError

# The number of the block before it (0 for the first one) and the tokens of a block.
_Key = tuple[int, bytes]


@dataclass(frozen=True)
class PrefixCacheStats:
    """What a cache did since it was made.

    Attributes:
        prompts: Prompts that were looked up.
        hits: Those of them of which a part was not read again.
        tokens_read: Tokens of all prompts that the model read.
        tokens_reused: Tokens of all prompts that it did not have to read.
        bytes_used: Bytes of the keys and values that are kept.
        bytes_limit: Bytes they may take.
    """

    prompts: int
    hits: int
    tokens_read: int
    tokens_reused: int
    bytes_used: int
    bytes_limit: int


@dataclass(frozen=True)
class _Block:
    """A block that is kept: its number, which no other ever had, and its place in memory."""

    number: int
    slot: int


class PrefixCache:
    """Keeps the keys and values of one decoder's prompts; the longest unused go first.

    All memory is taken at the start. ``lock`` has to be held around ``find`` and the ``load`` of
    what it found; ``keep`` takes it itself. Several threads may share a cache.

    Args:
        decoder: The model; another model needs a cache of its own.
        block: Tokens of a block, best those of one item.
        limit_bytes: Bytes that keys and values may take.

    Raises:
        RequestError: When the limit has no room for a single block.
    """

    def __init__(self, decoder: TreeDecoder, block: int, limit_bytes: int) -> None:
        shape = (2, len(decoder.layers), decoder.key_heads, block, decoder.head_size)
        self.block = block
        self.block_bytes = math.prod(shape) * decoder.dtype.itemsize
        # The first slot stays zero: it stands before prompts whose known beginning is the shorter.
        slots = limit_bytes // self.block_bytes
        if slots < 2:
            raise RequestError(
                f"prefix_cache_bytes is {limit_bytes}, which is too little: one item takes "
                f"{self.block_bytes} bytes, and there must be room for two. Give more, or 0 to "
                "keep nothing."
            )
        self.lock = threading.RLock()
        self._limit_bytes = limit_bytes
        self._pool = torch.empty((slots, *shape), dtype=decoder.dtype, device=decoder.device)
        self._pool[0] = 0
        self._free = list(range(slots - 1, 0, -1))
        self._capacity = slots - 1
        # Oldest use first; a block is always older than the one it hangs on.
        self._blocks: OrderedDict[_Key, _Block] = OrderedDict()
        self._numbers = 0
        self._prompts = self._hits = self._tokens_read = self._tokens_reused = 0

    @property
    def stats(self) -> PrefixCacheStats:
        """What the cache did so far."""
        return PrefixCacheStats(
            prompts=self._prompts,
            hits=self._hits,
            tokens_read=self._tokens_read,
            tokens_reused=self._tokens_reused,
            bytes_used=len(self._blocks) * self.block_bytes,
            bytes_limit=self._limit_bytes,
        )

    def find(self, prompt: NDArray[np.int64], at_least: int = 1) -> list[int]:
        """Return the slots of the known blocks that a prompt begins with.

        At least one token is left to be read, for the model has to answer after it.

        Args:
            prompt: Token ids.
            at_least: A beginning with fewer tokens is not worth it, and none is returned.
        """
        chain, _ = self._chain(prompt, (len(prompt) - 1) // self.block)
        self._touch(chain)
        slots = [self._blocks[key].slot for key in chain]
        if len(slots) * self.block < at_least:
            slots = []
        self._prompts += 1
        self._hits += bool(slots)
        self._tokens_reused += len(slots) * self.block
        self._tokens_read += len(prompt) - len(slots) * self.block
        return slots

    def load(self, found: Sequence[Sequence[int]], keys: Tensor, values: Tensor) -> None:
        """Put the blocks that were found for the prompts of a batch where they are read.

        Args:
            found: Slots of each prompt.
            keys: float[layers, B, heads, C, head size], filled from the right.
            values: As ``keys``.
        """
        count = keys.shape[3] // self.block
        slots = [[0] * (count - len(each)) + list(each) for each in found]
        taken = self._pool[torch.tensor(slots, device=self._pool.device)]
        for number, table in enumerate((keys, values)):
            # From [B, blocks, layers, heads, block, head size].
            blocks = taken[:, :, number].permute(2, 0, 3, 1, 4, 5)
            table.view(*table.shape[:3], count, self.block, -1).copy_(blocks)

    def keep(self, prompt: NDArray[np.int64], known: int, keys: Tensor, values: Tensor) -> None:
        """Keep the blocks of a prompt that was read.

        Args:
            prompt: Token ids.
            known: Blocks of the prompt that were not read.
            keys: float[layers, heads, T, head size] of the tokens after these.
            values: As ``keys``.
        """
        with self.lock:
            chain, number = self._chain(prompt, min(len(prompt) // self.block, self._capacity))
            # Now the newest, they do not make room for what hangs on them.
            self._touch(chain)
            places = range(len(chain), min(len(prompt) // self.block, self._capacity))
            if len(chain) < known or not places:
                # Others took the room of a block since it was found, or there is nothing new.
                return
            slots = [self._slot() for _ in places]
            try:
                self._store(slots, len(chain) - known, keys, values)
            except BaseException:
                self._free += slots
                raise
            for place, slot in zip(places, slots, strict=True):
                key = (number, self._tokens(prompt, place))
                self._numbers += 1
                number = self._numbers
                self._blocks[key] = _Block(number, slot)
                chain.append(key)
            self._touch(chain)

    def _chain(self, prompt: NDArray[np.int64], most: int) -> tuple[list[_Key], int]:
        """Return the keys of the known blocks a prompt begins with, and the number of the last."""
        chain: list[_Key] = []
        number = 0
        for place in range(most):
            key = (number, self._tokens(prompt, place))
            known = self._blocks.get(key)
            if known is None:
                break
            number = known.number
            chain.append(key)
        return chain, number

    def _store(self, slots: Sequence[int], first: int, keys: Tensor, values: Tensor) -> None:
        """Copy blocks that were read, from a first one on, into slots."""
        places = slice(first * self.block, (first + len(slots)) * self.block)
        index = torch.tensor(slots, device=self._pool.device)
        for number, table in enumerate((keys, values)):
            blocks = table[:, :, places]
            blocks = blocks.view(*blocks.shape[:2], len(slots), self.block, -1)
            self._pool[:, number].index_copy_(0, index, blocks.permute(2, 0, 1, 3, 4))

    def _slot(self) -> int:
        if self._free:
            return self._free.pop()
        _, oldest = self._blocks.popitem(last=False)
        return oldest.slot

    def _touch(self, chain: Sequence[_Key]) -> None:
        """Make the blocks of a prompt the newest, its first one last of all."""
        for key in reversed(chain):
            self._blocks.move_to_end(key)

    def _tokens(self, prompt: NDArray[np.int64], place: int) -> bytes:
        return prompt[place * self.block : (place + 1) * self.block].tobytes()

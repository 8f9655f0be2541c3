"""A batch of prompts of which only what is new is read."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from genrec.decoding.prefix_cache import PrefixCache
from genrec.decoding.tree_decoder import TreeDecoder, TreeState
from genrec.model.prompts import pad_left


class ReusingReader:
    """Reads a batch of prompts and their beams; implements ``Reader``.

    A row of the table of keys and values is [pad | known beginning][pad | new tokens]. Where some
    prompts of a batch have far less to read than others, the batch is read in two parts.

    Args:
        decoder: The model.
        cache: What is known of earlier prompts; what is read here is added to it.
        prompts: Token ids, one array a prompt.
        pad: Token id to fill with.
        multiple: The number of tokens read is rounded up to a multiple of this; a beginning that
            is shorter is not worth reusing.
        beams: Beams of all levels together that each prompt may get.
    """

    def __init__(
        self,
        decoder: TreeDecoder,
        cache: PrefixCache,
        prompts: Sequence[NDArray[np.int64]],
        *,
        pad: int,
        multiple: int,
        beams: int,
    ) -> None:
        self._cache, self._prompts = cache, prompts
        with cache.lock:
            self._found = [cache.find(prompt, multiple) for prompt in prompts]
            new = [
                len(prompt) - len(found) * cache.block
                for prompt, found in zip(prompts, self._found, strict=True)
            ]
            self._parts = _parts(new, multiple)
            self._states = [
                self._state(decoder, rows, pad, multiple, beams) for rows in self._parts
            ]
        rows = torch.tensor([row for part in self._parts for row in part])
        self._back = rows.argsort().to(decoder.device)

    def _state(
        self, decoder: TreeDecoder, rows: Sequence[int], pad: int, multiple: int, beams: int
    ) -> TreeState:
        """Return the table of some prompts, with what is known of them in its place."""
        block = self._cache.block
        found = [self._found[row] for row in rows]
        rest = [self._prompts[row][len(self._found[row]) * block :] for row in rows]
        tokens, real = (
            torch.from_numpy(array).to(decoder.device) for array in pad_left(rest, pad, multiple)
        )
        # Few widths here as well; a block more costs next to nothing.
        most = -(-max(len(each) for each in found) // 4) * 4
        if most == 0:
            return decoder.start(tokens, real, beams)
        places = torch.arange(most * block)
        first = torch.tensor([(most - len(each)) * block for each in found])
        known = (places >= first.unsqueeze(1)).to(decoder.device)
        state = decoder.start(tokens, real, beams, known)
        self._cache.load(found, *state.beginnings)
        return state

    def prompt(self) -> Tensor:
        """Read what is new of the prompts; return the last hidden state of each."""
        hidden = [state.prompt() for state in self._states]
        for rows, state in zip(self._parts, self._states, strict=True):
            keys, values = state.read
            for place, row in enumerate(rows):
                known = len(self._found[row])
                new = len(self._prompts[row]) - known * self._cache.block
                self._cache.keep(
                    self._prompts[row],
                    known,
                    keys[:, place, :, keys.shape[3] - new :],
                    values[:, place, :, values.shape[3] - new :],
                )
        return hidden[0] if len(hidden) == 1 else torch.cat(hidden)[self._back]

    def beams(self, tokens: Tensor, level: int, seen: Tensor) -> Tensor:
        """Read the last token of every beam; see ``Reader.beams``."""
        if len(self._states) == 1:
            return self._states[0].beams(tokens, level, seen)
        hidden = [
            state.beams(tokens[rows], level, seen[rows])
            for rows, state in zip(self._parts, self._states, strict=True)
        ]
        return torch.cat(hidden)[self._back]


def _parts(new: Sequence[int], multiple: int) -> list[list[int]]:
    """Return rows that are read together: all, or two parts where that halves what is read.

    Args:
        new: Tokens to read of each row.
        multiple: They are padded to a multiple of this, and to the most of their part.
    """
    order = sorted(range(len(new)), key=new.__getitem__)
    widths = [-(-new[row] // multiple) for row in order]
    places, cut = min(
        ((cut * widths[cut - 1] + (len(order) - cut) * widths[-1], cut)
         for cut in range(1, len(order))),
        default=(0, 0),
    )  # fmt: skip
    if cut == 0 or 2 * places > len(order) * widths[-1]:
        return [list(range(len(new)))]
    return [order[:cut], order[cut:]]

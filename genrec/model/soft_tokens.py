"""Soft tokens: token ids that stand for vectors instead of words.

A language model turns each id into a row of its embedding matrix. Ids past the last row are free;
here each of them means a vector from elsewhere, such as that of an item in a collaborative model,
brought to the model's width by a trained projection. As everything looks ids up through the
embedding layer, training, ``generate`` and the search read such ids like words, and what is keyed
by token ids, as the prefix cache is, tells them apart. The output layer knows nothing of them: a
model reads soft tokens and never writes one.

Ids from ``first`` on, in the order in which the sources were given::

    first + i                row i of the first table
    first + len(table) + i   row i of the next table
    ...                      vectors handed in with requests, the last source, without an end

A soft token may lie on another token: its vector is then added to that token's own embedding, so
that it costs no place in the sequence. The other token is a word, or one of an earlier source.
"""

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import PreTrainedModel

from genrec.errors import ConfigError, DataError, RequestError

NAME = "soft_tokens"
NOTHING = -1


class SoftTable(nn.Module):
    """Soft tokens for the rows of a table that does not change.

    Args:
        vectors: float32[n, d].
        projection: Makes float[m, hidden] of float32[m, d].
        beside: int64[n], the token that each lies on; None when they stand alone.

    Raises:
        DataError: When the shapes do not fit, or a vector is not finite.
    """

    vectors: Tensor
    beside: Tensor

    def __init__(
        self,
        vectors: NDArray[np.float32],
        projection: nn.Module,
        beside: NDArray[np.int64] | None = None,
    ) -> None:
        super().__init__()
        if vectors.ndim != 2 or not np.isfinite(vectors).all():
            raise DataError(
                f"vectors of soft tokens must be a finite table [n, d], got shape {vectors.shape}"
                f"{'' if vectors.ndim != 2 else ' with NaN or infinite values'}."
            )
        if beside is not None and beside.shape != (len(vectors),):
            raise DataError(
                f"beside has shape {beside.shape}, expected one token for each of "
                f"{len(vectors)} vectors."
            )
        lies_on = np.full(len(vectors), NOTHING) if beside is None else beside
        self.projection = projection
        self.register_buffer("vectors", torch.tensor(vectors, dtype=torch.float32))
        self.register_buffer("beside", torch.tensor(lies_on, dtype=torch.int64))

    def __len__(self) -> int:
        return len(self.beside)

    def look_up(self, numbers: Tensor) -> tuple[Tensor, Tensor]:
        """Return projected vectors float[m, hidden] and the tokens they lie on, int64[m].

        Args:
            numbers: int64[m], rows of the table.
        """
        return self.projection(self.vectors[numbers]), self.beside[numbers]


class LearnedTable(nn.Module):
    """Soft tokens for the rows of a table that is trained elsewhere in the same training.

    Args:
        rows: How many there are.
        vectors: Gives float[m, d] for numbers int64[m].
        projection: Makes float[m, hidden] of them.
        beside: int64[rows], the token that each lies on; None when they stand alone.
    """

    beside: Tensor

    def __init__(
        self,
        rows: int,
        vectors: Callable[[Tensor], Tensor],
        projection: nn.Module,
        beside: NDArray[np.int64] | None = None,
    ) -> None:
        super().__init__()
        lies_on = np.full(rows, NOTHING) if beside is None else beside
        self.projection = projection
        self._vectors = vectors
        self.register_buffer("beside", torch.tensor(lies_on, dtype=torch.int64), persistent=False)

    def __len__(self) -> int:
        return len(self.beside)

    def look_up(self, numbers: Tensor) -> tuple[Tensor, Tensor]:
        """Return projected vectors float[m, hidden] and the tokens they lie on, int64[m]."""
        return self.projection(self._vectors(numbers)), self.beside[numbers]

    @torch.no_grad()
    def settled(self) -> SoftTable:
        """Return the same soft tokens as they are now, apart from what trains the table."""
        vectors = self._vectors(torch.arange(len(self), device=self.beside.device))
        beside = self.beside.cpu().numpy()
        table = SoftTable(vectors.float().cpu().numpy(), self.projection, beside)
        return table.to(self.beside.device)


class SoftRegistry(nn.Module):
    """Soft tokens for vectors that come with a request, such as that of a user.

    Each vector gets a number of its own, and a number never means another vector, so nothing that
    remembers token ids can take one user for another. The same vector gets its old number as long
    as it is kept. Several threads may share a registry.

    Args:
        width: d, dimensions of the vectors.
        projection: Makes float[m, hidden] of float32[m, d].
        kept: Vectors to keep; the longest unused go first, but none of the last call.
    """

    def __init__(self, width: int, projection: nn.Module, kept: int = 2**16) -> None:
        super().__init__()
        self.width = width
        self.projection = projection
        self._kept = kept
        self._next = 0
        self._lock = threading.Lock()
        self._numbers: dict[bytes, int] = {}
        self._entries: OrderedDict[int, tuple[bytes, NDArray[np.float32], int]] = OrderedDict()

    def register(
        self, vectors: NDArray[np.float32], beside: NDArray[np.int64] | None = None
    ) -> NDArray[np.int64]:
        """Take in vectors and return their numbers, int64[m].

        Args:
            vectors: float32[m, d].
            beside: int64[m], the token that each lies on; None when they stand alone.

        Raises:
            DataError: When the shapes do not fit, or a vector is not finite.
        """
        if vectors.ndim != 2 or vectors.shape[1] != self.width or not np.isfinite(vectors).all():
            raise DataError(
                f"vectors of a request must be finite and [m, {self.width}], got shape "
                f"{vectors.shape}; they are of another model, or its training went wrong."
            )
        lies_on = np.full(len(vectors), NOTHING) if beside is None else beside
        if lies_on.shape != (len(vectors),):
            raise DataError(
                f"beside has shape {lies_on.shape}, expected one token for each of "
                f"{len(vectors)} vectors."
            )
        own = np.ascontiguousarray(vectors, dtype=np.float32)
        with self._lock:
            numbers = [
                self._number(vector, int(token)) for vector, token in zip(own, lies_on, strict=True)
            ]
            while len(self._entries) > max(self._kept, len(vectors)):
                _, (key, _, _) = self._entries.popitem(last=False)
                del self._numbers[key]
        return np.asarray(numbers, dtype=np.int64)

    def _number(self, vector: NDArray[np.float32], token: int) -> int:
        key = vector.tobytes() + token.to_bytes(8, "little", signed=True)
        number = self._numbers.get(key)
        if number is None:
            number = self._next
            self._next += 1
            self._numbers[key] = number
            self._entries[number] = (key, vector.copy(), token)
        self._entries.move_to_end(number)
        return number

    def look_up(self, numbers: Tensor) -> tuple[Tensor, Tensor]:
        """Return projected vectors float[m, hidden] and the tokens they lie on, int64[m].

        Raises:
            RequestError: When a vector is not kept any more, or was never registered.
        """
        with self._lock:
            try:
                found = [self._entries[number] for number in numbers.tolist()]
            except KeyError as error:
                raise RequestError(
                    f"soft token {error} is not kept: {len(self._entries)} of {self._next} are. "
                    "Register its vector again, and use it before so many others."
                ) from error
        device = numbers.device
        vectors = torch.from_numpy(np.stack([vector for _, vector, _ in found])).to(device)
        beside = torch.tensor([token for _, _, token in found], device=device)
        return self.projection(vectors), beside


Source = SoftTable | LearnedTable | SoftRegistry


class SoftTokens(nn.Module):
    """All soft tokens of a language model; trained with it, saved beside it.

    Args:
        first: The first id, at least the rows of the embedding matrix.
        sources: Tables by name, and at most one registry, which comes last.

    Raises:
        ConfigError: When a registry is not the last source.
    """

    def __init__(self, first: int, sources: Mapping[str, Source]) -> None:
        super().__init__()
        self.first = first
        # Not a ModuleDict: it has methods of its own, such as items, and allows no such name.
        self.sources = nn.ModuleList(sources.values())
        self._starts: dict[str, int] = {}
        start = first
        for place, (name, source) in enumerate(sources.items()):
            self._starts[name] = start
            if not isinstance(source, SoftRegistry):
                start += len(source)
            elif place < len(sources) - 1:
                raise ConfigError(f"the registry {name!r} has no end, so it has to come last.")
        self._layer: Any = None

    def has(self, name: str) -> bool:
        """Tell whether there is a source with a name."""
        return name in self._starts

    def source(self, name: str) -> Any:  # noqa: ANN401 - a table or a registry
        """Return the source with a name."""
        return self.sources[list(self._starts).index(name)]

    def settle(self) -> None:
        """Make tables that were trained elsewhere tables of their own."""
        for place, source in enumerate(self.sources):
            if isinstance(source, LearnedTable):
                self.sources[place] = source.settled()

    def ids(self, name: str, numbers: NDArray[np.integer]) -> NDArray[np.int64]:
        """Return the token ids of rows of a table, or of numbers of the registry, int64[...]."""
        return np.asarray(numbers, dtype=np.int64) + self._starts[name]

    def register(
        self, name: str, vectors: NDArray[np.float32], beside: NDArray[np.int64] | None = None
    ) -> NDArray[np.int64]:
        """Register vectors with a request and return their token ids; see ``SoftRegistry``."""
        return self.ids(name, self.source(name).register(vectors, beside))

    def embed(self, tokens: Tensor, words: Callable[[Tensor], Tensor]) -> Tensor:
        """Return the embedding of every token, float[..., hidden].

        Args:
            tokens: int64[...], words and soft tokens.
            words: Gives the embeddings of words, float[..., hidden].
        """
        if not bool((tokens >= self.first).any()):
            return words(tokens)
        rest = tokens.reshape(-1).clone()
        added: list[tuple[Tensor, Tensor]] = []
        for name in reversed(self._starts):
            source = self.source(name)
            places = (rest >= self._starts[name]).nonzero()[:, 0]
            if len(places):
                values, beside = source.look_up(rest[places] - self._starts[name])
                rest[places] = beside
                added.append((places, values))
        real = (rest != NOTHING).unsqueeze(-1)
        total = words(rest.clamp(min=0).view(tokens.shape)).flatten(0, -2)
        total = total.masked_fill(~real, 0)
        for places, values in added:
            total = total.index_add(0, places, values.to(total.dtype))
        return total.view(*tokens.shape, -1)

    def attach(self, model: PreTrainedModel) -> None:
        """Make a causal language model read soft tokens, and train them with it.

        They become the model's child ``soft_tokens``, and its embedding layer looks ids up through
        them. Nothing else of the model changes: its weights keep their names. Attach them after
        adapters, and detach them before these are merged, before the model is saved and before its
        number type is changed, for projections are kept in float32.

        Raises:
            ConfigError: When the model has soft tokens already, or rows that these would hide; or
                when its encoder reads the history, which is not supported.
        """
        anything: Any = model
        layer = anything.get_input_embeddings()
        if anything.config.is_encoder_decoder:
            raise ConfigError("soft tokens need a decoder-only language model, not an encoder.")
        if self._layer is not None or hasattr(model, NAME):
            raise ConfigError("soft tokens are attached already; detach them first.")
        if self.first < layer.weight.shape[0]:
            raise ConfigError(
                f"soft tokens begin at id {self.first}, but the model has "
                f"{layer.weight.shape[0]} words; they belong to another model."
            )
        words = layer.forward
        layer.forward = lambda input: self.embed(input, words)
        self._layer = (layer,)
        model.add_module(NAME, self)

    def detach_from(self, model: PreTrainedModel) -> None:
        """Take back what ``attach`` did."""
        if self._layer is not None:
            del self._layer[0].forward
            delattr(model, NAME)
            self._layer = None

    @contextmanager
    def detached_from(self, model: PreTrainedModel) -> Iterator[None]:
        """Give the model back without soft tokens for a while, for instance to save it."""
        self.detach_from(model)
        try:
            yield
        finally:
            self.attach(model)

"""Who gets which free tuple, when many new items come at once and none that is there may move."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import Progress

from genrec.tokenization.collisions import Ints, position_in_group
from genrec.tokenization.prefix_beam import prefix_distances
from genrec.tokenization.tuple_space import TupleSpace, number_together

# Most wishes (a tuple for an item) held at once; each takes about 80 bytes.
_WISHES_AT_ONCE = 2**21


@dataclass
class Matched:
    """What each of m new items got.

    Attributes:
        codes: int32[m, L], meaningless where not placed.
        placed: bool[m], false where every tuple was taken.
        distance: float64[m], squared distance to what its tuple stands for.
        own_codes: int32[m, L], the tuple it would have if no other item were there.
        own_distance: float64[m], squared distance to what that stands for.
    """

    codes: NDArray[np.int32]
    placed: NDArray[np.bool_]
    distance: NDArray[np.float64]
    own_codes: NDArray[np.int32]
    own_distance: NDArray[np.float64]


@dataclass(frozen=True)
class _Wishes:
    """The tuples r items may ask for at one stage, each item's best first; w wishes an item.

    Attributes:
        place: int64[r, w], number of the tuple: ``prefix * K + last code``.
        distance: float64[r, w].
        room: int64[r, w], new items that the tuple takes; 0 where it may not be asked for.
        prefixes: int32[g, L - 1], the prefixes that tuples are numbered by.
        room_of_place: int64[g * K], new items that each tuple takes.
        holder: int64[h], other new items that hold a tuple below one of the prefixes.
        held: int64[h], number of the tuple that each holds.
    """

    place: Ints
    distance: NDArray[np.float64]
    room: Ints
    prefixes: NDArray[np.int32]
    room_of_place: Ints
    holder: Ints
    held: Ints


class Matching:
    """Deferred acceptance (Gale and Shapley, 1962) between new items and free tuples.

    Each item asks for its nearest tuple that has not refused it, stage by stage (see
    ``TupleSpace``); each tuple holds the nearest items that asked. The result is the same in
    whatever order they ask, so the items come in batches that fit into memory. Ties go to the
    smaller rank, then to the smaller codes.
    """

    def __init__(self, space: TupleSpace, x: NDArray[np.float32], rank: Ints) -> None:
        """Start with nobody placed.

        Args:
            space: The tuples.
            x: float32[m, d], the new items.
            rank: int64[m], breaks ties.
        """
        m = len(x)
        self._space = space
        self._x = x
        self._rank = rank
        self._stage = np.zeros(m, dtype=np.int64)
        self._refused = np.zeros(m, dtype=bool)
        _, twins = np.unique(x, axis=0, return_inverse=True)
        # Items with the same vector that come first, and the room in the stages left behind.
        self._ahead = position_in_group(twins.astype(np.int64), np.zeros(m), rank)
        self._passed = np.zeros(m, dtype=np.int64)
        own = np.zeros((m, space.levels), dtype=np.int32)
        own[:, :-1] = space.own_prefixes(x)
        none = np.zeros_like(own)
        self._state = Matched(none, np.zeros(m, dtype=bool), np.zeros(m), own, np.zeros(m))

    def run(self, quiet: bool = True) -> Matched:
        """Let all items ask until each is placed or was refused everywhere."""
        placed, refused, total = self._state.placed, self._refused, len(self._x)
        columns = Progress.get_default_columns()
        with Progress(*columns, console=Console(stderr=True), disable=quiet) as progress:
            task = progress.add_task("new items", total=total)
            while len(waiting := np.flatnonzero(~placed & ~refused)):
                progress.update(task, completed=total - len(waiting))
                stage = int(self._stage[waiting].min())
                rows = waiting[self._stage[waiting] == stage]
                if self._space.has(stage):
                    wishes = self._space.width(stage) * self._space.size
                    rows = rows[np.argsort(self._rank[rows])]
                    self._ask(rows[: max(1, _WISHES_AT_ONCE // wishes)], stage)
                else:
                    refused[rows] = True
            progress.update(task, completed=total)
        return self._state

    def _ask(self, rows: Ints, stage: int) -> None:
        """Let some items ask for the tuples of a stage; those refused by all go on to the next."""
        state, size = self._state, self._space.size
        wishes = self._wishes(rows, stage)
        wish, start, end = self._open(rows, wishes)
        place, distance = wishes.place.reshape(-1)[wish], wishes.distance.reshape(-1)[wish]
        holds = np.ones(len(wishes.holder), dtype=bool)
        while True:
            asking, holding = np.flatnonzero(start < end), np.flatnonzero(holds)
            holder = wishes.holder[holding]
            asked = start[asking]
            wanted = np.concatenate([place[asked], wishes.held[holding]])
            near = np.concatenate([distance[asked], state.distance[holder]])
            rank = self._rank[np.concatenate([rows[asking], holder])]
            position = position_in_group(wanted, near, rank)
            refused = position >= wishes.room_of_place[wanted]
            if not refused.any():
                break
            start[asking[refused[: len(asking)]]] += 1
            holds[holding[refused[len(asking) :]]] = False
        state.placed[wishes.holder[~holds]] = False
        placed = rows[asking]
        state.placed[placed] = True
        state.codes[placed, :-1] = wishes.prefixes[place[asked] // size]
        state.codes[placed, -1] = place[asked] % size
        state.distance[placed] = distance[asked]
        onward = start == end
        self._stage[rows[onward]] += 1
        self._passed[rows[onward]] += wishes.room[onward].sum(axis=1)

    def _wishes(self, rows: Ints, stage: int) -> _Wishes:
        """Number the tuples of a stage and put them in order."""
        state, space, x = self._state, self._space, self._x[rows]
        beam, fresh = space.prefixes(x, state.own_codes[rows, :-1], stage)
        distance = prefix_distances(space.quantizer, x, beam)
        if stage == 0:
            self._note_own(rows, distance[:, 0])
        r, w, before = beam.shape
        holder = np.flatnonzero(state.placed)
        prefixes, number, held = number_together(
            beam.reshape(r * w, before), state.codes[holder, :-1]
        )
        place = number.reshape(r, w, 1) * space.size + np.arange(space.size)
        place, distance = place.reshape(r, -1), distance.reshape(r, -1)
        room_of_place = space.room(prefixes).reshape(-1)
        room = room_of_place[place] * np.repeat(fresh, space.size, axis=1)
        order = np.argsort(distance, axis=1, kind="stable")
        inside = held >= 0
        return _Wishes(
            place=np.take_along_axis(place, order, axis=1),
            distance=np.take_along_axis(distance, order, axis=1),
            room=np.take_along_axis(room, order, axis=1),
            prefixes=prefixes,
            room_of_place=room_of_place,
            holder=holder[inside],
            held=held[inside] * space.size + state.codes[holder[inside], -1],
        )

    def _note_own(self, rows: Ints, distance: NDArray[np.float64]) -> None:
        """Keep what each item would get alone; ``distance`` float64[r, K] is of its own prefix."""
        allowed = np.where(self._space.known[-1], distance, np.nan)
        code = np.nanargmin(allowed, axis=1)
        self._state.own_codes[rows, -1] = code
        self._state.own_distance[rows] = distance[np.arange(len(rows)), code]

    def _open(self, rows: Ints, wishes: _Wishes) -> tuple[Ints, Ints, Ints]:
        """Leave out the wishes that are sure to be refused, now or later.

        That is a tuple full of nearer items, for those only ever make way for still nearer ones;
        and of k equal vectors, the k-th cannot have a place that the k - 1 before it fill.

        Returns:
            Numbers of the wishes left, in ``wishes`` laid out flat, then for each item where its
            begin and end.
        """
        held, near = wishes.held, self._state.distance[wishes.holder]
        rank = self._rank[wishes.holder]
        last = position_in_group(held, near, rank) == wishes.room_of_place[held] - 1
        to_beat = np.full(len(wishes.room_of_place), np.inf)
        rank_to_beat = np.full(len(to_beat), len(self._x))
        to_beat[held[last]], rank_to_beat[held[last]] = near[last], rank[last]
        place, distance = wishes.place, wishes.distance
        wins = distance < to_beat[place]
        wins |= (distance == to_beat[place]) & (self._rank[rows, None] < rank_to_beat[place])
        ahead = self._ahead[rows] - self._passed[rows]
        wins &= np.cumsum(wishes.room, axis=1) > ahead[:, None]
        wins &= wishes.room > 0
        end = np.cumsum(wins.sum(axis=1))
        return np.flatnonzero(wins), np.concatenate([[0], end[:-1]]), end

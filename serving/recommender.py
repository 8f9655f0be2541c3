"""Recommendations from a trained model: outside ids in, titles, scores and plain words out."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from genrec import artifacts
from genrec.cf.popularity import Popularity
from genrec.data.catalog import Catalog
from genrec.data.ranking import Ranking, RankingModel
from genrec.decoding.prefix_cache import PrefixCacheStats
from genrec.decoding.ranker import GenerativeRanker
from genrec.decoding.rules import RowRules
from genrec.decoding.trie import PrefixTrie
from genrec.errors import ArtifactError, RequestError
from genrec.model.code_head import Score
from genrec.runtime import Runtime
from genrec.semantic_ids.generations import FOLDER, latest
from genrec.semantic_ids.item_index import ItemIndex
from genrec.serving.engines import load_molar, load_ranker
from genrec.serving.popular_lists import popular_list
from genrec.serving.recommendation import Recommendation, RecommendedItem, popular_instead
from genrec.serving.request import check_request, rules_of_each
from genrec.serving.rules import RuleBook, Rules, in_words


class Recommender:
    """Recommends items for histories of item ids.

    Args:
        ranker: Ranks catalogue rows.
        catalog: The items.
        item_counts: int64[n_items], training events of each item; orders the popularity fallback.
        model_digest: What identifies the model's content.
        index_digest: What identifies the semantic IDs that are served.
        settings: What else the lists depend on, such as the beam width; plain values.

    Example:
        >>> from genrec import Recommender
        >>> recommender = Recommender.from_pretrained("runs/store")  # doctest: +SKIP
        >>> recommender.recommend([["ID1", "ID2"]], k=10)  # doctest: +SKIP
    """

    def __init__(
        self,
        ranker: RankingModel,
        catalog: Catalog,
        item_counts: NDArray[np.int64],
        *,
        model_digest: str,
        index_digest: str,
        settings: Mapping[str, str | float | None] | None = None,
    ) -> None:
        self.settings = dict(settings or {})
        self.ranker = ranker
        self.catalog = catalog
        self.model_digest = model_digest
        self.index_digest = index_digest
        self._popularity = Popularity(item_counts)
        self.rule_book = RuleBook(catalog, _trie_of(ranker, len(catalog)))

    @classmethod
    def from_pretrained(
        cls,
        path: Path | str,
        *,
        device: str = "auto",
        dtype: str = "auto",
        engine: str = "torch",
        beam: int = 50,
        batch_size: int = 64,
        new_item_weight: float = 1.0,
        score: Score | None = None,
        dense_weight: float | None = None,
        prefix_cache_bytes: int = 0,
    ) -> "Recommender":
        """Load a trained model from a run folder or from a model folder alone.

        A run folder is served with the newest generation of its index: items that were added
        since the training are recommended, those that were removed are not.

        Args:
            path: ``runs/NAME``, or its ``model`` or ``molar`` folder, wherever that was copied.
            device: ``cpu``, ``cuda``, ``cuda:N``, ``mps`` or ``auto``.
            dtype: ``float32``, ``bfloat16`` or ``auto``, which keeps what was saved where the
                machine is fast at it.
            engine: ``torch``, or ``vllm`` where it is installed.
            beam: Beam width; widened to k where k is larger.
            batch_size: Histories decoded at once.
            new_item_weight: How many items' share an item gets that no training event names;
                more shows new items more often, 0 leaves them to the model.
            score: ``exact`` probabilities add up to one over the whole vocabulary, ``level`` ones
                over the codes of a level; None takes what the model was trained for.
            dense_weight: Share of the dense side in the sum of both, for models that have one;
                None takes what validation chose.
            prefix_cache_bytes: Memory for what was read of earlier histories, so that a user who
                comes back is answered sooner; 0 keeps nothing.

        Raises:
            ArtifactError: When there is no whole model in the folder, or the generations of the
                index belong to another model.
            ConfigError: When the device is not on this machine, or there is no such engine.
            DependencyError: When the engine is not installed.
            RequestError: When ``prefix_cache_bytes`` has no room for two items.
        """
        runtime = Runtime(device=device, dtype=dtype, engine=engine)
        if is_molar(Path(path)):
            if score is not None or dense_weight is not None:
                raise RequestError(
                    f"score={score!r} and dense_weight={dense_weight} are for models that name "
                    f"codes, and {path} holds Molar's; leave them out."
                )
            return cls._from_molar(Path(path), runtime)
        folder = model_folder(Path(path))
        ranker = load_ranker(
            folder,
            runtime,
            generation=newest_generation(Path(path)),
            beam=beam,
            batch_size=batch_size,
            new_item_weight=new_item_weight,
            score=score,
            dense_weight=dense_weight,
            prefix_cache_bytes=prefix_cache_bytes,
        )
        model = ranker.model
        return cls(
            ranker,
            model.catalog,
            model.item_counts,
            model_digest=artifacts.read_manifest(folder, "model").digest,
            index_digest=str(model.facts.get("generation_digest", model.facts["index_digest"])),
            settings={
                "device": device,
                "dtype": dtype,
                "engine": engine,
                "beam": beam,
                "new_item_weight": new_item_weight,
                "score": ranker.score,
                "score_kind": ranker.score_kind,
                "dense_weight": getattr(ranker, "dense_weight", None),
            },
        )

    @classmethod
    def _from_molar(cls, folder: Path, runtime: Runtime) -> "Recommender":
        """Load a ``molar`` folder: it names no codes, so item vectors take the index's place."""
        ranker, model = load_molar(folder, runtime)
        digest = artifacts.read_manifest(folder, "molar").digest
        return cls(
            ranker,
            model.catalog,
            model.item_counts,
            model_digest=digest,
            index_digest=digest,
            settings={"device": runtime.device, "dtype": runtime.dtype},
        )

    @property
    def name(self) -> str:
        """Name of the ranking model."""
        return self.ranker.name

    @property
    def prefix_cache_stats(self) -> PrefixCacheStats | None:
        """What was reused of earlier histories; None where nothing is kept."""
        return self.ranker.prefix_cache_stats if isinstance(self.ranker, GenerativeRanker) else None

    def recommend(
        self,
        histories: Sequence[Sequence[str]],
        k: int = 10,
        *,
        exclude_seen: bool = True,
        rules: Rules | Sequence[Rules] | None = None,
    ) -> list[Recommendation]:
        """Recommend items that may come next, for each history.

        Ids that the catalogue does not have are left out and named in the answer. A history
        without a known item gets the most popular items, and the answer says so.

        Args:
            histories: Item ids of each user, oldest first.
            k: Number of items wanted.
            exclude_seen: Never recommend an item of the history.
            rules: What the lists may hold: one for all, or one a history. They say themselves
                what becomes of items of the history.

        Returns:
            One recommendation a history, in order.

        Raises:
            RequestError: When k is below 1, a history is not a sequence of texts, or a rule names
                something that is not there.

        Example:
            >>> rules = Rules(where={"attribute": "genre", "op": "==", "value": "tea"})
            >>> recommender.recommend([["ID1", "ID2"]], k=10, rules=rules)  # doctest: +SKIP
        """
        check_request(histories, k)
        asked = rules_of_each(rules, len(histories), exclude_seen)
        split = [self.catalog.rows(history) for history in histories]
        rows = [np.asarray(known, dtype=np.int32) for known, _ in split]
        # Histories that share their rules share the work of looking up what they name.
        distinct = {id(each): each for each in asked}
        shared = {key: self.rule_book.compile(each) for key, each in distinct.items()}
        words = {key: in_words(each, shared[key]) for key, each in distinct.items()}
        trie = self.rule_book.trie
        shared = {key: each.with_long_list_as_mask(trie) for key, each in shared.items()}
        compiled = [
            shared[id(each)].without(known) if each.exclude_seen else shared[id(each)]
            for each, known in zip(asked, rows, strict=True)
        ]
        rankings = self._rank(rows, compiled, min(k, len(self.catalog)))
        answers = []
        for number, ranking in enumerate(rankings):
            known = rows[number]
            answers.append(
                Recommendation(
                    items=self.items_of(ranking),
                    unknown_items=list(dict.fromkeys(split[number][1])),
                    fallback=_fallback(histories[number], known, asked[number]),
                    shortfall=self._shortfall(
                        len(ranking), k, asked[number], compiled[number], known
                    ),
                    rules=words[id(asked[number])],
                    score=self._score_kind if len(known) else "count",
                    history_read=min(len(known), self._most_read or len(known)),
                )
            )
        return answers

    @property
    def _score_kind(self) -> str:
        return self.ranker.score_kind if isinstance(self.ranker, GenerativeRanker) else "model"

    @property
    def _most_read(self) -> int | None:
        """Newest items of a history that the model reads; None where it reads all."""
        if isinstance(self.ranker, GenerativeRanker):
            return self.ranker.model.prompts.max_history
        return None

    def _rank(self, rows: list[NDArray[np.int32]], rules: list[RowRules], k: int) -> list[Ranking]:
        """Ask the model where there is a history and popularity where there is none."""
        asked = [number for number, known in enumerate(rows) if len(known)]
        rankings: list[Ranking | None] = [None] * len(rows)
        if asked and k:
            answers = self._ask(
                [rows[number] for number in asked], k, [rules[number] for number in asked]
            )
            for number, answer in zip(asked, answers, strict=True):
                rankings[number] = answer
        return [
            popular_list(self._popularity, self.rule_book.trie, rules[number], k)
            if ranking is None
            else ranking
            for number, ranking in enumerate(rankings)
        ]

    def _ask(self, rows: list[NDArray[np.int32]], k: int, rules: list[RowRules]) -> list[Ranking]:
        if isinstance(self.ranker, GenerativeRanker):
            return self.ranker.rank(rows, k, rules=rules)
        if any(each.boosts or each.bounds or each.most_per_code for each in rules):
            raise RequestError(
                f"the model {self.ranker.name!r} ranks all items at once and knows neither boosts "
                "nor at_most; leave them out."
            )
        barred = [np.flatnonzero(~each.eligible(len(self.catalog))) for each in rules]
        return self.ranker.rank(rows, k, exclude=[out.astype(np.int32) for out in barred])

    def items_of(self, ranking: Ranking) -> list[RecommendedItem]:
        """Return a ranking of catalogue rows as items to show."""
        return [
            RecommendedItem(
                item_id=self.catalog.item_ids[row],
                score=float(score),
                rank=rank,
                title=self.catalog.titles[row],
            )
            for rank, (row, score) in enumerate(
                zip(ranking.items.tolist(), ranking.scores.tolist(), strict=True), start=1
            )
        ]

    def _shortfall(
        self, found: int, k: int, asked: Rules, rules: RowRules, known: NDArray[np.int32]
    ) -> str | None:
        if found >= k:
            return None
        eligible = int(rules.eligible(len(self.catalog)).sum())
        held = f"the catalogue has {len(self.catalog)} items"
        seen = len(np.unique(known)) if asked.exclude_seen else 0
        if seen:
            held += f", {seen} of them in the history and so left out"
        if eligible < len(self.catalog) - seen:
            held += f"; the rules allow {eligible}"
        text = f"{k} items were asked for and {found} returned: {held}"
        if found < min(k, eligible):
            text += (
                "; at_most leaves no room for more"
                if asked.at_most
                else "; the search found no more, a wider beam finds them"
            )
        return text + "."


def _trie_of(ranker: RankingModel, items: int) -> PrefixTrie:
    """Return the trie a model searches; for one that searches none, one with a code an item."""
    if isinstance(ranker, GenerativeRanker):
        return ranker.trie
    codes = np.arange(items, dtype=np.int32)[:, None]
    return PrefixTrie.from_index(ItemIndex(codes, (items,), {}))


def is_molar(path: Path) -> bool:
    """Tell whether a path is the folder of Molar's user-side model."""
    return artifacts.exists(path) and artifacts.read_manifest(path).kind == "molar"


def model_folder(path: Path) -> Path:
    """Return the model folder that a path means: itself, or the one in a run folder.

    Raises:
        ArtifactError: When there is neither.
    """
    if artifacts.exists(path):
        kind = artifacts.read_manifest(path).kind
        if kind != "model":
            raise ArtifactError(
                f"{path} holds a {kind!r}, expected a model; give the run folder, or its folder "
                "model."
            )
        return path
    if artifacts.exists(path / "model"):
        return path / "model"
    if (path / "model.partial").is_dir() or (path / "model").is_dir():
        raise ArtifactError(
            f"the model in {path} is half written: its training was stopped before it ended. "
            "Run `genrec train` or `genrec run` again; it goes on from the last checkpoint."
        )
    found = "holds no model" if path.is_dir() else "does not exist"
    raise ArtifactError(
        f"{path} {found}; give a run folder (runs/NAME) after `genrec run`, or a model folder."
    )


def newest_generation(path: Path) -> Path | None:
    """Return the newest generation of a run's index; None for a model alone or without any.

    Raises:
        ArtifactError: When the generations do not follow from the run's index.
    """
    if artifacts.exists(path) or not (path / FOLDER).is_dir():
        return None
    newest = latest(path)
    return None if newest == path / "index" else newest


def _fallback(history: Sequence[str], known: NDArray[np.int32], rules: Rules) -> str | None:
    text = popular_instead(history, known)
    return f"{text}; boosts play no part" if text and rules.boosts else text

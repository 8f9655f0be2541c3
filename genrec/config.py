"""The recipe: one model per stage, every field with a default, a unit and one line of help.

Unknown keys and wrong types are errors, reported all at once by ``load_recipe``.
"""

from typing import Annotated, Literal

from pydantic import Field

from genrec.config_bridge import AlignConfig
from genrec.config_cf import TransitionSasRecConfig
from genrec.config_index import IndexConfig
from genrec.config_molar import ImageConfig, ItemModelConfig, MolarConfig
from genrec.config_section import Section, setting
from genrec.config_train import TrainConfig

NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"
DEVICE_PATTERN = r"^(auto|cpu|mps|cuda(:[0-9]+)?)$"


class ColumnNames(Section):
    """Which column of the interaction file holds what."""

    user_id: str = setting("user_id", "Column with the user's id.")
    item_id: str = setting("item_id", "Column with the item's id.")
    timestamp: str | None = setting("timestamp", "Column with the time; null keeps input order.")
    weight: str | None = setting("weight", "Column with a rating or count; ignored when absent.")


class ItemColumns(Section):
    """Which column of the item file holds what."""

    item_id: str = setting("item_id", "Column with the item's id.")
    title: str | None = setting("title", "Column to show to people; null shows the id.")
    text: list[str] | None = setting(
        None,
        "Columns joined into the text an embedding reads; null takes title, brand, "
        "categories, genres, attributes and description where they exist.",
    )


class SplitConfig(Section):
    """Which events are learned from, validated on and tested on."""

    method: Literal["leave_one_out", "temporal", "cold_items"] = setting(
        "leave_one_out",
        "leave_one_out: each user's last event is test, the one before "
        "validation; temporal: cut by time over all users; cold_items: whole items held out.",
    )
    validation_fraction: float = setting(
        0.1, "temporal: share of events; cold_items: share of items.", "fraction", gt=0, lt=1
    )
    test_fraction: float = setting(
        0.1, "temporal: share of events; cold_items: share of items.", "fraction", gt=0, lt=1
    )
    validation_from: str | None = setting(
        None, "temporal: ISO date where validation starts; overrides the fraction."
    )
    test_from: str | None = setting(None, "temporal: ISO date where test starts.")


class StoreConfig(Section):
    """The embedded store: a generated catalogue and users whose next item follows known rules."""

    users: int = setting(3000, "Users to generate.", "users", ge=10)
    items: int = setting(1500, "Items to generate.", "items", ge=20)


class DataConfig(Section):
    """Stage data: read, check, filter and split."""

    path: str | None = setting(None, "File or folder to read; null generates the embedded store.")
    items_path: str | None = setting(
        None, "Item file; null looks beside the interactions or makes items from their ids."
    )
    format: Literal["auto", "table", "movielens", "amazon", "recbole", "sequences", "store"] = (
        setting(
            "auto",
            "Layout of the source; auto decides by names and columns. table is "
            "Parquet, CSV, TSV or JSON lines with the columns named below.",
        )
    )
    columns: ColumnNames = setting(ColumnNames(), "Columns of the interaction file.")
    item_columns: ItemColumns = setting(ItemColumns(), "Columns of the item file.")
    separator: str | None = setting(None, "Field separator of text files; null guesses.")
    minimum_weight: float | None = setting(
        None, "Drop events with a smaller weight (rating).", "rating"
    )
    core: int = setting(
        5,
        "Drop users and items with fewer events, until none is left; 0 keeps all.",
        "events",
        ge=0,
    )
    deduplicate: Literal["none", "consecutive", "pair"] = setting(
        "none",
        "consecutive: drop an event that repeats the user's item just before; pair: keep "
        "each user-item pair's first event.",
    )
    maximum_quarantined: float = setting(
        0.5, "Stop when a larger share of rows cannot be read.", "fraction", ge=0, le=1
    )
    split: SplitConfig = setting(SplitConfig(), "Training, validation and test.")
    store: StoreConfig = setting(StoreConfig(), "Size of the embedded store.")


Baseline = Literal[
    "popularity",
    "transition",
    "item_knn",
    "sasrec",
    "transition_sasrec",
    "lightgcn",
    "bpr",
    "blend",
]


class ItemKnnConfig(Section):
    """Item neighbours, when cf.models names item_knn."""

    neighbours: int = setting(200, "Nearest items that are kept of each.", "items", ge=1)
    shrinkage: float = setting(
        10.0, "Added to the norm of a cosine, so that rare pairs count less.", ge=0
    )
    decay: float = setting(
        0.5, "What an item of a history counts for less with every newer one.", "factor", gt=0, le=1
    )


class GraphConfig(Section):
    """LightGCN and BPR, when cf.models names them."""

    dimensions: int = setting(64, "Width of the vectors.", "dimensions", ge=1)
    layers: int = setting(3, "Convolutions of LightGCN; BPR has none.", "layers", ge=1)
    learning_rate: float = setting(5e-3, "Step size of Adam.", gt=0)
    regularisation: float = setting(1e-4, "Weight of the squared lengths of the vectors.", ge=0)
    batch: int = setting(4096, "Triples in a batch.", "triples", ge=1)
    epochs: int = setting(200, "Most passes over the training events.", "epochs", ge=1)
    every: int = setting(5, "Epochs between validations.", "epochs", ge=1)
    patience: int = setting(
        5, "Stop after so many validations without a better NDCG@10.", "times", ge=1
    )


class CfConfig(Section):
    """Stage cf: the baselines and their vectors."""

    models: list[Literal["item_knn", "transition_sasrec", "lightgcn", "bpr", "blend"]] = setting(
        [],
        "Baselines besides popularity, transition counts and SASRec; blend is the model of "
        "cf.vectors and item_knn together, at the share that is best for validation users.",
    )
    vectors: Literal["sasrec", "transition_sasrec", "lightgcn", "bpr"] = setting(
        "sasrec", "Whose item and user vectors later stages read."
    )
    transition_sasrec: TransitionSasRecConfig = setting(
        TransitionSasRecConfig(), "SASRec with long queries and transition counts."
    )
    item_knn: ItemKnnConfig = setting(ItemKnnConfig(), "Item neighbours.")
    graph: GraphConfig = setting(GraphConfig(), "LightGCN and BPR.")
    dimensions: int = setting(64, "Width of SASRec.", "dimensions", ge=4)
    layers: int = setting(2, "Transformer blocks.", "blocks", ge=1)
    heads: int = setting(2, "Attention heads.", "heads", ge=1)
    dropout: float = setting(
        0.5, "Dropout on embeddings, attention and feed-forward.", "probability", ge=0, lt=1
    )
    learning_rate: float = setting(1e-3, "Step size of AdamW.", gt=0)
    weight_decay: float = setting(0.01, "Weight decay of AdamW.", ge=0)
    epochs: int = setting(100, "Most passes over the training sequences.", "epochs", ge=1)
    patience: int = setting(
        8, "Stop after so many epochs without a better validation NDCG@10.", "epochs", ge=1
    )
    batch_items: int = setting(2048, "Most items in a batch, padding included.", "items", ge=1)
    max_history: int = setting(50, "Newest items of a user that are read.", "items", ge=1)


class EmbedConfig(Section):
    """Stage embed: one vector per item from its text."""

    method: Literal["tfidf", "sentence_transformer"] = setting(
        "tfidf", "tfidf needs no model; sentence_transformer needs genrec[text]."
    )
    dimensions: int = setting(
        128, "tfidf: dimensions kept by the truncated SVD.", "dimensions", ge=2
    )
    model: str | None = setting(None, "sentence_transformer: local folder or hub id.")
    revision: str | None = setting(None, "sentence_transformer: pinned hub revision.")
    prompt: str = setting("", "sentence_transformer: text put before every item text.")
    batch_size: int = setting(64, "sentence_transformer: texts encoded at once.", "texts", ge=1)


class RecommendConfig(Section):
    """Stage recommend: lists for the users of a part."""

    part: Literal["validation", "test"] = setting("test", "Which part to predict.")
    k: int = setting(50, "Items in a list.", "items", ge=1)
    beam: int = setting(50, "Beam width; at least k.", "beams", ge=1)
    new_item_weight: float = setting(
        1.0,
        "How many items' share an item gets that no training event names; 0 leaves it to the "
        "model, which all but never names it.",
        "shares",
        ge=0,
    )
    score: Literal["exact", "level"] | None = setting(
        None,
        "What probabilities add up to one over: exact is the whole vocabulary, level the codes of "
        "a level; null takes what the model was trained for.",
    )
    dense_weight: float | None = setting(
        None,
        "Share of the dense side in the sum of both, for models that have one; null takes what "
        "validation chose.",
        "fraction",
        ge=0,
        le=1,
    )
    users: int | None = setting(
        None, "Predict for so many, drawn at random by seed; null predicts for all.", "users", ge=1
    )
    exclude_seen: bool = setting(True, "Never recommend an item of the history.")
    batch_size: int = setting(64, "Histories decoded at once.", "histories", ge=1)
    models: list[Literal[Baseline, "molar", "genrec"]] = setting(
        ["popularity", "transition", "sasrec", "genrec"], "Rows of the table.", min_length=1
    )


class EvaluateConfig(Section):
    """Stage evaluate: metrics of the predictions."""

    cutoffs: list[Annotated[int, Field(ge=1)]] = setting(
        [1, 5, 10, 20, 50], "List lengths to measure at.", "items", min_length=1
    )
    bootstrap: int = setting(
        1000, "Resamples for the 95 % intervals; 0 gives none.", "samples", ge=0
    )


class ServeConfig(Section):
    """Verb serve: the HTTP service."""

    host: str = setting("127.0.0.1", "Address to listen on.")
    port: int = setting(8000, "Port to listen on.", ge=0, le=65535)
    beam: int = setting(50, "Beam width.", "beams", ge=1)
    new_item_weight: float = setting(1.0, "As recommend.new_item_weight.", "shares", ge=0)
    score: Literal["exact", "level"] | None = setting(None, "As recommend.score.")
    dense_weight: float | None = setting(None, "As recommend.dense_weight.", ge=0, le=1)
    prefix_cache_bytes: int = setting(
        256 * 2**20,
        "Memory for what was read of earlier histories, so that a user who comes back is answered "
        "sooner; 0 keeps nothing.",
        "bytes",
        ge=0,
    )
    max_k: int = setting(100, "Largest k a request may ask for.", "items", ge=1)
    max_history: int = setting(1000, "Longest history a request may send.", "items", ge=1)


class RuntimeConfig(Section):
    """Where things run."""

    device: str = setting("auto", "cpu, cuda, cuda:N, mps or auto.", pattern=DEVICE_PATTERN)
    dtype: Literal["auto", "float32", "bfloat16"] = setting(
        "auto", "Number type of pretrained language models, and of the scores SASRec learns from."
    )
    threads: int = setting(0, "CPU threads; 0 takes what torch takes.", "threads", ge=0)
    engine: Literal["torch", "vllm"] = setting(
        "torch",
        "What runs the language model in recommend and serve; vllm is an extra, see docs/vllm.md.",
    )


class Recipe(Section):
    """Everything a run needs to know."""

    name: str = setting("run", "Name of the run; its folder is runs/NAME.", pattern=NAME_PATTERN)
    seed: int = setting(42, "Seed of every random number.", ge=0, le=2**31 - 1)
    data: DataConfig = setting(DataConfig(), "Read, check, filter and split.")
    cf: CfConfig = setting(CfConfig(), "Baselines and their vectors.")
    embed: EmbedConfig = setting(EmbedConfig(), "Vectors from item texts.")
    align: AlignConfig = setting(AlignConfig(), "Joint vectors of items.")
    image: ImageConfig = setting(ImageConfig(), "Vectors from item images.")
    item_model: ItemModelConfig = setting(ItemModelConfig(), "Item-side model of Molar.")
    index: IndexConfig = setting(IndexConfig(), "Semantic IDs.")
    train: TrainConfig = setting(TrainConfig(), "The language model.")
    molar: MolarConfig = setting(MolarConfig(), "User-side model of Molar.")
    recommend: RecommendConfig = setting(RecommendConfig(), "Lists for many users.")
    evaluate: EvaluateConfig = setting(EvaluateConfig(), "Metrics.")
    serve: ServeConfig = setting(ServeConfig(), "HTTP service.")
    runtime: RuntimeConfig = setting(RuntimeConfig(), "Device, number type, threads.")

"""genrec: from your own interactions to a served, language-model-based recommender.

``Dataset``, ``Recommender`` and ``Rules`` are loaded when first asked for: ``import genrec`` stays
quick.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from genrec.data.dataset import Dataset as Dataset

__version__ = "0.1.0"
__all__ = ["Dataset", "Recommender", "Rules", "__version__"]

_DOORS = {
    "Dataset": "genrec.data.dataset",
    "Recommender": "genrec.serving.recommender",
    "Rules": "genrec.serving.rules",
}


def __getattr__(name: str) -> Any:  # noqa: ANN401 - a module attribute can be anything
    """Import a public class when it is first used."""
    if name not in _DOORS:
        raise AttributeError(f"module 'genrec' has no attribute {name!r}")
    return getattr(import_module(_DOORS[name]), name)

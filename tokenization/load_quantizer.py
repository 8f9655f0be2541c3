"""Read the quantizer of an index folder, whichever method wrote it."""

import json
from pathlib import Path
from pkgutil import resolve_name

from genrec.errors import ArtifactError
from genrec.tokenization.quantizer import Quantizer

# By name, so that a method is imported only when it is needed.
_CLASSES = {
    "residual_kmeans": "genrec.tokenization.residual_kmeans:ResidualKMeans",
    "rq_vae": "genrec.tokenization.rq_vae:RqVae",
    "product": "genrec.tokenization.product:ProductQuantizer",
}


def load_quantizer(folder: Path) -> Quantizer | None:
    """Read the quantizer of an index folder; None when its method has none.

    Raises:
        ArtifactError: When ``quantizer.json`` is damaged or names a method that is not known.
    """
    path = folder / "quantizer.json"
    if not path.is_file():
        return None
    try:
        method = json.loads(path.read_text(encoding="utf-8"))["method"]
        name = _CLASSES[method]
    except (ValueError, KeyError, TypeError) as error:
        raise ArtifactError(
            f"{path} names no method that this genrec knows ({error}), expected one of "
            f"{', '.join(_CLASSES)}; run the index stage again."
        ) from error
    quantizer: Quantizer = resolve_name(name).load(folder)
    return quantizer

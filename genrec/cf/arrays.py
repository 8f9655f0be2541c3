"""Reading named arrays back from a file."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file

from genrec.errors import ArtifactError


def read_arrays(path: Path, names: Sequence[str]) -> dict[str, NDArray[Any]]:
    """Read a safetensors file that must hold exactly these arrays.

    Raises:
        ArtifactError: When the file is missing, damaged or holds other arrays.
    """
    if not path.is_file():
        raise ArtifactError(f"{path} is missing; run the cf stage again.")
    try:
        arrays = load_file(path)
    except SafetensorError as error:
        raise ArtifactError(f"{path} cannot be read ({error}); run the cf stage again.") from error
    if set(arrays) != set(names):
        raise ArtifactError(
            f"{path} holds the arrays {sorted(arrays)}, expected {sorted(names)}; "
            "run the cf stage again."
        )
    return arrays

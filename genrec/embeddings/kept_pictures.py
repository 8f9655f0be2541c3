"""The pictures of a run's items, kept in its ``image`` folder for models that look at them."""

import io
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from genrec.embeddings.image_files import ImageFiles, TarImages
from genrec.embeddings.image_reading import decode
from genrec.errors import ArtifactError

NAME = "pictures.tar"


def keep_pictures(folder: Path, files: ImageFiles, names: Mapping[int, str]) -> None:
    """Write pictures, as they are, into ``pictures.tar``.

    Args:
        folder: The folder that is being written.
        files: Where they lie.
        names: Catalogue row -> name of a file that can be read.
    """
    with tarfile.open(folder / NAME, "w:") as archive:
        for row, name in sorted(names.items()):
            data = files.read(name, most=2**62)
            # The ending is kept for people; only the row finds the picture again.
            member = tarfile.TarInfo(f"{row}{Path(name).suffix.lower()}")
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))


class KeptPictures:
    """Pictures by catalogue row.

    Args:
        folder: A finished ``image`` folder.

    Raises:
        ArtifactError: When it kept none.
    """

    def __init__(self, folder: Path) -> None:
        if not (folder / NAME).is_file():
            raise ArtifactError(
                f"{folder} kept no pictures, and a vision-language model looks at them. Set "
                "image.keep: true and run `genrec image` again."
            )
        self._files = TarImages(folder / NAME)
        self._names = {int(Path(name).stem): name for name in self._files.names}

    def __contains__(self, row: int) -> bool:
        return row in self._names

    def __getitem__(self, row: int) -> Any:  # noqa: ANN401 - Pillow may be absent
        """Return the picture of a row, a ``PIL.Image.Image``; ``KeyError`` when there is none."""
        return decode(self._files.read(self._names[row], most=2**62), max_pixels=2**62)

"""Small generated pictures, and archives of them, whole and hostile."""

import io
import tarfile

import numpy as np
from PIL import Image


def picture(seed, size=(20, 30), mode="RGB"):
    """A picture of random colours."""
    values = np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)
    return Image.fromarray(values).convert(mode)


def as_bytes(image, kind="PNG"):
    out = io.BytesIO()
    image.save(out, kind)
    return out.getvalue()


def write_tar(path, entries, mode="w:"):
    """Write an archive; an entry is bytes, or a ``TarInfo`` without content."""
    with tarfile.open(path, mode) as archive:
        for name, content in entries.items():
            if isinstance(content, tarfile.TarInfo):
                archive.addfile(content)
                continue
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


def link(name, target):
    member = tarfile.TarInfo(name)
    member.type, member.linkname = tarfile.SYMTYPE, target
    return member

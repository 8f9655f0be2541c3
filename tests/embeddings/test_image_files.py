"""Pictures in folders and archives, from people who mean well and from those who do not."""

import logging
import os

import pytest

from genrec.embeddings.image_files import TooLarge, by_column, by_item_id, open_images
from genrec.embeddings.image_reading import Unreadable, decode, read_picture
from genrec.errors import DataError
from tests.embeddings.pictures import as_bytes, link, picture, write_tar


def test_a_folder_lists_pictures_and_reads_them(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "7.JPG").write_bytes(b"seven")
    (tmp_path / "3.png").write_bytes(b"three")
    (tmp_path / "notes.txt").write_bytes(b"no picture")
    files = open_images(tmp_path)
    assert list(files.names) == ["3.png", "in/7.JPG"]
    assert files.read("in/7.JPG", 10) == b"seven"
    with pytest.raises(TooLarge, match="has 5 bytes, more than the 4"):
        files.read("3.png", 4)


def test_links_out_of_a_folder_are_passed_over(tmp_path, caplog):
    (tmp_path / "secret.png").write_bytes(b"not yours")
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "1.png").write_bytes(b"one")
    os.symlink(tmp_path / "secret.png", tmp_path / "images" / "2.png")
    os.symlink(tmp_path, tmp_path / "images" / "up")
    os.symlink("1.png", tmp_path / "images" / "3.png")
    os.mkfifo(tmp_path / "images" / "4.png")
    with caplog.at_level(logging.WARNING):
        files = open_images(tmp_path / "images")
    assert list(files.names) == ["1.png", "3.png"]
    assert "1 links" in caplog.text


def test_an_archive_lists_regular_members_only(tmp_path, caplog):
    path = write_tar(
        tmp_path / "p.tar",
        {
            "./posters/1.jpg": b"one",
            "2.png": b"two",
            "../../3.png": b"out",
            "/etc/4.png": b"out",
            "5.png": link("5.png", "/etc/passwd"),
            "._6.png": b"a Mac's second file",
            "list.txt": b"text",
        },
    )
    with caplog.at_level(logging.WARNING):
        files = open_images(path)
    assert list(files.names) == ["2.png", "posters/1.jpg"]
    assert files.read("posters/1.jpg", 3) == b"one"
    assert "3 entries" in caplog.text
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["p.tar"]


def test_a_member_that_claims_too_much_is_not_read(tmp_path):
    files = open_images(write_tar(tmp_path / "p.tar", {"1.png": b"x" * 100}))
    with pytest.raises(TooLarge, match="100 bytes, more than the 99 of image.max_bytes"):
        files.read("1.png", 99)


@pytest.mark.parametrize("cut", [100, 512 + 10, 1536, 2000, 3072])
def test_a_cut_off_archive_is_named(tmp_path, cut):
    path = write_tar(tmp_path / "p.tar", {"1.png": b"x" * 1000, "2.png": b"y" * 1000})
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(DataError, match=r"p\.tar cannot be read .* copy it again"):
        open_images(path)


def test_a_compressed_archive_and_no_archive_are_refused(tmp_path):
    with pytest.raises(DataError, match="if it is compressed, unpack it"):
        open_images(write_tar(tmp_path / "p.tar.gz", {"1.png": b"x"}, "w:gz"))
    (tmp_path / "text.tar").write_bytes(b"hello" * 200)
    with pytest.raises(DataError, match="cannot be read as an uncompressed tar"):
        open_images(tmp_path / "text.tar")
    with pytest.raises(DataError, match="does not exist"):
        open_images(tmp_path / "none")


def test_items_find_their_files_by_id_or_by_column(caplog):
    names = ["1.jpg", "a/2.png", "b/3.png", "c/3.jpg", "x/4.png"]
    with caplog.at_level(logging.WARNING):
        found = by_item_id(names, ["1", "2", "3", "9", "../1"])
    assert found == ["1.jpg", "a/2.png", "b/3.png", None, None]
    assert "1 image files" in caplog.text
    wanted = ["/1.jpg", "2.png", "3.png", "c/3.jpg", "../../etc/passwd", "", None]
    assert by_column(names, wanted) == ["1.jpg", "a/2.png", "b/3.png", "c/3.jpg", None, None, None]


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF", "BMP"])
def test_usual_formats_are_read_as_rgb(kind):
    image = decode(as_bytes(picture(0), kind), 10_000)
    assert image.mode == "RGB"
    assert image.size == (30, 20)
    assert decode(as_bytes(picture(0, mode="L"), kind), 10_000).mode == "RGB"


def test_a_turned_picture_is_put_upright():
    import io

    from PIL import Image

    exif = Image.Exif()
    exif[0x0112] = 6
    out = io.BytesIO()
    picture(0).save(out, "JPEG", exif=exif)
    assert decode(out.getvalue(), 10_000).size == (20, 30)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"hello",
        as_bytes(picture(1))[:200],
        as_bytes(picture(1, (200, 200)), "JPEG")[:1500],
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n",
        b"GIF89a" + bytes(5),
        b"\x89PNG\r\n\x1a\n" + bytes(60),
    ],
)
def test_damaged_files_give_a_reason(data):
    with pytest.raises(Unreadable, match="is no image that can be read"):
        decode(data, 100_000)


def test_a_file_that_unpacks_to_more_than_memory_is_not_unpacked(monkeypatch):
    from PIL import Image

    bomb = as_bytes(Image.new("1", (3000, 3000)))
    assert len(bomb) < 5_000
    with pytest.raises(Unreadable, match=r"3000 x 3000 pixels, more than the 50,000 of"):
        decode(bomb, 50_000)
    # Where the recipe allows more than Pillow does, Pillow's own guard holds.
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 5_000_000)
    with pytest.raises(Unreadable, match="could be decompression bomb"):
        decode(bomb, 10**9)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1_000)
    with pytest.raises(Unreadable, match="decompression bomb"):
        decode(bomb, 10**9)


def test_what_cannot_be_read_has_a_reason(tmp_path):
    files = open_images(write_tar(tmp_path / "p.tar", {"1.png": b"x" * 100}))
    with pytest.raises(Unreadable, match="more than the 10 of image.max_bytes"):
        read_picture(files, "1.png", max_bytes=10, max_pixels=10)

import hashlib
import http.server
import logging
import threading
from dataclasses import dataclass, field

import pytest

from genrec.data import fetch as fetching
from genrec.data.fetch import PUBLIC_SETS, PublicSet, RemoteFile, fetch
from genrec.errors import DataError, DependencyError

RATINGS = bytes(range(256)) * 1000
LICENCE = b"You may use this.\n"


@dataclass
class Server:
    """A web server with byte ranges that can cut an answer short or refuse ranges."""

    contents: dict[str, bytes]
    cut_after: list[int] = field(default_factory=list)
    ranges: bool = True
    redirect_to: str | None = None
    asked: list[tuple[str, str | None]] = field(default_factory=list)
    address: str = ""

    def answer(self, handler):
        wanted = handler.headers.get("Range")
        self.asked.append((handler.path, wanted))
        if self.redirect_to is not None:
            handler.send_response(302)
            handler.send_header("Location", self.redirect_to)
            handler.end_headers()
            return
        if handler.path not in self.contents:
            handler.send_error(404)
            return
        body = self.contents[handler.path]
        start = int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted else 0
        if not self.ranges:
            start = 0
        if start >= len(body):
            handler.send_error(416)
            return
        handler.send_response(206 if start else 200)
        handler.send_header("Content-Length", str(len(body) - start))
        if start:
            handler.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        handler.end_headers()
        end = start + self.cut_after.pop(0) if self.cut_after else len(body)
        handler.wfile.write(body[start:end])


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    state = Server({"/deep/ratings.dat": RATINGS, "/LICENSE": LICENCE})

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            state.answer(self)

        def log_message(self, *arguments):
            pass

    web = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    state.address = f"http://127.0.0.1:{web.server_address[1]}"
    thread = threading.Thread(target=web.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    files = (remote("deep/ratings.dat", RATINGS), remote("LICENSE", LICENCE))
    known = PublicSet("A set.", state.address, "Cite us.", files)
    monkeypatch.setitem(PUBLIC_SETS, "tiny", known)
    yield state
    web.shutdown()
    web.server_close()
    thread.join()


def remote(path, body):
    return RemoteFile(path, len(body), hashlib.sha256(body).hexdigest())


def test_all_files_arrive_and_the_terms_are_said(server, tmp_path, caplog):
    caplog.set_level(logging.INFO, logger="genrec")
    folder = fetch("tiny", tmp_path, quiet=True)
    assert folder == tmp_path / "tiny"
    assert (folder / "ratings.dat").read_bytes() == RATINGS
    assert (folder / "LICENSE").read_bytes() == LICENCE
    assert sorted(path.name for path in folder.iterdir()) == ["LICENSE", "ratings.dat"]
    assert "Cite us." in caplog.text


def test_what_is_there_is_not_asked_for_again(server, tmp_path):
    fetch("tiny", tmp_path, quiet=True)
    server.asked.clear()
    fetch("tiny", tmp_path, quiet=True)
    assert server.asked == []


def test_an_interrupted_download_goes_on_where_it_stopped(server, tmp_path):
    server.cut_after = [100_000, 50_000]
    folder = fetch("tiny", tmp_path, quiet=True)
    assert (folder / "ratings.dat").read_bytes() == RATINGS
    assert [asked for path, asked in server.asked if path == "/deep/ratings.dat"] == [
        None,
        "bytes=100000-",
        "bytes=150000-",
    ]


def test_a_second_call_goes_on_after_the_first_gave_up(server, tmp_path):
    server.cut_after = [10, 20, 30]
    with pytest.raises(DependencyError, match="ended after 60 of 256,000 bytes"):
        fetch("tiny", tmp_path, quiet=True)
    assert (tmp_path / "tiny" / "ratings.dat.part").read_bytes() == RATINGS[:60]
    assert not (tmp_path / "tiny" / "ratings.dat").exists()
    server.asked.clear()
    folder = fetch("tiny", tmp_path, quiet=True)
    assert server.asked[0] == ("/deep/ratings.dat", "bytes=60-")
    assert (folder / "ratings.dat").read_bytes() == RATINGS


def test_a_server_without_ranges_starts_anew(server, tmp_path):
    server.cut_after = [100_000]
    server.ranges = False
    folder = fetch("tiny", tmp_path, quiet=True)
    assert (folder / "ratings.dat").read_bytes() == RATINGS


def test_a_wrong_range_is_not_joined_on(server, tmp_path):
    part = tmp_path / "tiny" / "ratings.dat.part"
    part.parent.mkdir()
    part.write_bytes(RATINGS[:1000])
    server.contents["/deep/ratings.dat"] = RATINGS[:1000]
    with pytest.raises(DependencyError, match="416"):
        fetch("tiny", tmp_path, quiet=True)
    server.contents["/deep/ratings.dat"] = RATINGS
    assert (fetch("tiny", tmp_path, quiet=True) / "ratings.dat").read_bytes() == RATINGS


def test_a_changed_file_is_refused_and_removed(server, tmp_path):
    server.contents["/deep/ratings.dat"] = b"x" + RATINGS[1:]
    with pytest.raises(DataError, match="expected " + hashlib.sha256(RATINGS).hexdigest()):
        fetch("tiny", tmp_path, quiet=True)
    assert list((tmp_path / "tiny").iterdir()) == []


def test_a_damaged_partial_file_is_refused_then_replaced(server, tmp_path):
    part = tmp_path / "tiny" / "ratings.dat.part"
    part.parent.mkdir()
    part.write_bytes(b"?" * 500)
    with pytest.raises(DataError, match="sha256"):
        fetch("tiny", tmp_path, quiet=True)
    assert (fetch("tiny", tmp_path, quiet=True) / "ratings.dat").read_bytes() == RATINGS


def test_a_damaged_finished_file_is_replaced(server, tmp_path):
    folder = fetch("tiny", tmp_path, quiet=True)
    (folder / "LICENSE").write_bytes(b"other")
    fetch("tiny", tmp_path, quiet=True)
    assert (folder / "LICENSE").read_bytes() == LICENCE


def test_a_refused_connection_says_what_to_put_where(monkeypatch, tmp_path):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with http.server.HTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler) as web:
        closed = f"http://127.0.0.1:{web.server_address[1]}"
    with pytest.raises(DependencyError) as caught:
        fetch("movietweetings-100k", tmp_path, quiet=True, base=closed)
    message = str(caught.value)
    assert str(tmp_path / "movietweetings-100k") in message
    for file in PUBLIC_SETS["movietweetings-100k"].files:
        assert f"{closed}/{file.path}" in message
        assert file.sha256 in message


def test_files_put_there_by_hand_are_taken_without_a_network(monkeypatch, tmp_path):
    files = (remote("deep/ratings.dat", RATINGS),)
    known = PublicSet("A set.", "https://name.invalid", "Cite us.", files)
    monkeypatch.setitem(PUBLIC_SETS, "tiny", known)
    (tmp_path / "tiny").mkdir()
    (tmp_path / "tiny" / "ratings.dat").write_bytes(RATINGS)
    assert fetch("tiny", tmp_path, quiet=True) == tmp_path / "tiny"


def test_a_missing_file_names_the_answer(server, tmp_path):
    del server.contents["/LICENSE"]
    with pytest.raises(DependencyError, match=r"LICENSE could not be downloaded.*404"):
        fetch("tiny", tmp_path, quiet=True)


@pytest.mark.parametrize(
    "base", ["http://example.org", "ftp://127.0.0.1", "file:///etc", "http://127.0.0.1.evil.org"]
)
def test_only_safe_addresses(base, tmp_path):
    with pytest.raises(DataError, match="https"):
        fetch("movietweetings-100k", tmp_path, quiet=True, base=base)


def test_a_redirect_to_an_unsafe_address_is_refused(server, tmp_path):
    server.redirect_to = "http://example.org/ratings.dat"
    with pytest.raises(DataError, match="not an https address"):
        fetch("tiny", tmp_path, quiet=True)


def test_an_unknown_name_lists_what_there_is(tmp_path):
    with pytest.raises(DataError, match="movietweetings-100k"):
        fetch("movielens", tmp_path)


def test_every_set_is_complete():
    for known in PUBLIC_SETS.values():
        assert known.base.startswith("https://")
        assert known.terms
        names = [file.name for file in known.files]
        assert len(set(names)) == len(names)
        for file in known.files:
            assert len(bytes.fromhex(file.sha256)) == 32
            assert file.size > 0
    assert fetching.ATTEMPTS >= 2

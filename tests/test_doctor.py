import dataclasses
import json
import sys
from importlib import metadata

import pytest

from genrec import doctor
from genrec.doctor import Check, examine, healthy


@pytest.fixture(scope="module")
def checks():
    return {check.name: check for check in examine()}


def test_this_machine_is_healthy_enough_to_run_the_tests(checks):
    assert healthy(list(checks.values()))
    assert {"python", "packages", "torch", "GPU", "bfloat16", "memory", "disk"} <= set(checks)
    assert checks["import torch"].found == metadata.version("torch")
    assert checks["python"].found == sys.version.split()[0]


def test_every_note_says_what_to_do(checks):
    for check in checks.values():
        assert check.advice or check.status == "ok" or "unknown" in check.found


def test_a_missing_package_is_broken_and_named_with_the_install_line(monkeypatch):
    monkeypatch.setattr(
        metadata, "requires", lambda _: ["pydantic>=2", "not-there>=1", 'x; extra == "dev"']
    )
    [check] = doctor._packages()
    assert check.status == "broken"
    assert check.found == "missing: not-there"
    assert "`pip install not-there`" in check.advice
    assert not healthy([check])


def test_a_package_that_cannot_be_imported_is_broken(monkeypatch):
    def refuse(name):
        raise OSError(f"{name}: libgomp is missing\nmore")

    monkeypatch.setattr(doctor, "import_module", refuse)
    checks = list(doctor._imports())
    assert {check.status for check in checks} == {"broken"}
    assert checks[0].found == "torch: libgomp is missing"


def test_a_missing_extra_is_a_note_with_the_install_line(monkeypatch):
    monkeypatch.setattr(doctor.util, "find_spec", lambda name: None)
    checks = list(doctor._extras())
    assert [check.status for check in checks] == ["note", "note"]
    assert checks[0].advice == 'Run `pip install "genrec[text]"`.'
    assert checks[1].advice == 'Run `pip install "genrec[image]"`.'
    assert healthy(checks)


@pytest.mark.parametrize(("available", "status"), [(2.0, "note"), (16.0, "ok"), (None, "note")])
def test_little_memory_is_noted(monkeypatch, available, status):
    monkeypatch.setattr(doctor, "_available_memory", lambda: available)
    assert doctor._memory().status == status


def test_slow_bfloat16_that_would_be_chosen_is_noted(monkeypatch):
    times = iter([1.0, 3.0])
    monkeypatch.setattr(doctor, "_seconds_of", lambda product: next(times))
    monkeypatch.setattr(doctor, "cpu_has_bfloat16", lambda: True)
    check = doctor._bfloat16()
    assert check.status == "note"
    assert "3.00 times" in check.found
    assert "runtime.dtype=float32" in check.advice


def test_an_old_python_is_broken(monkeypatch):
    monkeypatch.setattr(doctor.sys, "version_info", (3, 10, 0))
    assert doctor._python().status == "broken"


def test_checks_are_plain_values():
    check = Check("a", "note", "b", "c")
    assert json.loads(json.dumps(dataclasses.asdict(check))) == {
        "name": "a",
        "status": "note",
        "found": "b",
        "advice": "c",
    }

"""What ``fedsim doctor`` finds, with what to do about it."""

from __future__ import annotations

from pathlib import Path

import pytest
from terminal import fedsim, fine

from fedsim.cli import examining


def flat(text: str) -> str:
    return " ".join(text.split())


def test_a_machine_on_which_the_tests_run_is_well() -> None:
    said = flat(fine("doctor"))
    for what in ("python", "torch", "grpcio", "ports", "clock", "disk", "gpu", "docker"):
        assert what in said


def test_what_is_wrong_is_said_with_what_to_do_and_an_exit_code(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("FEDSIM_DATA", str(tmp_path / "none"))
    said = fedsim("doctor")
    assert said.code == 1
    assert "wrong" in said.out
    found = {each.what: each for each in examining._all([])}["FEDSIM_DATA"]
    assert found.do == "set it to where data sets lie, or not at all"


def test_what_an_extra_brings_is_a_note(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(examining, "EXTRAS", {"no-such-package": "ray"})
    found = {each.what: each for each in examining._versions()}["no-such-package"]
    assert found == ("note", "no-such-package", "not installed", "pip install 'fedsim-vfl[ray]', if a run needs it")


def test_flower_by_hand_calls_home_unless_it_is_told_not_to(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("flwr", reason="needs fedsim-vfl[flower]")
    for name in examining.SWITCHES:
        monkeypatch.delenv(name, raising=False)
    (found,) = examining._flower()
    assert found.do.startswith("export FLWR_TELEMETRY_ENABLED=0 FLWR_DISABLE_UPDATE_CHECK=1 ")
    for name, value in examining.SWITCHES.items():
        monkeypatch.setenv(name, value)
    assert list(examining._flower()) == []


@pytest.mark.parametrize(
    ("days", "state", "end"),
    [(7, "ok", "UTC"), (0.5, "note", "expires within a day"), (-0.001, "wrong", "has expired")],
)
def test_a_certificate_is_told_by_names_and_end(tmp_path: Path, days: float, state: str, end: str) -> None:
    pytest.importorskip("cryptography", reason="needs fedsim-vfl[flower]")
    from fedsim.transport.certificates import certify

    identities = certify("server", ["north"], ["hub.example.org", "10.0.0.1"], days)
    for role, identity in identities.items():
        (tmp_path / role).write_bytes(identity.certificate)
    server, north = (examining._certificate(tmp_path / role) for role in ("server", "north"))
    assert (server.state, north.state) == (state, state)
    assert server.found.startswith("CN=server at hub.example.org, 10.0.0.1, until 2")
    assert north.found.startswith("CN=north, until 2")
    assert server.found.endswith(end)


def test_what_is_no_certificate_is_wrong(tmp_path: Path) -> None:
    pytest.importorskip("cryptography", reason="needs fedsim-vfl[flower]")
    (tmp_path / "x").write_text("x")
    assert examining._certificate(tmp_path / "x").state == "wrong"
    assert examining._certificate(tmp_path / "none").state == "wrong"

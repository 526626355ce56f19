"""What ``fedsim doctor`` finds, with what to do about it."""

from __future__ import annotations

import os
import socket
import tempfile
from pathlib import Path

import pytest
from terminal import fedsim, fine

from fedsim.cli import examining
from fedsim.cli.surroundings import Found, look_around
from fedsim.runtime._environment import SHORT_FOLDERS


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


def surroundings() -> dict[str, Found]:
    return {each.what: each for each in look_around()}


def test_an_ordinary_machine_has_next_to_nothing_to_tell_of_its_surroundings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [
        name for name in os.environ if "proxy" in name.lower() or name.startswith(("RAY_", "FLWR_", "FEDSIM_D"))
    ]:
        monkeypatch.delenv(name)
    assert {each.state for each in surroundings().values()} <= {"ok", "note"}
    assert surroundings()["ports"].state == "ok"


def test_what_the_machine_has_set_up_for_others_is_told_with_what_it_means(
    monkeypatch: pytest.MonkeyPatch, hostile_environment: Path
) -> None:
    monkeypatch.setenv("FEDSIM_DEVICE", "meta")
    found = surroundings()
    assert found["proxy"].found.startswith("http_proxy, HTTP_PROXY, https_proxy, ")
    assert found["RAY_ADDRESS"].do == "it is a dashboard for jobs, which no run can join"
    assert "RAY_NAMESPACE" in found["RAY_*"].found
    assert "FLWR_DATABASE" in found["FLWR_*"].found
    assert found["sockets"].found.endswith(f"those of ray and flower go to {SHORT_FOLDERS[0]}")
    assert found["HOME"].found == "/proc/none cannot be written to"
    assert found["python"].found.startswith("PYTHONINSPECT, PYTHONSTARTUP")
    assert {each.what for each in found.values() if each.state == "wrong"} == {"FEDSIM_DEVICE"}
    assert list(hostile_environment.iterdir()) == []


def test_without_any_temporary_folder_it_says_what_still_works(monkeypatch: pytest.MonkeyPatch) -> None:
    def none() -> str:
        raise FileNotFoundError("No usable temporary directory found")

    monkeypatch.setattr(tempfile, "gettempdir", none)
    found = surroundings()["TMPDIR"]
    assert (found.state, found.found) == ("wrong", "no temporary folder can be written to")
    assert fedsim("doctor").code == 1


def test_an_engine_of_somebody_else_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setattr("fedsim.cli.surroundings.LISTENERS", {"Ray": {server.getsockname()[1]: "its address"}})
        found = surroundings()["listeners"]
    assert (found.state, "its address" in found.found) == ("ok", True)
    assert "runtime.address: auto" in found.do

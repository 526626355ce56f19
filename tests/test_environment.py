"""What child processes and engines inherit: no proxy for loopback, nothing that leads an engine elsewhere, short folders."""

from __future__ import annotations

import os
import socket
import tempfile
import urllib.request
from pathlib import Path

import pytest

from fedsim.errors import ConfigError
from fedsim.runtime import _environment
from fedsim.runtime._environment import (
    LOOPBACK_NAMES,
    SOCKET_PATH_BYTES,
    changed_environment,
    child_environment,
    describe_full_disk,
    describe_ignored,
    exempt_loopback,
    explained_writes,
    foreign_variables,
    make_short_folder,
    usable_home,
)

EXEMPT = ",".join(LOOPBACK_NAMES)


@pytest.mark.parametrize("proxy", ["http_proxy", "HTTPS_PROXY", "all_proxy", "grpc_proxy", "ALL_PROXY"])
def test_with_a_proxy_of_any_name_loopback_is_exempt_in_both_cases(proxy: str) -> None:
    found = exempt_loopback({proxy: "http://proxy:3128", "PATH": "/bin"})
    assert found == {proxy: "http://proxy:3128", "PATH": "/bin", "no_proxy": EXEMPT, "NO_PROXY": EXEMPT}


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({}, {}),
        ({"http_proxy": ""}, {"http_proxy": ""}),
        ({"http_proxy": "p", "no_proxy": "a.org, b.org"}, {"no_proxy": f"a.org,b.org,{EXEMPT}"}),
        ({"http_proxy": "p", "NO_PROXY": "a.org"}, {"no_proxy": f"a.org,{EXEMPT}", "NO_PROXY": f"a.org,{EXEMPT}"}),
        ({"http_proxy": "p", "no_proxy": "127.0.0.1"}, {"no_proxy": "127.0.0.1,localhost,::1"}),
        ({"http_proxy": "p", "no_grpc_proxy": "a"}, {"no_grpc_proxy": f"a,{EXEMPT}", "no_proxy": EXEMPT}),
        ({"http_proxy": "p", "HTTPS_PROXY": "p", "no_proxy": "*"}, {"no_proxy": "*"}),
    ],
)
def test_hosts_that_are_exempt_stay_so(before: dict[str, str], after: dict[str, str]) -> None:
    found = exempt_loopback(before)
    assert {name: found[name] for name in after} == after
    if before.get("no_proxy") == "*":  # no proxy at all, which gRPC would not understand
        assert found == after


def test_pythons_own_web_client_goes_past_the_proxy_to_loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    for name, value in exempt_loopback(os.environ).items():
        monkeypatch.setenv(name, value)
    for host in LOOPBACK_NAMES:
        assert urllib.request.proxy_bypass(host)
    assert not urllib.request.proxy_bypass("example.org")


def test_the_variables_of_an_engine_are_left_out_for_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("FLWR_HOME", "FLWR_SOMETHING", "FLWR_empty", "PYTHONWARNINGS", "PYTHONINSPECT"):
        monkeypatch.setenv(name, "x")
    monkeypatch.setenv("FLWR_TELEMETRY_ENABLED", "1")
    assert foreign_variables("FLWR_", {"FLWR_TELEMETRY_ENABLED"}) == ["FLWR_HOME", "FLWR_SOMETHING"]
    engine = child_environment({"FLWR_TELEMETRY_ENABLED": "0", "FLWR_HOME": "/own"}, engine="FLWR_")
    assert (engine["FLWR_TELEMETRY_ENABLED"], engine["FLWR_HOME"]) == ("0", "/own")
    assert {"FLWR_SOMETHING", "PYTHONWARNINGS", "PYTHONINSPECT"} & set(engine) == set()
    seat = child_environment({})
    assert (seat["FLWR_HOME"], seat["PYTHONWARNINGS"]) == ("x", "x")
    assert "PYTHONINSPECT" not in seat


def test_what_tunes_an_engine_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = ("RAY_health_check_period_ms", "RAY_EXPERIMENTAL_NOSET_CUDA_VISIBLE_DEVICES", "XRAY_ADDRESS")
    for name in (*kept, "RAY_ADDRESS", "RAY_JOB_CONFIG_JSON_ENV_VAR"):
        monkeypatch.setenv(name, "1")
    found = foreign_variables("RAY_", ())
    assert {"RAY_ADDRESS", "RAY_JOB_CONFIG_JSON_ENV_VAR"} <= set(found)
    assert not set(kept) & set(found)


def test_what_is_ignored_is_told_in_one_line_with_values(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    monkeypatch.setenv("RAY_NAMESPACE", "")
    told = describe_ignored(["RAY_ADDRESS", "RAY_NAMESPACE"], "Ray", "; to join another: runtime.address")
    assert (
        told == "ignored: RAY_ADDRESS=10.0.0.1:6379; this run starts a Ray of its own; to join another: runtime.address"
    )
    assert describe_ignored(["RAY_NAMESPACE"], "Ray") == ""


def test_the_environment_is_changed_and_put_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ONE", "1")
    monkeypatch.delenv("TWO", raising=False)
    monkeypatch.setenv("THREE", "3")
    before = dict(os.environ)
    with changed_environment({"ONE": "x", "TWO": "2"}, without=["THREE"]):
        assert (os.environ["ONE"], os.environ["TWO"], os.environ.get("THREE")) == ("x", "2", None)
    assert dict(os.environ) == before


@pytest.mark.parametrize("length", [30, 49, 90, 200])
def test_a_socket_fits_below_a_short_folder_however_long_that_for_temporary_files_is(
    length: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = tmp_path / ("x" * max(length - len(str(tmp_path)) - 1, 1))
    long.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(long))
    socket_name = "/s" * 20
    folder = make_short_folder("fedsim-", len(socket_name))
    try:
        assert folder.stat().st_mode & 0o777 == 0o700
        assert (folder.parent == long) == (len(str(long)) <= SOCKET_PATH_BYTES - 40 - 8 - 7 - 1)
        path = folder / ("s" * (len(socket_name) - 1))
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(path))
        path.unlink()
    finally:
        folder.rmdir()


def test_the_length_of_a_path_is_counted_in_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wide = tmp_path / ("ü" * 30)
    wide.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(wide))
    folder = make_short_folder("f-", SOCKET_PATH_BYTES - 11 - len(str(wide)))
    folder.rmdir()
    assert folder.parent != wide


def test_without_a_place_that_is_short_and_writable_it_says_what_is_expected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_environment, "SHORT_FOLDERS", (str(tmp_path / "none"),))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))
    with pytest.raises(
        ConfigError, match=r"TMPDIR: expected a folder .* of at most \d+ bytes .*; tried .*no such file"
    ):
        make_short_folder("f-", 1)
    with pytest.raises(ConfigError, match=rf"{tmp_path}/gone: \d+ bytes"):
        make_short_folder("f-", 90)


def test_an_engine_is_given_a_home_where_the_users_own_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert usable_home(Path("/own")) == {}
    monkeypatch.setenv("HOME", str(tmp_path / "none"))
    assert usable_home(Path("/own")) == {"HOME": "/own"}


def test_a_file_that_cannot_be_written_is_told_with_what_to_do(tmp_path: Path) -> None:
    with (
        pytest.raises(
            ConfigError, match=rf"^{tmp_path}: cannot be written to: is a directory; make room there, or set"
        ),
        explained_writes(tmp_path),
    ):
        tmp_path.write_text("x")
    assert describe_full_disk(tmp_path) == ""
    assert describe_full_disk(tmp_path / "none") == ""

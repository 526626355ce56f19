"""No file names an engine to join: neither a scenario that somebody sends, nor a run folder."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from socket import create_server

import pytest
from terminal import TABLE, fedsim, refused

from fedsim import config
from fedsim.engines import hide_engine_addresses
from fedsim.errors import ConfigError
from fedsim.report.writing import scenario_text


@pytest.fixture
def callers() -> Iterator[tuple[str, list[object]]]:
    """A port of this machine that notes who connects."""
    came: list[object] = []
    with create_server(("127.0.0.1", 0)) as server:

        def listen() -> None:
            try:
                while True:
                    came.append(server.accept()[1])
            except OSError:
                return

        thread = threading.Thread(target=listen, daemon=True)
        thread.start()
        yield f"127.0.0.1:{server.getsockname()[1]}", came


@pytest.mark.parametrize("scheme", ["", "ray://"])
@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("runtime: {{kind: ray, address: '{}'}}", "runtime.address"),
        ("runtime: {{address: '{}', kind: ray}}", "runtime.address"),
        ("compare: {{one: {{runtime: {{kind: ray, address: '{}'}}}}}}", "compare.one.runtime.address"),
        ("runtime: {{kind: ray}}\ncompare: {{one: {{runtime: {{address: '{}'}}}}}}", "compare.one.runtime.address"),
        ("profiles: {{p: {{runtime: {{kind: ray, address: '{}'}}}}}}", "runtime.address"),
        ("profiles: {{a: {{}}, p: {{runtime: {{kind: ray, address: '{}'}}}}}}", "profiles.p.runtime.address"),
        ("x: &x {{kind: ray, address: '{}'}}\nruntime: *x", "runtime.address"),
    ],
)
def test_a_scenario_file_that_names_an_engine_is_refused_and_nobody_calls_there(
    text: str,
    where: str,
    scheme: str,
    callers: tuple[str, list[object]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    address, came = callers
    monkeypatch.chdir(tmp_path)
    Path("s.yaml").write_text(f"{TABLE}{text.format(scheme + address)}\n")
    for command in (["run"], ["run", "--runtime", "ray"], ["check"], ["sweep"]):
        said = refused(*command, "s.yaml") if command[0] != "check" else fedsim("check", "s.yaml").err
        assert f"{where}: '{scheme}{address}': no file may name an engine to join" in said
        assert "--set runtime.address=ADDRESS" in said
        assert "s.yaml:" in said
    assert came == []


def test_the_command_line_names_one(tmp_path: Path) -> None:
    (tmp_path / "s.yaml").write_text(f"{TABLE}runtime: {{kind: ray}}\n")
    file = config.read(str(tmp_path / "s.yaml"), ["runtime.address=192.0.2.1:6379"])
    assert file.resolved()["runtime"]["address"] == "192.0.2.1:6379"
    file = config.read(str(tmp_path / "s.yaml"), ["runtime={kind: ray, address: 'ray://192.0.2.1:10001'}"])
    assert file.resolved()["runtime"]["address"] == "ray://192.0.2.1:10001"


@pytest.mark.parametrize("address", ["auto", "", "local"])
def test_a_file_may_say_that_one_is_joined_or_started(address: str, tmp_path: Path) -> None:
    (tmp_path / "s.yaml").write_text(f"{TABLE}runtime: {{kind: ray, address: '{address}'}}\n")
    assert config.read(str(tmp_path / "s.yaml")).resolved()["runtime"]["address"] == address


def test_a_run_folder_does_not_tell_of_the_engine_that_was_joined(tmp_path: Path) -> None:
    (tmp_path / "s.yaml").write_text(f"{TABLE}runtime: {{kind: ray}}\n")
    arm = "compare={one: {runtime: {address: '192.0.2.2:6379'}}}"
    file = config.read(str(tmp_path / "s.yaml"), ["runtime.address=192.0.2.1:6379", arm])
    text = scenario_text(file)
    assert "192.0.2" not in text
    (tmp_path / "again.yaml").write_text(text)
    again = config.read(str(tmp_path / "again.yaml"))
    assert again.digest() == file.digest()
    assert again.resolved()["runtime"]["address"] == "auto"
    assert "192.0.2.2" in str(file.resolved())  # what is played is as it was


@pytest.mark.parametrize("found", [["192.0.2.1:1"], 7, {"a": "b"}, True])
def test_an_address_of_another_form_is_no_way_around(found: object, tmp_path: Path) -> None:
    (tmp_path / "s.yaml").write_text(f"{TABLE}runtime: {{kind: ray, address: {found}}}\n")
    with pytest.raises(ConfigError):
        config.read(str(tmp_path / "s.yaml"))


def test_values_without_a_runtime_stay() -> None:
    for values in ({}, {"runtime": None}, {"runtime": {"kind": "local"}}, {"compare": {"a": None}}):
        assert hide_engine_addresses(values) == values

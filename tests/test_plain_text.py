"""Without certificates no seat talks to another machine, unless it is told to."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from terminal import refused

from fedsim import experiment
from fedsim.config import read
from fedsim.errors import ConfigError, TransportBroken
from fedsim.transport.addresses import is_loopback, split_address

ELSEWHERE = [
    "0.0.0.0:0", "[::]:0", "192.0.2.1:7000", "[2001:db8::1]:7000", "hub.example.org:7000", "localhost.example.org:7000",
    "127.0.0.1.example.org:7000", "[::ffff:192.0.2.1]:7000", "128.0.0.1:7000", "[::2]:7000", "[fe80::1]:7000",
]  # fmt: skip
HERE = ["127.0.0.1:0", "127.8.9.1:7000", "[::1]:7000", "localhost:7000", "LOCALHOST.:7000", "[::ffff:127.0.0.1]:7000"]


@pytest.mark.parametrize("address", ELSEWHERE)
def test_other_machines_are_not_loopback(address: str) -> None:
    assert not is_loopback(split_address(address)[0])


@pytest.mark.parametrize("address", HERE)
def test_this_machine_is_loopback(address: str) -> None:
    assert is_loopback(split_address(address)[0])


@pytest.mark.parametrize("address", ELSEWHERE)
def test_a_party_connects_to_no_other_machine_in_plain_text(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FEDSIM_TOKEN", "t")
    role = next(role for role in read("baseline").plan().seats if role != read("baseline").plan().hub)
    said = refused("seat", "baseline", "--role", role, "--connect", address, "--simulate")
    assert re.search(r"--connect \S+: to other machines .* would travel in plain text; give --ca, .* or --plain", said)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("address", ["0.0.0.0:0", "[::]:0"])
def test_a_hub_listens_to_no_other_machine_in_plain_text(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FEDSIM_TOKEN", "t")
    said = refused("seat", "baseline", "--role", "server", "--listen", address, "--simulate")
    assert f"--listen {address}: to other machines" in said
    assert list(tmp_path.iterdir()) == []


def test_from_python_it_is_the_same(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="would travel in plain text"):
        experiment.run_seat(read("baseline"), "server", "t", listen="0.0.0.0:0", simulate=True, out=tmp_path / "out")


def test_who_says_plain_gets_plain_text(tmp_path: Path) -> None:
    with pytest.raises(TransportBroken, match="did not connect within"):
        experiment.run_seat(
            read("baseline"),
            "server",
            "t",
            listen="0.0.0.0:0",
            simulate=True,
            plain=True,
            wait=0.1,
            out=tmp_path / "out",
        )

"""Addresses that nobody can listen at or connect to: each says which of the many reasons it is."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from terminal import TABLE, refused, write_table

from fedsim.errors import ConfigError, TransportBroken
from fedsim.transport.addresses import (
    explain_connect,
    explain_listen,
    find_loopback,
    free_port,
    join_address,
    probe_loopback,
    split_address,
)
from fedsim.transport.grpc import Hub, Pass

NOBODY = 65534


@pytest.mark.parametrize(
    ("address", "parts"),
    [
        ("127.0.0.1:7000", ("127.0.0.1", 7000)),
        ("[::1]:0", ("::1", 0)),
        ("hub.example.org:65535", ("hub.example.org", 65535)),
    ],
)
def test_an_address_is_split_and_joined_again(address: str, parts: tuple[str, int]) -> None:
    assert split_address(address) == parts
    assert join_address(*parts) == address


@pytest.mark.parametrize(
    ("address", "why"),
    [
        ("localhost", "expected HOST:PORT"),
        (":7000", "expected HOST:PORT"),
        ("::1:7000", r"an IPv6 address stands in brackets: \[::1\]:7000"),
        ("[127.0.0.1]:7000", "expected HOST:PORT"),
        ("localhost:65536", "expected a port from 0 to 65535; found 65536"),
        ("localhost:http", "expected HOST:PORT"),
        ("http://localhost:80", "expected HOST:PORT"),
    ],
)
def test_what_is_no_address_is_refused(address: str, why: str) -> None:
    with pytest.raises(ConfigError, match=f"--listen: .*{why}"):
        split_address(address, "--listen")


def test_a_port_beyond_the_last_is_not_taken_for_another() -> None:
    with pytest.raises(ConfigError, match="found 99999"):
        asyncio.run(Hub.listen("server", ("server", "north"), Pass("t", "d"), "127.0.0.1:99999"))


def test_the_reason_why_nobody_can_listen_is_told() -> None:
    assert "the name 'no-such-host.invalid' does not resolve" in explain_listen("no-such-host.invalid:7000")
    assert explain_listen("192.0.2.7:7000") == "no network device of this machine has this address"
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = join_address(*server.getsockname())
        assert explain_listen(address) == "the port is taken by another process"
        with pytest.raises(TransportBroken, match=f"cannot listen at {address}: the port is taken by another process"):
            asyncio.run(Hub.listen("server", ("server", "north"), Pass("t", "d"), address))
    assert explain_listen(address) == ""


@pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user")
def test_a_port_below_1024_needs_permission() -> None:
    code = (
        "import os; from fedsim.transport.addresses import explain_listen;"
        f"explain_listen('127.0.0.1:0'); os.setgroups([]); os.setuid({NOBODY}); print(explain_listen('127.0.0.1:80'))"
    )
    if int(Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text()) <= 80:
        pytest.skip("anybody may listen at port 80 here")
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout == "no permission: ports below 1024 are for root; take one above, such as 8080\n"


def test_the_reason_why_nobody_answers_is_told() -> None:
    assert "does not resolve" in explain_connect("no-such-host.invalid:7000", 1.0)
    address = join_address("127.0.0.1", free_port("127.0.0.1"))
    assert explain_connect(address, 1.0) == "nothing listens there"


def test_loopback_is_found() -> None:
    assert probe_loopback(find_loopback()) == ""
    assert "address" in probe_loopback("192.0.2.7")


def test_a_seat_that_cannot_listen_is_refused_before_it_waits_for_anybody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FEDSIM_TOKEN", "t")
    said = refused("seat", "baseline", "--role", "server", "--listen", "no-such-host.invalid:7000", "--simulate")
    assert said.startswith("--listen: cannot listen at no-such-host.invalid:7000: the name 'no-such-host.invalid'")
    assert "found 70000" in refused(
        "seat", "baseline", "--role", "imaging", "--connect", "127.0.0.1:70000", "--simulate"
    )
    assert list(tmp_path.iterdir()) == []


def test_a_hub_whose_certificate_has_expired_is_refused_before_it_waits_for_anybody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("cryptography", reason="needs fedsim-vfl[flower]")
    from fedsim.transport.certificates import certify

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FEDSIM_TOKEN", "t")
    for role, identity in certify("server", ["imaging", "pathology"], ["127.0.0.1"], days=-0.001).items():
        shown = {"--ca": identity.ca, "--cert": identity.certificate, "--key": identity.key}
        words = [word for option in shown for word in (option, str(tmp_path / option))]
        for option, content in shown.items():
            (tmp_path / option).write_bytes(content)
        way = ["--listen", "127.0.0.1:0"] if role == "server" else ["--connect", "127.0.0.1:9"]
        said = refused("seat", "baseline", "--role", role, "--simulate", *way, *words)
        assert said.startswith(f"seat {role} cannot use its certificate: it has expired; it holds from ")


@pytest.mark.netns
@pytest.mark.skipif(os.geteuid() != 0 or shutil.which("ip") is None, reason="needs root and ip(8)")
@pytest.mark.parametrize(("devices", "code"), [("ip link set lo up; ip addr del 127.0.0.1/8 dev lo", 0), ("true", 1)])
def test_seats_meet_on_a_machine_that_has_only_ipv6_and_say_so_where_there_is_no_loopback(
    tmp_path: Path, devices: str, code: int
) -> None:
    write_table(tmp_path / "table.csv")
    (tmp_path / "s.yaml").write_text(TABLE)
    play = f"{devices}; exec {sys.executable} -m fedsim run s.yaml --runtime processes --out o"
    done = subprocess.run(
        ["unshare", "--net", "sh", "-c", play], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == code, done.stderr
    if code:
        last = done.stderr.splitlines()[-1]
        assert last.startswith(
            "fedsim: processes cannot reach each other on this machine (127.0.0.1: network is unreachable"
        )
        assert last.endswith("only runtime 'local' works without")

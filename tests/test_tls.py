"""Streams with certificates on both sides: who is refused and what each side is told, within seconds."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping
from pathlib import Path
from typing import Any

import pytest

from fedsim.errors import ConfigError, ProtocolError, TransportBroken
from fedsim.message import RoleId
from fedsim.transport.grpc import Hub, Pass, Spoke, token_of
from fedsim.transport.tls import Identity

pytest.importorskip("cryptography", reason="needs fedsim-vfl[flower]")

from fedsim.transport.certificates import Authority, certify

TOKEN, DIGEST = "the token of the run", "d" * 64
ROSTER = ("server", "north", "east")
LOOPBACK = ["127.0.0.1", "localhost"]
SOON = 30.0
"""Seconds within which whoever is refused must know; the patience of those that wait is ten times as long."""
PATIENCE = 300.0

Identities = Mapping[RoleId, Identity | None]
PLAIN: Identities = dict.fromkeys(ROSTER)


@pytest.fixture(scope="module")
def ours() -> Identities:
    return certify("server", ROSTER[1:], LOOPBACK, days=1)


@pytest.fixture(scope="module")
def others() -> Identities:
    return certify("server", ROSTER[1:], LOOPBACK, days=1)


def run(test: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(test, PATIENCE))


def joining(role: RoleId, hub: Hub, identity: Identity | None, token_for: RoleId = "") -> Coroutine[Any, Any, Spoke]:
    shows = Pass(token_of(TOKEN, token_for or role), DIGEST)
    return Spoke.connect(role, "server", hub.address, shows, PATIENCE, identity)


def refused(hub_is: Identity | None, north_is: Identity | None, why: str, east: Identity | None, **more: str) -> None:
    """North must be refused at once, whereas east, who is right, does not notice."""

    async def test() -> None:
        hub = await Hub.listen("server", ROSTER, Pass(TOKEN, DIGEST), identity=hub_is)
        honest = await joining("east", hub, east)
        with pytest.raises(ProtocolError, match=why):
            await asyncio.wait_for(joining("north", hub, north_is, **more), SOON)
        await honest.send("server", b"still here")
        assert await hub.recv() == ("east", b"still here")
        await honest.aclose()
        await hub.aclose()

    run(test())


def test_with_the_runs_certificates_frames_arrive(ours: Identities) -> None:
    async def test() -> None:
        hub = await Hub.listen("server", ROSTER, Pass(TOKEN, DIGEST), identity=ours["server"])
        north, east = [await joining(role, hub, ours[role]) for role in ROSTER[1:]]
        await hub.joined(PATIENCE)
        await north.send("east", b"by way of the hub")
        assert await east.recv() == ("north", b"by way of the hub")
        for seat in (north, east, hub):
            await seat.aclose()

    run(test())


def test_the_token_of_another_seat_is_refused(ours: Identities) -> None:
    why = "server at .* refuses north: wrong token: not the one of this seat in this run"
    refused(ours["server"], ours["north"], why, ours["east"], token_for="east")


def test_a_token_in_no_seats_name_lets_one_seat_join_and_no_second() -> None:
    authority = Authority(days=1)
    node = authority.identity("node 7")
    shows = Pass(token_of(TOKEN, "node 7"), DIGEST, holder="node 7")

    async def test() -> None:
        server = authority.identity("server", LOOPBACK)
        hub = await Hub.listen("server", ROSTER, Pass(TOKEN, DIGEST), identity=server)
        north = await Spoke.connect("north", "server", hub.address, shows, PATIENCE, node)
        with pytest.raises(ProtocolError, match="refuses east: wrong token"):
            await Spoke.connect("east", "server", hub.address, shows, PATIENCE, node)
        lent = Pass(token_of(TOKEN, "north"), DIGEST, holder="north")
        with pytest.raises(ProtocolError, match="refuses east: wrong token"):
            await Spoke.connect("east", "server", hub.address, lent, PATIENCE, authority.identity("north"))
        await north.aclose()
        await hub.aclose()

    run(test())


def test_the_certificate_of_another_seat_is_refused(ours: Identities) -> None:
    refused(ours["server"], ours["east"], "refuses north: wrong certificate: it names east, not north", ours["east"])


def test_a_client_of_another_authority_is_refused(ours: Identities, others: Identities) -> None:
    right, wrong = ours["north"], others["north"]
    assert right is not None
    assert wrong is not None
    pretender = Identity(right.ca, wrong.certificate, wrong.key)
    why = "north cannot join server at .*: it does not take this seat's certificate: "
    refused(ours["server"], pretender, why, ours["east"])


def test_a_hub_of_another_authority_is_refused(ours: Identities, others: Identities) -> None:
    why = "north cannot join server at .*: its certificate does not hold: "
    refused(ours["server"], others["north"], why, ours["east"])


def test_another_seat_cannot_pass_for_the_hub(ours: Identities) -> None:
    async def test() -> None:
        hub = await Hub.listen("server", ROSTER, Pass(TOKEN, DIGEST), identity=ours["east"])
        with pytest.raises(ProtocolError, match="its certificate does not hold: "):
            await asyncio.wait_for(joining("north", hub, ours["north"]), SOON)
        await hub.aclose()

    run(test())


def test_a_hub_at_an_address_that_its_certificate_does_not_name_is_refused(ours: Identities) -> None:
    elsewhere = certify("server", ["north"], ["hub.example.org"], days=1)

    async def test() -> None:
        hub = await Hub.listen("server", ROSTER, Pass(TOKEN, DIGEST), identity=elsewhere["server"])
        with pytest.raises(ProtocolError, match=r"its certificate does not hold: IP address mismatch"):
            await asyncio.wait_for(joining("north", hub, elsewhere["north"]), SOON)
        await hub.aclose()

    run(test())


def test_a_certificate_that_has_expired_is_refused() -> None:
    late = certify("server", ["north"], LOOPBACK, days=-0.001)

    async def test() -> None:
        hub = await Hub.listen("server", ROSTER, Pass(TOKEN, DIGEST), identity=late["server"])
        with pytest.raises(ProtocolError, match="its certificate does not hold: certificate has expired"):
            await asyncio.wait_for(joining("north", hub, late["north"]), SOON)
        await hub.aclose()

    run(test())


def test_a_client_in_plain_text_is_refused(ours: Identities) -> None:
    refused(ours["server"], None, "north cannot join server at .*: it .*plain text", ours["east"])


def test_a_hub_in_plain_text_is_refused(ours: Identities) -> None:
    refused(None, ours["north"], "north cannot join server at .*: it does not speak TLS", None)


def test_who_waits_for_one_that_is_refused_is_told_why(ours: Identities) -> None:
    async def test() -> None:
        hub = await Hub.listen("server", ROSTER, Pass(TOKEN, DIGEST), identity=ours["server"])
        east = await joining("east", hub, ours["east"])
        with pytest.raises(ProtocolError, match="wrong token"):
            await joining("north", hub, ours["north"], token_for="east")
        why = r"north did not connect within 0\.1 s; refused: 127\.0\.0\.1 as 'north': wrong token: not the one of this seat"
        with pytest.raises(TransportBroken, match=why) as broken:
            await hub.joined(0.1)
        await hub.abort(str(broken.value))
        with pytest.raises(TransportBroken, match=f"server is gone: {why}"):
            await east.recv()
        await east.aclose()

    run(test())


def test_tokens_and_keys_do_not_show(ours: Identities) -> None:
    north = ours["north"]
    assert north is not None
    assert "PRIVATE KEY" in north.key.decode()
    assert "PRIVATE KEY" not in repr(north)
    assert TOKEN not in repr(Pass(TOKEN, DIGEST))


def test_an_identity_is_read_from_files_that_fit_together(tmp_path: Path, ours: Identities) -> None:
    north, east = ours["north"], ours["east"]
    assert north is not None
    assert east is not None
    ca, certificate, key = (tmp_path / name for name in ("ca", "certificate", "key"))
    ca.write_bytes(north.ca)
    certificate.write_bytes(north.certificate)
    key.write_bytes(north.key)
    assert Identity.read(ca, certificate, key) == north
    key.write_bytes(east.key)
    with pytest.raises(ConfigError, match="key: this is the private key of another certificate"):
        Identity.read(ca, certificate, key)
    with pytest.raises(ConfigError, match="none: cannot be read: No such file"):
        Identity.read(ca, tmp_path / "none", key)
    ca.write_text("not a certificate")
    with pytest.raises(ConfigError, match="ca: this is no certificate in PEM"):
        Identity.read(ca, certificate, key)
    with pytest.raises(ConfigError, match="certificate: this is no private key in PEM"):
        Identity.read(certificate, certificate, certificate)


@pytest.mark.parametrize(("role", "hosts"), [("n" * 65, LOOPBACK), ("north", ["größer.example"])])
def test_what_cannot_be_certified_is_refused(role: str, hosts: list[str]) -> None:
    with pytest.raises(ConfigError, match=r"a certificate names at most 64|expected a name or an address"):
        certify("server", [role], hosts, days=1)


def own(role: str, identity: Identity, why: str, authority: Identity | None = None) -> None:
    """Check an identity as its own seat does before it meets the others."""
    shown = Identity((authority or identity).ca, identity.certificate, identity.key)
    with pytest.raises(ConfigError, match=f"^seat {role} cannot use its certificate: {why}"):
        shown.check(role, listens=role == "server")


def test_a_seat_checks_its_own_certificate_as_its_peers_would() -> None:
    good, other = (certify("server", ROSTER[1:], LOOPBACK, days=1) for _ in range(2))
    late = certify("server", ROSTER[1:], LOOPBACK, days=-0.001)
    for role in ROSTER:
        good[role].check(role, listens=role == "server")
        dates = (
            r"it has expired; it holds from \d{4}-\d\d-\d\d .* UTC, and here it is \d{4}-.*set the clock, or make new"
        )
        own(role, late[role], dates)
        own(role, good[role], "the authority in --ca has not signed it", other[role])
    own("north", good["east"], "it is that of east, not of north")
    own("north", good["server"], "it may not be used to connect")
    own("server", good["north"], "it may not be used to listen")


def test_a_certificate_that_is_not_valid_yet_is_said_to_be_so(monkeypatch: pytest.MonkeyPatch) -> None:
    from datetime import timedelta

    from fedsim.transport import certificates

    monkeypatch.setattr(certificates, "BEFORE", timedelta(hours=-1))
    own("north", certify("server", ["north"], LOOPBACK, days=1)["north"], "it is not valid yet; it holds from")

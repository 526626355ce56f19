"""Who this side is when a stream is encrypted, and a knock at a door: gRPC does not say why nobody opens."""

from __future__ import annotations

import asyncio
import socket
import ssl
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from fedsim.errors import ConfigError
from fedsim.transport._credentials import (
    OUT_OF_DATE,
    describe_validity,
    explain_files,
    explain_own,
    load_chain,
    validity,
)

APART = 0.1
"""Seconds between two knocks where nobody listens yet."""
SLOW = 3.0
"""Seconds that one who listens may take to answer, and for which one who hangs up is tried again: he may be starting."""
_GREETING = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0"  # how HTTP/2 begins, with empty settings
_SETTINGS, _SETTINGS_AT = 4, 3  # the kind of the first frame of an answer, and where it says so


@dataclass(frozen=True)
class Identity:
    """What one side of an encrypted stream shows, and whom it trusts; all in PEM.

    Attributes:
        ca: the certificate of the authority that has signed those of every seat.
        certificate: this seat's own; its common name is the role.
        key: the private key of the certificate.
    """

    ca: bytes
    certificate: bytes
    key: bytes = field(repr=False)

    @staticmethod
    def read(ca: Path, certificate: Path, key: Path) -> Identity:
        """The identity in three files.

        Raises:
            ConfigError: one cannot be read, is no PEM, or the key is that of another certificate.
        """
        try:
            identity = Identity(ca.read_bytes(), certificate.read_bytes(), key.read_bytes())
        except OSError as error:
            raise ConfigError(f"{error.filename}: cannot be read: {error.strerror}") from error
        which, reason = explain_files(identity.ca, identity.certificate, identity.key)
        if reason:
            raise ConfigError(f"{(ca, certificate, key)[which]}: {reason}")
        return identity

    def check(self, role: str, listens: bool) -> None:
        """Check that the peers of a seat will accept it: its dates, its names, its authority and its key.

        Args:
            role: the seat that shows it.
            listens: whether that is the hub's.

        Raises:
            ConfigError: they will not; says why.
        """
        if reason := explain_own(self.ca, self.certificate, self.key, role, listens):
            raise ConfigError(f"seat {role} cannot use its certificate: {reason}")

    def trusts(self) -> ssl.SSLContext:
        """The same for Python's own sockets, on the side that connects.

        Raises:
            ssl.SSLError: these are no certificates, or the key does not belong to them.
        """
        try:
            context = ssl.create_default_context(cadata=self.ca.decode())
        except (ValueError, UnicodeDecodeError) as error:
            raise ssl.SSLError(f"the authority's certificate: {error}") from error
        context.set_alpn_protocols(["h2"])
        load_chain(context, self.certificate, self.key)
        return context


async def knock(address: str, identity: Identity | None) -> str:
    """Wait until somebody listens at ``address``; why he is not to be talked to like this, or nothing.

    Args:
        address: ``host:port``.
        identity: for TLS; None is for a stream in plain text.
    """
    context, hung_up = identity.trusts() if identity else None, 0.0
    while True:
        try:
            return await asyncio.to_thread(_try, address, context, identity)
        except ConnectionResetError:
            hung_up = hung_up or time.monotonic()
            if time.monotonic() > hung_up + SLOW:
                return f"it hangs up on a connection {'with TLS' if context else 'in plain text'}"
        except OSError:  # nobody there, as yet
            hung_up = 0.0
        await asyncio.sleep(APART)


def _try(address: str, context: ssl.SSLContext | None, identity: Identity | None) -> str:
    host, _, port = address.rpartition(":")
    host = host.strip("[]")
    with socket.create_connection((host, int(port)), timeout=SLOW) as raw:
        try:
            door = context.wrap_socket(raw, server_hostname=host) if context else raw
        except ssl.SSLCertVerificationError as error:
            shown = _shown(host, int(port)) if error.verify_code in OUT_OF_DATE else b""
            return f"its certificate does not hold: {error.verify_message}{describe_validity(validity(shown))}"
        except ssl.SSLError as error:
            return f"it does not speak TLS: {(error.reason or 'it ends the connection').lower().replace('_', ' ')}"
        except TimeoutError:
            return f"it does not answer within {SLOW:g} s"
        with door:
            answer = _asked(door)
    if identity and not answer:  # it has shown a certificate that holds, and then hung up
        held, now = validity(identity.certificate), datetime.now(UTC)
        over = held is not None and not held[0] <= now <= held[1]
        why = "out of date" if over else "of another authority, or out of date by its clock"
        return f"it does not take this seat's certificate: {why}{describe_validity(held)}"
    if not answer:
        raise ConnectionResetError
    if answer[_SETTINGS_AT:] != bytes([_SETTINGS]):
        return "it does not take plain text: this seat needs certificates"
    return ""


def _shown(host: str, port: int) -> bytes:
    """The certificate of somebody who is not to be trusted, in PEM; empty if he shows none."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        with socket.create_connection((host, port), timeout=SLOW) as raw, context.wrap_socket(raw) as door:
            return ssl.DER_cert_to_PEM_cert(door.getpeercert(binary_form=True) or b"").encode()
    except OSError:
        return b""


def _asked(door: socket.socket) -> bytes:
    """The beginning of the answer to a greeting, empty if the other side hangs up."""
    try:
        door.sendall(_GREETING)
        return door.recv(_SETTINGS_AT + 1)
    except TimeoutError:
        raise
    except OSError:
        return b""

"""Check a seat's own certificate before it meets the others: a peer that refuses it can only hang up."""

from __future__ import annotations

import contextlib
import ssl
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

OUT_OF_DATE = (9, 10)
"""OpenSSL's codes for a certificate that is not valid yet, and for one that has expired."""
UNKNOWN_AUTHORITY = (18, 19, 20, 21)
WRONG_PURPOSE = 26
MAX_ROUNDS = 10
"""Rounds after which a handshake within this process must be over; TLS takes three."""


def explain_files(ca: bytes, certificate: bytes, key: bytes) -> tuple[int, str]:
    """Find which of three PEM files cannot be used: its place among them and the reason; an empty reason if all can."""
    for i, content in enumerate((ca, certificate)):
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=content.decode("ascii"))
        except (ssl.SSLError, ValueError):
            return i, "this is no certificate in PEM"
    try:
        load_chain(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), certificate, key)
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            return 2, "this is the private key of another certificate"
        return 2, "this is no private key in PEM without a passphrase"
    return 0, ""


def load_chain(context: ssl.SSLContext, certificate: bytes, key: bytes) -> None:
    """Load a certificate with its key, both in PEM, into a context.

    Raises:
        ssl.SSLError: these are no certificate and key, or do not belong together.
    """
    with tempfile.TemporaryDirectory(prefix="fedsim-") as folder:  # for this user only; Python takes a key as a file
        chain, private = Path(folder) / "certificate", Path(folder) / "key"
        chain.write_bytes(certificate)
        private.write_bytes(key)
        context.load_cert_chain(chain, private, password="")


def explain_own(ca: bytes, certificate: bytes, key: bytes, role: str, listens: bool) -> str:
    """Explain why the peers of a seat would refuse its certificate; an empty string if they would not.

    A handshake within this process finds out what TLS at the other side would say.

    Args:
        ca: the authority that every seat trusts.
        certificate: the seat's own.
        key: its private key.
        role: the seat.
        listens: whether it is the hub's, which shows its hosts; every other certificate must name the role.
    """
    try:
        shown = _handshake(ca, certificate, key, listens)
    except ssl.SSLCertVerificationError as error:
        return _explain(error, certificate, listens)
    except ssl.SSLError as error:
        return f"TLS cannot use it: {(error.reason or str(error)).lower().replace('_', ' ')}"
    if listens:
        return "" if shown.get("subjectAltName") else "it names no host, so that no seat takes it for the hub's"
    names = [value for part in shown.get("subject", ()) for name, value in part if name == "commonName"]
    return "" if role in names else f"it is that of {', '.join(names) or 'nobody'}, not of {role}"


def _explain(error: ssl.SSLCertVerificationError, certificate: bytes, listens: bool) -> str:
    if error.verify_code in OUT_OF_DATE:
        what = "it is not valid yet" if error.verify_code == OUT_OF_DATE[0] else "it has expired"
        return f"{what}{describe_validity(validity(certificate))}"
    if error.verify_code in UNKNOWN_AUTHORITY:
        return "the authority in --ca has not signed it; take all files from one call of fedsim keys"
    if error.verify_code == WRONG_PURPOSE:
        return f"it may not be used {'to listen, as the hub does' if listens else 'to connect, as all seats but the hub do'}"
    return str(error.verify_message)


def _handshake(ca: bytes, certificate: bytes, key: bytes, listens: bool) -> Any:
    """Have the certificate verified as a peer would; what it says.

    Raises:
        ssl.SSLError: the handshake fails.
    """
    server, client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname, client.verify_mode = False, ssl.CERT_NONE
    judge = client if listens else server
    judge.verify_mode = ssl.CERT_REQUIRED
    judge.load_verify_locations(cadata=ca.decode("ascii"))
    for context in (server, client):
        load_chain(context, certificate, key)
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = (client.wrap_bio(back, there), server.wrap_bio(there, back, server_side=True))
    waiting = list(ends)
    for _ in range(MAX_ROUNDS):
        for end in list(waiting):
            with contextlib.suppress(ssl.SSLWantReadError):
                end.do_handshake()
                waiting.remove(end)
    if waiting:
        raise ssl.SSLError("the handshake does not come to an end")
    return ends[0 if listens else 1].getpeercert()


def validity(certificate: bytes) -> tuple[datetime, datetime] | None:
    """From when to when a certificate in PEM is valid; None if that cannot be read here."""
    try:
        from cryptography import x509

        found = x509.load_pem_x509_certificate(certificate)
    except (ImportError, ValueError):
        return None
    return found.not_valid_before_utc, found.not_valid_after_utc


def describe_validity(valid: tuple[datetime, datetime] | None) -> str:
    """The same in words, beside the clock here."""
    if valid is None:
        return ""
    first, last, now = (f"{time:%Y-%m-%d %H:%M:%S}" for time in (*valid, datetime.now(UTC)))
    return (
        f"; it holds from {first} to {last} UTC, and here it is {now}: set the clock, or make new ones with fedsim keys"
    )

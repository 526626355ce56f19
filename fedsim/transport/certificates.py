"""Certificates for the seats of one run: an authority of its own, whose key nobody keeps, the hub's and each other seat's."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from fedsim.errors import ConfigError
from fedsim.message import RoleId
from fedsim.transport.tls import Identity

BEFORE = timedelta(minutes=10)
"""How long ago a certificate begins to hold: clocks differ."""
LONGEST = 64
"""Characters of a common name."""
HOST = r"[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9_.])?"
"""A name under which a machine is reached, or an address of four numbers."""


class Authority:
    """Signs certificates for as long as it is held in memory; its key is nowhere else."""

    def __init__(self, days: float) -> None:
        self._key, start = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
        self._held = (start - BEFORE, start + timedelta(days=days))
        self._own = _name("fedsim run")
        root = _signed(self._own, self._own, self._key, self._key, self._held, _authority(), serves=None)
        self._ca = root.public_bytes(serialization.Encoding.PEM)

    def identity(self, name: str, hosts: Iterable[str] = ()) -> Identity:
        """A certificate in ``name`` with its key: for one who listens at ``hosts``, or for one who connects.

        Raises:
            ConfigError: the name is too long for a certificate, or a host is none.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        extensions: list[x509.ExtensionType] = [x509.BasicConstraints(ca=False, path_length=None)]
        if places := [_host(host) for host in hosts]:
            extensions.append(x509.SubjectAlternativeName(places))
        leaf = _signed(_name(name), self._own, key, self._key, self._held, extensions, serves=bool(places))
        return Identity(self._ca, leaf.public_bytes(serialization.Encoding.PEM), _pem(key))


def certify(hub: RoleId, others: Iterable[RoleId], hosts: Iterable[str], days: float) -> dict[RoleId, Identity]:
    """Make an authority and what it signs, by role.

    Args:
        hub: the seat that listens.
        others: the seats that connect to it.
        hosts: the names and addresses under which the hub is reached.
        days: how long the certificates hold.

    Raises:
        ConfigError: a role's name is too long for a certificate, or a host is none.
    """
    authority = Authority(days)
    return {hub: authority.identity(hub, hosts), **{role: authority.identity(role) for role in others}}


def node_keys() -> tuple[bytes, bytes]:
    """A private and a public key, as OpenSSH writes them, by which Flower knows a SuperNode."""
    key, form = ec.generate_private_key(ec.SECP384R1()), serialization.PrivateFormat.OpenSSH
    private = key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())
    public = key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    return private, public + b"\n"


def _signed(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    signs: ec.EllipticCurvePrivateKey,
    held: tuple[datetime, datetime],
    extensions: Iterable[x509.ExtensionType],
    serves: bool | None,
) -> x509.Certificate:
    """One certificate; ``serves`` says whether for a side that listens or one that connects, None for an authority."""
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(key.public_key())
    builder = builder.serial_number(x509.random_serial_number()).not_valid_before(held[0]).not_valid_after(held[1])
    for extension in extensions:
        builder = builder.add_extension(extension, critical=not isinstance(extension, x509.SubjectAlternativeName))
    builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    known = x509.AuthorityKeyIdentifier.from_issuer_public_key(signs.public_key())
    builder = builder.add_extension(known, critical=False)
    if serves is not None:
        use = ExtendedKeyUsageOID.SERVER_AUTH if serves else ExtendedKeyUsageOID.CLIENT_AUTH
        builder = builder.add_extension(x509.ExtendedKeyUsage([use]), critical=False)
    return builder.sign(signs, hashes.SHA256())


def _authority() -> list[x509.ExtensionType]:
    usage = dict.fromkeys(
        ("content_commitment", "key_encipherment", "data_encipherment", "key_agreement", "encipher_only"), False
    )
    signs = x509.KeyUsage(digital_signature=False, key_cert_sign=True, crl_sign=True, decipher_only=False, **usage)
    return [x509.BasicConstraints(ca=True, path_length=0), signs]


def _name(common: str) -> x509.Name:
    if not 0 < len(common) <= LONGEST:
        raise ConfigError(f"seat '{common:.80}': a certificate names at most {LONGEST} characters")
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


def _host(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host.strip("[]")))
    except ValueError:
        if re.fullmatch(HOST, host):
            return x509.DNSName(host)
        raise ConfigError(
            f"--host: expected a name or an address, such as hub.example.org; found '{host:.80}'"
        ) from None


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )

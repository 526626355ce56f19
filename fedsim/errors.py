"""Every error that fedsim raises, and who is to mend it.

FedsimError
├── InputError             what the user gave is wrong: one clear line, exit code 2
│   ├── ConfigError        the scenario file, an override or a plugin's settings
│   ├── DataError          a data set, its columns, its labels
│   ├── ThreatModelError   an attack asks for what it was not granted, or cannot run on this exchange
│   └── OutputError        the run folder: holds another run, is missing, is not a run
│       └── ContentError   what lies in a run folder, or came from a peer, cannot be used; a DataError, too
├── WireError              bytes that are not a frame, or a frame over the limits
├── ProtocolError          a peer that does what the protocol does not allow
├── DivergedError          training left the numbers: a rate too high, or noise too strong
├── StallError             everyone waits: names who waits for what
├── SweepError             runs of a sweep failed; its report is over the others
├── ConformanceError       a plugin breaks the contract of its kind
└── TransportError
    ├── TransportClosed    closed by this side
    ├── TransportBroken    closed by the other side, or by the world
    ├── TransportLate      nothing came in the time that was given
    └── TransportBusy      two tasks receive at the same time
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class FedsimError(Exception):
    """The root of the tree above."""


class InputError(FedsimError):
    """What the user gave is wrong; the message says what was found and what is allowed."""


class ConfigError(InputError):
    """The scenario file, an override or a plugin's settings are wrong."""


class DataError(InputError):
    """A data set cannot be used as the scenario asks."""


class ThreatModelError(InputError):
    """An attack asks for knowledge that was not granted, or does not fit the exchange."""


class OutputError(InputError):
    """A run folder cannot be written or read."""


class ContentError(OutputError, DataError):
    """What lies in a run folder, or what a peer reports, is not what it has to be; nothing of it was used."""


class WireError(FedsimError):
    """The bytes are not a frame of ours, or exceed the limits."""


class ProtocolError(FedsimError):
    """A peer broke the protocol: wrong digest, wrong sender, replay, too far ahead."""


class DivergedError(FedsimError):
    """Training left the numbers (NaN); a smaller learning rate or less noise may keep it there."""


class StallError(FedsimError):
    """Nobody can go on; the message names who waits for what."""


class SweepError(FedsimError):
    """Runs of a sweep failed; the message counts them and tells the first."""


class ConformanceError(FedsimError):
    """A plugin breaks the contract of its kind."""


class TransportError(FedsimError):
    """The way to a peer failed."""


class TransportClosed(TransportError):
    """This side has closed the transport."""


class TransportBroken(TransportError):
    """The other side, or the world, has closed the transport."""


class TransportLate(TransportError):
    """Nothing came in the time that was given."""


class TransportBusy(TransportError):
    """Two tasks use one direction of a transport at the same time."""


LISTED = 30
"""Names that an error lists, at most."""


def suggest(found: str, allowed: Iterable[str]) -> str:
    """Say what is allowed, and what was probably meant: ``; did you mean 'cafe'? allowed: cafe, dlg``.

    Of more than `LISTED` names it says how many there are, and the first.
    """
    names = sorted(allowed)
    near = difflib.get_close_matches(found, names, n=1)
    hint = f"; did you mean '{near[0]}'?" if near else ";"
    if len(names) > LISTED:
        return f"{hint} allowed: {len(names)} names, such as {', '.join(names[:3])}"
    return f"{hint} allowed: {', '.join(names) or 'nothing'}"


def restore_text(argument: str) -> str:
    """A command-line argument as text: bytes that are no UTF-8 become question marks."""
    return argument.encode("utf-8", "surrogateescape").decode("utf-8", "replace")

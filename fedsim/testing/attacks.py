"""The contract of an attack: three pure functions, that use what was granted, all of it by asking, and nothing else."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NoReturn

import torch

from fedsim.errors import ConfigError, ThreatModelError, WireError
from fedsim.message import Message
from fedsim.models.cafe_cnn import CafeCnn
from fedsim.models.linear import Linear
from fedsim.models.mlp import Mlp
from fedsim.seeding import Rng
from fedsim.testing.expect import check_metadata, expect, fingerprint, no_errors, reloaded
from fedsim.testing.recording import Recording, record
from fedsim.threat import Attack, AttackConfig, Claim, Knowledge
from fedsim.wire import Envelope, decode, encode

RNG = Rng.root(5).child("conformance")
METADATA = ("about", "sees", "metrics")


class Sealed(Knowledge):
    """Knowledge that can be had by asking only."""

    def __init__(self, recording: Recording, names: Iterable[str]) -> None:
        facts = {name: recording.facts[name] for name in names}
        self.used = set()
        self._open = Knowledge(facts).need
        self._names = tuple(facts)

    @property
    def granted(self) -> tuple[str, ...]:
        """See `Knowledge.granted`."""
        return self._names

    def need(self, name: str) -> Any:
        """See `Knowledge.need`."""
        fact = self._open(name)
        self.used.add(name)
        return fact

    def __getattr__(self, name: str) -> NoReturn:
        raise AttributeError(f"an attack has no business with Knowledge.{name}; it asks with need()")


def check_attack(config: AttackConfig, recordings: Sequence[Recording] | None = None) -> None:
    """Check an attack with these settings against recordings of small federations.

    It documents itself; each of its ``needs`` is asked for and nothing beyond them is required; ``observe`` is pure and
    takes every kind of message of the link; the state goes through a checkpoint in mid-run; the claim is the same each
    time, names its rows and can cross the wire.

    Args:
        config: the attack's settings; choose few rounds, the claim is worked out several times.
        recordings: what to attack; default: tables and images under both exchanges, as far as it sees what it must.

    Raises:
        ConformanceError: says which part of the contract is broken.
    """
    _check_declaration(config)
    offered = default_recordings() if recordings is None else recordings
    seeing = [r for r in offered if set(config.sees) <= r.kinds]
    expect(bool(seeing), f"{config.kind()}: no recording has all it must see ({', '.join(config.sees)})")
    done, refusals = set[str](), list[str]()
    for recording in seeing:
        if recordings is None and recording.exchange in done:
            continue  # one model that it can attack is enough for each exchange
        refusal = _refusal(config, recording)
        if refusal:
            refusals.append(refusal)
            continue
        _check_on(config, recording)
        done.add(recording.exchange)
    expect(bool(done), f"{config.kind()}: has all it needs, and refuses every recording: {'; '.join(refusals)}")


def default_recordings() -> list[Recording]:
    """Tables through small networks and images through a thin CAFE net, under both exchanges."""
    bottoms = (
        (Mlp(hidden=(8,)), (5,)),
        (Linear(), (5,)),
        (CafeCnn(channels=(2, 3), units=8, hidden=6), (1, 8, 8)),
    )
    return [record(exchange, model, shape) for exchange in ("split", "shared") for model, shape in bottoms]


def _check_declaration(config: AttackConfig) -> None:
    kind = config.kind()
    missing = [name for name in METADATA if not getattr(type(config), name, ())]
    expect(not missing, f"{kind}: class attributes {', '.join(missing)} are not set")
    expect(config.about in ("features", "labels"), f"{kind}: about is '{config.about}'; allowed: features, labels")
    for name in ("needs", "sees", "metrics"):
        value = getattr(config, name)
        listed = isinstance(value, tuple) and all(isinstance(each, str) for each in value)
        expect(listed, f"{kind}: {name} must be a tuple of names, found {value!r}")
    unknown = [name for name in config.sees if name not in Message.kinds]
    expect(not unknown, f"{kind}: sees {', '.join(unknown)}, which is no kind of message")
    check_metadata(config)


def _refusal(config: AttackConfig, recording: Recording) -> str:
    """Why the attack cannot be armed on this recording although all it needs is granted; empty if it can."""
    unknown = [name for name in config.needs if name not in recording.facts]
    expect(not unknown, f"{config.kind()}: needs {', '.join(unknown)}; there are: {', '.join(recording.facts)}")
    try:
        with_all = Sealed(recording, config.needs)
        config.attack().init(with_all, RNG)
    except (ThreatModelError, ConfigError) as error:
        return str(error)
    except Exception:
        return ""  # `_check_on` says it in full
    return ""


def _check_on(config: AttackConfig, recording: Recording) -> None:
    where = f"{config.kind()}, {recording.exchange} exchange"
    with no_errors(f"{where}: arming it"):
        attack, knowledge = config.attack(), Sealed(recording, config.needs)
        first = attack.init(knowledge, RNG)
    unasked = [name for name in config.needs if name not in knowledge.used]
    expect(not unasked, f"{where}: declares that it needs {', '.join(unasked)}, but never asks with need()")
    again = config.attack().init(Sealed(recording, config.needs), RNG)
    expect(fingerprint(first, where) == fingerprint(again, where), f"{where}: equal knowledge and Rng, unequal states")
    _check_needs(config, recording, where)
    _check_all_granted(config, recording, where)
    last = _check_run(config, attack, first, recording.messages, where)
    _check_claim(config, attack, last, where)


def _check_needs(config: AttackConfig, recording: Recording, where: str) -> None:
    for name in config.needs:
        rest = [other for other in config.needs if other != name]
        try:
            with no_errors(f"{where}: arming it without '{name}'"):
                config.attack().init(Sealed(recording, rest), RNG)
        except Exception as error:
            if isinstance(error.__cause__, ThreatModelError):
                continue
            raise
        expect(False, f"{where}: can be armed without '{name}', which it says it needs")


def _check_all_granted(config: AttackConfig, recording: Recording, where: str) -> None:
    """More than it needs may be granted; it is free to use it or not."""
    with no_errors(f"{where}: arming it with every fact granted"):
        config.attack().init(Sealed(recording, recording.facts), RNG)


def _check_run(config: AttackConfig, attack: Attack[Any], first: Any, messages: Sequence[Message], where: str) -> Any:
    """The state after all messages."""
    states = [first]
    for message in messages:
        states.append(_observe(attack, message, states[-1], f"{where}, {message.kind()} of step {message.step}"))
    final = fingerprint(states[-1], where)
    for middle in sorted({len(messages) // 3, 2 * len(messages) // 3}):
        resumed, other = reloaded(states[middle], first, where), config.attack()
        for message in messages[middle:]:
            with no_errors(f"{where}: going on from a checkpoint at message {middle}"):
                resumed = other.observe(message, resumed)
        broken = f"{where}: after a checkpoint at message {middle} it does not go on to the bit (hidden state?)"
        expect(fingerprint(resumed, where) == final, broken)
    return reloaded(states[-1], first, where)


def _observe(attack: Attack[Any], message: Message, state: Any, where: str) -> Any:
    before = fingerprint(message, where), fingerprint(state, where)
    with no_errors(where):
        after = attack.observe(message, state)
        expect(fingerprint(message, where) == before[0], f"{where}: observe writes to the message; a tap only looks")
        expect(fingerprint(state, where) == before[1], f"{where}: observe writes to the state it is given")
        again = attack.observe(message, state)
    same = fingerprint(after, where) == fingerprint(again, where)
    expect(same, f"{where}: observe is not pure: equal message and state, unequal results")
    return after


def _check_claim(config: AttackConfig, attack: Attack[Any], state: Any, where: str) -> None:
    told: list[float] = []
    before = fingerprint(state, where)
    with no_errors(f"{where}: its claim"):
        claim = attack.claim(state, told.append)
        expect(fingerprint(state, where) == before, f"{where}: claim writes to the state it is given")
        again = config.attack().claim(state, told.append)
    expect(isinstance(claim, Claim), f"{where}: claims a {type(claim).__name__}, expected a Claim")
    same = fingerprint(claim, where) == fingerprint(again, where)
    expect(same, f"{where}: two claims from the same state differ (hidden state, or a global stream)")
    expect(all(0 <= done <= 1 for done in told), f"{where}: tells a progress outside [0, 1]")
    expect(claim.about == config.about, f"{where}: claims {claim.about}, but is about {config.about}")
    rows, values = claim.rows, claim.values
    shaped = rows.ndim == 1 and rows.dtype == torch.int64 and values.ndim >= 1 and len(rows) == len(values) > 0
    found = f"rows {tuple(rows.shape)} {rows.dtype}, values {tuple(values.shape)}"
    expect(shaped, f"{where}: a claim has rows (n,) int64 and n values, n > 0; found {found}")
    expect(torch.unique(rows).numel() == len(rows), f"{where}: claims a row twice")
    try:
        decode(encode(Envelope("attacker", "victim", 0, claim)))
    except WireError as error:
        expect(False, f"{where}: its claim cannot cross the wire: {error}")

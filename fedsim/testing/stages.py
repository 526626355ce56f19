"""The contract of a stage: pure, of the same kind and shape, and able to go on from a checkpoint."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from fedsim.channel import Stage
from fedsim.message import Message, fields_of
from fedsim.seeding import Rng
from fedsim.testing.expect import expect, fingerprint, no_errors, reloaded
from fedsim.testing.samples import sample_streams

Make = Callable[[], Stage[Any]]


def check_stage(make: Make, messages: Sequence[Message] | None = None) -> None:
    """Check the stage that ``make`` builds on a range of messages, or on ``messages`` only.

    Kind, step, purpose, names, shapes and dtypes stay; neither message nor state is changed in place; equal message and
    state give equal bits; equal `Rng`, equal stage; the state goes through a checkpoint in mid-run and the run goes on
    to the bit; finite in, finite out.

    Args:
        make: builds a fresh stage at each call.
        messages: what passes the link, in order; default: `sample_streams`.

    Raises:
        ConformanceError: says on which message, and what happened.
    """
    streams = sample_streams() if messages is None else {"given messages": tuple(messages)}
    for name, stream in streams.items():
        _check_stream(make, stream, Rng.root(1).child("conformance", name), f"stage, {name}")


def _check_stream(make: Make, stream: Sequence[Message], rng: Rng, where: str) -> None:
    with no_errors(f"{where}: building it and its first state"):
        stage, twin = make(), make()
        first, other = stage.init(rng), twin.init(rng)
    same = fingerprint(first, where) == fingerprint(other, where)
    expect(same, f"{where}: two stages from the same Rng start in different states")
    states, passed = [first], list[str]()
    kept = [fingerprint(message, where) for message in stream]
    out = []
    for message in stream:
        result, state = _apply(stage, message, states[-1], f"{where}, {message.kind()} of step {message.step}")
        out.append(result)
        passed.append(fingerprint(result, where))
        states.append(state)
    untouched = kept == [fingerprint(m, where) for m in stream] and passed == [fingerprint(m, where) for m in out]
    expect(untouched, f"{where}: a message changes after it has passed; its memory is written to by a later one")
    _check_resumed(twin, stream, other, passed, f"{where}: two stages from the same Rng part ways")
    for middle in sorted({len(stream) // 3, 2 * len(stream) // 3}):
        resumed = reloaded(states[middle], first, where)
        broken = f"{where}: after a checkpoint at message {middle} the run does not go on to the bit"
        _check_resumed(make(), stream[middle:], resumed, passed[middle:], broken)


def _apply(stage: Stage[Any], message: Message, state: Any, where: str) -> tuple[Message, Any]:
    """One message through the stage, twice, with all that must hold for a single message."""
    before = fingerprint(message, where), fingerprint(state, where)
    with no_errors(where):
        result, after = stage.apply(message, state)
        once = fingerprint(result, where), fingerprint(after, where)
        expect(fingerprint(message, where) == before[0], f"{where}: it writes to the message it is given")
        expect(fingerprint(state, where) == before[1], f"{where}: it writes to the state it is given")
        again = stage.apply(message, state)
    twice = fingerprint(again[0], where), fingerprint(again[1], where)
    expect(once == twice, f"{where}: not pure: equal message and state, unequal results (hidden state, global stream)")
    _check_kept(message, result, where)
    return result, after


def _check_resumed(stage: Stage[Any], stream: Sequence[Message], state: Any, expected: list[str], broken: str) -> None:
    for message, fingerprint_then in zip(stream, expected, strict=True):
        with no_errors(broken):
            result, state = stage.apply(message, state)
        expect(fingerprint(result, broken) == fingerprint_then, broken)


def _check_kept(before: Message, after: Message, where: str) -> None:
    expect(type(after) is type(before), f"{where}: comes out as {type(after).__name__}; the kind must stay")
    expect(after.step == before.step, f"{where}: step {before.step} becomes {after.step}")
    expect(after.purpose == before.purpose, f"{where}: purpose '{before.purpose}' becomes '{after.purpose}'")
    for field in fields_of(type(before)):
        old, new = getattr(before, field.name), getattr(after, field.name)
        if field.shape == "tensor":
            _check_tensor(old, new, f"{where}, field {field.name}")
        elif field.shape == "tensors":
            same = list(old) == list(new)
            expect(same, f"{where}, field {field.name}: names {list(old)} become {list(new)} (their order counts)")
            for name in old:
                _check_tensor(old[name], new[name], f"{where}, field {field.name}, '{name}'")
        else:
            same = type(old) is type(new)
            expect(same, f"{where}, field {field.name}: {type(old).__name__} becomes {type(new).__name__}")


def _check_tensor(before: Tensor, after: Tensor, where: str) -> None:
    expect(isinstance(after, Tensor), f"{where}: a tensor becomes {type(after).__name__}")
    expect(after.shape == before.shape, f"{where}: shape {tuple(before.shape)} becomes {tuple(after.shape)}")
    expect(after.dtype == before.dtype, f"{where}: {before.dtype} becomes {after.dtype}")
    if before.is_floating_point() and bool(torch.isfinite(before).all()):
        expect(bool(torch.isfinite(after).all()), f"{where}: finite values become infinite or not a number")

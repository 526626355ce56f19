"""`decode` is total: whatever the bytes, an `Envelope` or a `WireError`, and never more memory than the frame is long.

The tests below try 20,500 mutated frames, the same ones each time.
"""

from __future__ import annotations

import math
import struct
import tracemalloc
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from unittest import mock

import msgspec
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy
from torch import Tensor

from fedsim.errors import WireError
from fedsim.message import Message, Scalar, tensors_of
from fedsim.state import digest
from fedsim.testing import sample_streams
from fedsim.wire import Envelope, Limits, decode, encode

PREFIX = struct.Struct("<4sHI")
KIB = 1024


@dataclass(frozen=True, eq=False)
class AnyField(Message):
    """A field of every type that can cross the wire."""

    tensor: Tensor
    tensors: Mapping[str, Tensor]
    scalars: Mapping[str, Scalar]
    flag: bool
    count: int
    number: float
    text: str


def corpus() -> list[bytes]:
    """Valid frames of every kind in small, and of every type of field."""
    streams = sample_streams()
    small = [m for name in ("table", "single elements") for m in streams[name]]
    mixed = {"a": torch.zeros(2, dtype=torch.bool), "b": torch.ones((), dtype=torch.bfloat16), "c": torch.zeros(0, 3)}
    every = AnyField(3, torch.arange(4), mixed, {"x": 1, "y": "z"}, True, -5, 0.5, "ü")
    return [encode(Envelope("north", "server", i, message)) for i, message in enumerate([*small, every, every])]


CORPUS = corpus()
KINDS = sorted({decode(frame).message.kind() for frame in CORPUS})


@contextmanager
def observed() -> Iterator[list[int]]:
    """The bytes of every tensor that is allocated meanwhile."""
    sizes: list[int] = []
    allocate = torch.empty

    def empty(*args: Any, **kwargs: Any) -> Tensor:
        made = allocate(*args, **kwargs)
        sizes.append(made.nbytes)
        return made

    with mock.patch.object(torch, "empty", empty):
        yield sizes


def attempted(frame: bytes) -> tuple[Envelope | None, str]:
    """The envelope, or what the `WireError` says; no other exception is caught."""
    try:
        return decode(frame), ""
    except WireError as error:
        return None, str(error)


def outcome(frame: bytes) -> str:
    """What became of a frame; fails on any other exception, and on memory that the frame has not paid for."""
    with observed() as sizes:
        envelope, refusal = attempted(frame)
    assert sum(sizes) <= len(frame)
    if envelope is None:
        assert 0 < len(refusal) < 2000  # a peer cannot flood the log either
        return "WireError"
    assert isinstance(envelope, Envelope)
    encode(envelope)  # what decode lets in is a message like any other
    return "Envelope"


def fuzz(frames: SearchStrategy[bytes], examples: int) -> Counter[str]:
    """Try so many frames; what became of them."""
    found: Counter[str] = Counter()
    slow = [HealthCheck.too_slow, HealthCheck.data_too_large]

    @settings(max_examples=examples, suppress_health_check=slow)
    @given(frames)
    def attempt(frame: bytes) -> None:
        found[outcome(frame)] += 1

    attempt()
    assert sum(found.values()) >= examples
    return found


originals = st.integers(0, len(CORPUS) - 1).map(CORPUS.__getitem__)
offsets = st.integers(0, 1 << 16)  # taken modulo the length of the frame


def flip(frame: bytes, at: int, bit: int) -> bytes:
    at %= len(frame)
    return frame[:at] + bytes([frame[at] ^ (1 << bit)]) + frame[at + 1 :]


def flip_all(frame: bytes, flips: list[tuple[int, int]]) -> bytes:
    for at, bit in flips:
        frame = flip(frame, at, bit)
    return frame


def test_flipped_bits() -> None:
    anywhere = st.tuples(offsets, st.integers(0, 7))
    in_the_header = st.tuples(st.integers(0, 120), st.integers(0, 7))
    flips = st.lists(anywhere | in_the_header, min_size=1, max_size=4)
    found = fuzz(st.builds(flip_all, originals, flips), 5000)
    assert found["Envelope"] > 100  # flips in a tensor's values are not the wire's to notice
    assert found["WireError"] > 500


def test_truncated_and_stretched_frames() -> None:
    cut = st.builds(lambda frame, at: frame[: at % len(frame)], originals, offsets)
    insert = st.builds(
        lambda frame, at, junk: frame[: at % len(frame)] + junk + frame[at % len(frame) :],
        originals,
        offsets,
        st.binary(min_size=1, max_size=16),
    )
    found = fuzz(cut | insert, 4000)
    assert found["WireError"] > 3000


def test_spliced_frames() -> None:
    def splice(one: bytes, other: bytes, at: int, to: int) -> bytes:
        return one[: at % len(one)] + other[to % len(other) :]

    def transplant(one: bytes, other: bytes) -> bytes:
        """The start of one frame with the header of another, then its own tensors."""
        size = PREFIX.unpack_from(other)[2]
        mine = PREFIX.unpack_from(one)[2]
        return other[: PREFIX.size + size] + one[PREFIX.size + mine :]

    spliced = st.builds(splice, originals, originals, offsets, offsets)
    found = fuzz(spliced | st.builds(transplant, originals, originals), 3000)
    assert found["WireError"] > 2000


def test_random_bytes() -> None:
    def as_header(junk: bytes, tail: bytes) -> bytes:
        return PREFIX.pack(b"fsim", 1, len(junk)) + junk + tail

    found = fuzz(st.binary(max_size=200) | st.builds(as_header, st.binary(max_size=100), st.binary(max_size=20)), 2500)
    assert found["WireError"] >= 2500


texts = st.text(max_size=3)
absurd = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.sampled_from([0, 1, 7, 2**31, 2**32, 2**62, 2**62 + 1])
    | st.floats()
    | st.text(max_size=6)
    | st.binary(max_size=4)
    | st.sampled_from([*KINDS, "z", "g", "grads", "float64", "bool", "bfloat16", "complex64", "query", "step"])
    | st.lists(st.integers(0, 5) | st.integers(2**20, 2**62), max_size=10)
    | st.lists(st.tuples(st.just("z"), st.none(), st.sampled_from(["bool", "int8"]), st.just([1])), max_size=2)
    | st.dictionaries(texts, st.integers(0, 3) | st.dictionaries(texts, st.floats()), max_size=3)
)


def places(tree: Any) -> list[tuple[Any, Any]]:
    """Every container of a header with each of its keys."""
    if isinstance(tree, list):
        return [place for i, child in enumerate(tree) for place in [(tree, i), *places(child)]]
    if isinstance(tree, dict):
        return [place for key, child in tree.items() for place in [(tree, key), *places(child)]]
    return []


def promised(header: Any) -> int:
    """The bytes of tensors that a header promises, as far as it makes sense; 0 otherwise."""
    try:
        return sum(int(math.prod(shape)) * getattr(torch, dtype).itemsize for _, _, dtype, shape in header[7])
    except Exception:
        return 0


def edited(frame: bytes, edits: list[tuple[int, str, Any]], fit: bool) -> bytes:
    """A frame whose header was taken apart, edited and put together; its tensors may be made to fit."""
    size = PREFIX.unpack_from(frame)[2]
    header = msgspec.msgpack.decode(frame[PREFIX.size : PREFIX.size + size])
    for which, act, value in edits:
        where = places(header)
        into, key = where[which % len(where)]
        if act == "replace":
            into[key] = value
        elif act == "remove":
            del into[key]
        elif isinstance(into, list):
            into.insert(key, into[key] if act == "double" else value)
        if not isinstance(header, list) or not places(header):
            break
    packed = msgspec.msgpack.encode(header)
    tensors = frame[PREFIX.size + size :]
    if fit and 0 <= promised(header) <= 64 * KIB:
        tensors = tensors.ljust(promised(header), b"\1")[: promised(header)]
    return PREFIX.pack(b"fsim", 1, len(packed)) + packed + tensors


def test_edited_headers() -> None:
    act = st.sampled_from(["replace", "replace", "replace", "remove", "double", "insert"])
    edits = st.lists(st.tuples(st.integers(0, 200), act, absurd), min_size=1, max_size=3)
    found = fuzz(st.builds(edited, originals, edits, st.booleans()), 6000)
    assert found["Envelope"] > 100  # the edits reach beyond the header's schema
    assert found["WireError"] > 3000


SHAPES: list[list[int]] = [[2**62] * 8, [2**31, 2**31], [0, 2**62], [2**62, 0], [0, 2**30], [0] * 8, [1] * 9]
SHAPES += [[-1], [-1, -1], [2**64 - 1]]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", ["float64", "bool", "uint8", "float33"])
def test_absurd_shapes(shape: list[int], dtype: str) -> None:
    header = ["Embedding", "a", "b", 0, 0, "train", {}, [["z", None, dtype, shape]]]
    packed = msgspec.msgpack.encode(header)
    for tensors in (b"", b"\0" * 8):
        outcome(PREFIX.pack(b"fsim", 1, len(packed)) + packed + tensors)


@pytest.mark.parametrize("size", [0, 1, 2**16, 2**31, 2**32 - 1])
def test_a_header_longer_than_its_frame(size: int) -> None:
    frame = PREFIX.pack(b"fsim", 1, size) + b"\x98"
    assert outcome(frame) == "WireError"


def deep(levels: int) -> bytes:
    return b"\x81\xa1x" * levels + b"\xc0"


def wide_scalars(count: int) -> bytes:
    header = ["Claim", "a", "b", 0, 0, "train", {f"{i:x}": {} for i in range(count)}, []]
    return msgspec.msgpack.encode(header)


def wide_tensors(count: int) -> bytes:
    header = ["Embedding", "a", "b", 0, 0, "train", {}, [["z", "", "int8", [0]]] * count]
    return msgspec.msgpack.encode(header)


GREEDY: list[Callable[[], bytes]] = [
    lambda: deep(200_000),
    lambda: wide_scalars(100_000),
    lambda: wide_tensors(60_000),
    lambda: b"\x98" + b"\xdd\xff\xff\xff\xff",  # an array that says it has 2^32 items
    lambda: b"\x98\xdb\xff\xff\xff\xff",  # a text that says it has 4 GiB
    lambda: b"\x98\xdf\xff\xff\xff\xff",
]


@pytest.mark.parametrize("greedy", GREEDY)
def test_a_header_costs_a_bounded_multiple_of_its_own_size(greedy: Callable[[], bytes]) -> None:
    """Python objects are larger than their msgpack: what is bounded is the factor, and a header is at most 1 MiB."""
    header = greedy()
    frame = PREFIX.pack(b"fsim", 1, len(header)) + header
    tracemalloc.start()
    try:
        assert outcome(frame) == "WireError"
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak <= 64 * len(header) + 256 * KIB


def test_limits_are_checked_before_anything_is_read() -> None:
    frame = CORPUS[0]
    for limits in (Limits(frame_bytes=len(frame) - 1), Limits(header_bytes=10)):
        with observed() as sizes, pytest.raises(WireError, match="are allowed"):
            decode(frame, limits)
        assert sizes == []
    model = next(f for f in CORPUS if len(tensors_of(decode(f).message)) == 4)
    with observed() as sizes, pytest.raises(WireError, match="4 tensors in a frame, at most 3"):
        decode(model, Limits(tensors=3))
    assert sizes == []


DTYPES = ["float32", "float64", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8", "bool"]


def filled(dtype: str, shape: list[int], seed: int) -> Tensor:
    """A tensor of arbitrary bits, not-a-numbers among them."""
    size = math.prod(shape) * getattr(torch, dtype).itemsize
    top = 2 if dtype == "bool" else 256
    raw = torch.randint(0, top, (size,), generator=torch.Generator().manual_seed(seed)).to(torch.uint8)
    return raw.view(getattr(torch, dtype)).view(shape)


tensors = st.builds(filled, st.sampled_from(DTYPES), st.lists(st.integers(0, 3), max_size=4), st.integers(0, 999))
integers = st.integers(-(2**63), 2**64 - 1)
scalars = st.booleans() | integers | st.floats() | st.text(max_size=5)
names = st.text(max_size=8)
messages = st.builds(
    AnyField,
    st.integers(0, 2**62),
    tensors,
    st.dictionaries(names, tensors, max_size=3),
    st.dictionaries(names, scalars, max_size=3),
    st.booleans(),
    integers,
    st.floats() | st.integers(-5, 5),
    names,
    purpose=st.sampled_from(["train", "query", "evaluate"]),
)


@settings(max_examples=1000, suppress_health_check=[HealthCheck.too_slow])
@given(messages, names, names, st.integers(0, 2**62))
def test_round_trip(message: AnyField, src: str, dst: str, seq: int) -> None:
    frame = encode(Envelope(src, dst, seq, message))
    back = decode(frame)
    assert encode(back) == frame
    assert (back.src, back.dst, back.seq, back.message.step) == (src, dst, seq, message.step)
    assert back.message.purpose == message.purpose
    assert list(tensors_of(back.message)) == list(tensors_of(message))
    assert digest(tensors_of(back.message)) == digest(tensors_of(message))

"""Frames: what one looks like, what is refused and why, and what decoding guarantees about memory."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
import pytest
import torch
from torch import Tensor

from fedsim.errors import WireError
from fedsim.message import Message, Scalar
from fedsim.threat import Claim
from fedsim.vfl.messages import Embedding, Model, Rows
from fedsim.wire import MAGIC, VERSION, Envelope, Limits, decode, encode

PREFIX = struct.Struct("<4sHI")


@dataclass(frozen=True, eq=False)
class Reading(Message):
    """A float, and plain values by name."""

    value: float
    notes: Mapping[str, Scalar]


def frame_of(message: Message) -> bytes:
    return encode(Envelope("a", "b", 3, message))


def frame_with(**changes: Any) -> bytes:
    """The frame of an embedding of two float32, with entries of its header replaced."""
    header = {"kind": "Embedding", "src": "a", "dst": "b", "seq": 0, "step": 0, "purpose": "train", "scalars": {}}
    header |= {"tensors": [["z", None, "float32", [2]]]} | changes
    packed = msgspec.msgpack.encode(list(header.values()))
    return PREFIX.pack(MAGIC, VERSION, len(packed)) + packed + b"\0" * 8


def test_a_frame_starts_with_magic_version_and_header_length_and_ends_with_the_bytes_of_its_tensors() -> None:
    frame = frame_of(Embedding(1, torch.tensor([1.0, 2.0])))
    magic, version, size = PREFIX.unpack_from(frame)
    assert (magic, version) == (b"fsim", 1)
    assert frame[PREFIX.size + size :] == struct.pack("<2f", 1.0, 2.0)


def test_what_comes_out_is_what_went_in() -> None:
    claim = Claim(
        step=2, about="labels", rows=torch.arange(3), values=torch.rand(3), notes={"a": 1, "b": "x"}, purpose="query"
    )
    back = decode(encode(Envelope("north", "server", 7, claim)))
    assert isinstance(back.message, Claim)
    assert (back.src, back.dst, back.seq, back.message.step, back.message.purpose) == ("north", "server", 7, 2, "query")
    assert torch.equal(back.message.rows, claim.rows)
    assert torch.equal(back.message.values, claim.values)
    assert back.message.notes == claim.notes


def test_tensors_that_are_no_plain_block_of_memory_cross_too() -> None:
    z = torch.arange(12.0).reshape(3, 4)
    for tensor in (z.T, z[:, 1:3], z[1], z.clone().requires_grad_(), z.expand(2, 3, 4), torch.tensor(3.0)):
        message = decode(frame_of(Embedding(0, tensor))).message
        assert isinstance(message, Embedding)
        assert torch.equal(message.z, tensor)
        assert not message.z.requires_grad


def test_decoded_tensors_are_writable_and_own_their_memory() -> None:
    frame = frame_of(Embedding(0, torch.zeros(4)))
    one, other = (decode(frame).message for _ in range(2))
    assert isinstance(one, Embedding)
    assert isinstance(other, Embedding)
    one.z.add_(1)
    assert other.z.sum() == 0


def test_an_empty_mapping_is_a_mapping() -> None:
    message = decode(frame_of(Model(0, {}))).message
    assert isinstance(message, Model)
    assert message.parameters == {}


def test_a_whole_number_in_a_field_of_type_float_becomes_a_float() -> None:
    message = decode(frame_of(Reading(0, 2, {"n": 3}))).message
    assert isinstance(message, Reading)
    assert type(message.value) is float
    assert type(message.notes["n"]) is int


@pytest.mark.parametrize(
    ("frame", "complaint"),
    [
        (b"", "0 bytes is shorter than a frame's start"),
        (b"GET / HTTP/1.1\r\n", "not a frame: starts with b'GET '"),
        (PREFIX.pack(MAGIC, 2, 0), "frame of wire version 2, this side speaks 1"),
        (PREFIX.pack(MAGIC, 1, 100), "header of 100 bytes in a frame of 10"),
        (PREFIX.pack(MAGIC, 1, 0), "bad header"),
        (frame_with() + b"\0", "its header promises"),
        (frame_with()[:-1], "its header promises"),
        (frame_with(kind="Gradiant"), "unknown message kind 'Gradiant'"),
        (frame_with(kind="Gradient"), r"Gradient.g must hold .*, found NoneType"),
        (frame_with(seq=-1), "bad header"),
        (frame_with(step=2**63), "bad header"),
        (frame_with(step=1.5), "bad header"),
        (frame_with(purpose="attack"), "bad header"),
        (frame_with(src="x" * 257), "bad header"),
        (frame_with(src=None), "bad header"),
        (frame_with(extra=1), "bad header"),
        (frame_with(scalars={"z": 1.0}), "field 'z' twice"),
        (frame_with(scalars={"y": 1.0}), r"has fields \['z'\]"),
        (frame_with(scalars={"y": None}), "bad header"),
        (frame_with(tensors=[]), "its header promises"),
        (frame_with(tensors=[["z", None, "float16", [2]]] * 2), "field 'z' twice"),
        (frame_with(tensors=[["z", "k", "float32", [2]]]), "outside a mapping"),
        (frame_with(tensors=[["z", None, "complex64", [1]]]), "bad header"),
        (frame_with(tensors=[["z", None, "float32", [2, 0]]]), "its header promises"),
        (frame_with(tensors=[["z", None, "float32", [1] * 9]]), "bad header"),
        (frame_with(tensors=[["z", None, "float32", [2**31, 2**31]]]), "shape exceeds"),
        (frame_with(tensors=[["z", None, "float32", [-2]]]), "bad header"),
        (
            frame_with(kind="Rows", tensors=[], scalars={"train": 1, "test": True})[:-8],
            "Rows.test must hold .*, found bool",
        ),
    ],
)
def test_what_is_refused(frame: bytes, complaint: str) -> None:
    with pytest.raises(WireError, match=complaint):
        decode(frame)


def test_the_frame_that_the_refused_ones_were_made_of_is_fine() -> None:
    assert isinstance(decode(frame_with()).message, Embedding)


def test_a_bool_has_two_values() -> None:
    frame = frame_with(tensors=[["z", None, "bool", [8]]])
    assert isinstance(decode(frame).message, Embedding)
    with pytest.raises(WireError, match="a byte other than 0 and 1"):
        decode(frame[:-1] + b"\2")


def test_limits() -> None:
    frame = frame_of(Model(0, {"a": torch.zeros(2), "b": torch.zeros(2)}))
    decode(frame, Limits(frame_bytes=len(frame), tensors=2))
    with pytest.raises(WireError, match=f"at most {len(frame) - 1} are allowed"):
        decode(frame, Limits(frame_bytes=len(frame) - 1))
    with pytest.raises(WireError, match="2 tensors in a frame, at most 1 are allowed"):
        decode(frame, Limits(tensors=1))
    with pytest.raises(WireError, match="at most 16 are allowed"):
        decode(frame, Limits(header_bytes=16))


@pytest.mark.parametrize(
    ("message", "complaint"),
    [
        (
            Embedding(0, torch.zeros(1, dtype=torch.complex64)),
            "z: torch.complex64 cannot cross the wire; allowed: float32",
        ),
        (Embedding(0, [1.0]), "z: list cannot cross the wire"),  # type: ignore[arg-type]
        (Model(0, {"w": None}), "parameters: NoneType cannot cross"),  # type: ignore[dict-item]
        (Rows(0, None, 1), "train: NoneType cannot cross the wire as a scalar"),  # type: ignore[arg-type]
        (Rows(0, 2**70, 1), "Rows cannot be written down"),
        (Reading(0, 1.0, {"\ud800": 1}), "Reading cannot be written down"),
        (Reading(0, 1.0, {"x": torch.ones(1)}), "notes: Tensor cannot cross"),  # type: ignore[dict-item]
    ],
)
def test_what_cannot_be_sent(message: Message, complaint: str) -> None:
    with pytest.raises(WireError, match=complaint):
        frame_of(message)


def test_the_type_of_a_tensor_survives() -> None:
    for dtype in (torch.bfloat16, torch.float16, torch.bool, torch.int8, torch.uint8, torch.float64):
        message = decode(frame_of(Embedding(0, torch.ones(3, dtype=dtype)))).message
        assert isinstance(message, Embedding)
        z: Tensor = message.z
        assert z.dtype == dtype
        assert torch.equal(z, torch.ones(3, dtype=dtype))

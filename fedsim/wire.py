"""A message as a frame of bytes and back: magic, version, header length, strict header, raw little-endian tensor bytes.

`decode` is total: an `Envelope` or a `WireError`, whatever the bytes; every size is checked before anything is allocated.
"""

from __future__ import annotations

import struct
import sys
from dataclasses import dataclass
from typing import Annotated, Any, Literal, NamedTuple

import msgspec
import numpy as np
import torch
from torch import Tensor

from fedsim.errors import WireError
from fedsim.message import FieldSpec, Message, Purpose, RoleId, Scalar, fields_of

MAGIC = b"fsim"
VERSION = 1
_PREFIX = struct.Struct("<4sHI")

Dtype = Literal["float32", "float64", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8", "bool"]
_DTYPES: dict[str, torch.dtype] = {n: getattr(torch, n) for n in Dtype.__args__}  # type: ignore[attr-defined]
_NAMES = {dtype: name for name, dtype in _DTYPES.items()}
_RAW = {"bool": np.dtype(np.uint8)}  # read as numbers first: any byte would pass for a bool
_SIZES = {name: dtype.itemsize for name, dtype in _DTYPES.items()}

Natural = Annotated[int, msgspec.Meta(ge=0, le=2**62)]
Name = Annotated[str, msgspec.Meta(max_length=256)]


@dataclass(frozen=True)
class Limits:
    """What a frame may cost at most, in bytes and in number of tensors; checked before allocation."""

    frame_bytes: int = 1 << 30
    header_bytes: int = 1 << 20
    tensors: int = 4096


class Envelope(NamedTuple):
    """A message with its sender, its addressee and its number on the way between the two."""

    src: RoleId
    dst: RoleId
    seq: int
    message: Message


class _TensorSpec(msgspec.Struct, array_like=True, forbid_unknown_fields=True, frozen=True):
    field: Name
    key: Name | None
    dtype: Dtype
    shape: Annotated[list[Natural], msgspec.Meta(max_length=8)]


class _Header(msgspec.Struct, array_like=True, forbid_unknown_fields=True, frozen=True):
    kind: Name
    src: Name
    dst: Name
    seq: Natural
    step: Natural
    purpose: Purpose
    scalars: dict[Name, Scalar | dict[Name, Scalar]]
    tensors: list[_TensorSpec]


_encode_header = msgspec.msgpack.Encoder().encode
_decode_header = msgspec.msgpack.Decoder(_Header).decode


def encode(envelope: Envelope) -> bytes:
    """The frame of an envelope.

    Raises:
        WireError: a tensor's dtype is not allowed, or a field does not hold what its kind declares.
    """
    message = envelope.message
    scalars: dict[str, Any] = {}
    specs: list[_TensorSpec] = []
    buffers: list[Any] = []
    for field in fields_of(type(message)):
        value = getattr(message, field.name)
        if field.shape == "tensor":
            _put(field.name, None, value, specs, buffers)
        elif field.shape == "tensors":
            if not field.optional or value:
                scalars[field.name] = {}  # an empty mapping must survive
            for key, tensor in value.items():
                _put(field.name, key, tensor, specs, buffers)
        else:
            scalars[field.name] = _scalar(field, value)
    head = _Header(
        type(message).__name__, envelope.src, envelope.dst, envelope.seq, message.step, message.purpose, scalars, specs
    )
    try:
        header = _encode_header(head)
    except (UnicodeEncodeError, OverflowError) as error:
        raise WireError(f"{type(message).__name__} cannot be written down: {error}") from error
    return b"".join((_PREFIX.pack(MAGIC, VERSION, len(header)), header, *buffers))


def number_size(seq: int) -> int:
    """Bytes that the number of an envelope takes in its frame."""
    return len(msgspec.msgpack.encode(seq))


def decode(frame: bytes, limits: Limits = Limits()) -> Envelope:
    """The envelope in a frame.

    Raises:
        WireError: for whatever is not the frame of a known message within the limits.
    """
    header, start = _header(frame, limits)
    cls = Message.kinds.get(header.kind)
    if cls is None:
        raise WireError(f"unknown message kind {header.kind!r:.80}")
    sizes = _sizes(header.tensors, limits)
    if start + sum(sizes) != len(frame):
        raise WireError(f"frame of {len(frame)} bytes, its header promises {start + sum(sizes)}")
    values: dict[str, Any] = dict(header.scalars)
    for spec, size in zip(header.tensors, sizes, strict=True):
        tensor = _take(frame, start, size, spec)
        start += size
        if spec.key is None:
            if spec.field in values:
                raise WireError(f"{header.kind}: field {spec.field!r:.80} twice")
            values[spec.field] = tensor
        else:
            _add(values, spec, tensor)
    _check_fields(cls, values)
    return Envelope(header.src, header.dst, header.seq, cls(step=header.step, purpose=header.purpose, **values))


def _header(frame: bytes, limits: Limits) -> tuple[_Header, int]:
    if len(frame) > limits.frame_bytes:
        raise WireError(f"frame of {len(frame)} bytes, at most {limits.frame_bytes} are allowed")
    if len(frame) < _PREFIX.size:
        raise WireError(f"frame of {len(frame)} bytes is shorter than a frame's start")
    magic, version, size = _PREFIX.unpack_from(frame)
    if magic != MAGIC:
        raise WireError(f"not a frame: starts with {magic!r}")
    if version != VERSION:
        raise WireError(f"frame of wire version {version}, this side speaks {VERSION}")
    if size > min(limits.header_bytes, len(frame) - _PREFIX.size):
        raise WireError(f"header of {size} bytes in a frame of {len(frame)}, at most {limits.header_bytes} are allowed")
    end = _PREFIX.size + size
    try:
        return _decode_header(memoryview(frame)[_PREFIX.size : end]), end
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise WireError(f"bad header: {error}") from error


def _sizes(specs: list[_TensorSpec], limits: Limits) -> list[int]:
    if len(specs) > limits.tensors:
        raise WireError(f"{len(specs)} tensors in a frame, at most {limits.tensors} are allowed")
    return [_size(spec, limits) for spec in specs]


def _size(spec: _TensorSpec, limits: Limits) -> int:
    """Bytes of a tensor; an empty one may not hide an absurd dimension either."""
    count = strides = 1
    for extent in spec.shape:
        count *= extent
        strides *= extent or 1
    if strides > limits.frame_bytes:
        raise WireError(f"a tensor's shape exceeds the {limits.frame_bytes} bytes that are allowed")
    return count * _SIZES[spec.dtype]


def _put(field: str, key: str | None, tensor: Tensor, specs: list[_TensorSpec], buffers: list[Any]) -> None:
    if not isinstance(tensor, Tensor) or tensor.dtype not in _NAMES:
        found = tensor.dtype if isinstance(tensor, Tensor) else type(tensor).__name__
        raise WireError(f"{field}: {found} cannot cross the wire; allowed: {', '.join(_DTYPES)}")
    specs.append(_TensorSpec(field, key, _NAMES[tensor.dtype], list(tensor.shape)))  # type: ignore[arg-type]
    flat = tensor.detach() if tensor.requires_grad else tensor
    if not flat.is_cpu:
        flat = flat.cpu()
    if flat.dtype == torch.bfloat16:  # numpy has none
        flat = flat.view(torch.int16)
    buffers.append(flat.contiguous().numpy())


def _take(frame: bytes, start: int, size: int, spec: _TensorSpec) -> Tensor:
    """Copy out of the frame into memory of torch's own alignment: kernels may give other bits on other alignments."""
    tensor = torch.empty(spec.shape, dtype=_DTYPES[spec.dtype])
    if not size:
        return tensor
    into = (tensor.view(torch.int16) if spec.dtype == "bfloat16" else tensor).numpy()
    raw = np.frombuffer(frame, _RAW.get(spec.dtype, into.dtype), into.size, start)
    if spec.dtype == "bool" and raw.max() > 1:
        raise WireError(f"{spec.field}: a bool tensor with a byte other than 0 and 1")
    into[...] = raw.reshape(into.shape)
    return tensor


def _add(values: dict[str, Any], spec: _TensorSpec, tensor: Tensor) -> None:
    into = values.get(spec.field)
    if not isinstance(into, dict) or spec.key in into:
        raise WireError(f"tensor {spec.key!r:.80} twice or outside a mapping, in field {spec.field!r:.80}")
    into[spec.key] = tensor


def _scalar(field: FieldSpec, value: Any) -> Any:
    if field.shape == "scalars":
        return {key: _plain(field.name, each) for key, each in value.items()}
    return float(value) if field.type is float else _plain(field.name, value)


def _plain(name: str, value: Any) -> Scalar:
    if type(value) not in (bool, int, float, str):
        raise WireError(f"{name}: {type(value).__name__} cannot cross the wire as a scalar")
    return value  # type: ignore[no-any-return]


def _check_fields(cls: type[Message], values: dict[str, Any]) -> None:
    specs = fields_of(cls)
    for spec in specs:
        if spec.optional and values.setdefault(spec.name, None) is None:
            values[spec.name] = {}
        elif spec.optional and type(values[spec.name]) is dict and not values[spec.name]:
            raise WireError(f"{cls.__name__}.{spec.name} is empty; expected it to be left out")
    if len(values) != len(specs):
        raise WireError(f"{cls.__name__} has fields {[s.name for s in specs]}, found {sorted(values)!r:.200}")
    for spec in specs:
        value = values.get(spec.name)
        if not _fits(spec, value):
            raise WireError(f"{cls.__name__}.{spec.name} must hold {spec.type}, found {type(value).__name__}")


def _fits(spec: FieldSpec, value: Any) -> bool:
    if spec.shape == "tensor":
        return isinstance(value, Tensor)
    if spec.shape == "scalar":
        return type(value) is spec.type
    inner = Tensor if spec.shape == "tensors" else (bool, int, float, str)
    return type(value) is dict and all(isinstance(each, inner) for each in value.values())


if sys.byteorder != "little":  # pragma: no cover
    raise WireError("fedsim's frames carry little-endian tensors; this machine is big-endian")

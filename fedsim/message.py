"""What roles say to each other: frozen dataclasses whose class name is their kind on the wire."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import MISSING, dataclass, field, fields, replace
from typing import ClassVar, Literal, TypeVar, get_type_hints

from torch import Tensor

RoleId = str
Scalar = bool | int | float | str
Purpose = Literal["train", "query", "evaluate"]


@dataclass(frozen=True, eq=False)
class Message:
    """The base of every message. Its tensors are handed over: nobody writes to them afterwards.

    Fields of a subclass are tensors, scalars, a ``Mapping[str, Tensor]`` or a ``Mapping[str, Scalar]``. A mapping of tensors
    that has a default is optional: it does not travel while it is empty.
    """

    kinds: ClassVar[dict[str, type[Message]]] = {}

    step: int
    """Running number of the exchange; a batch may need several (evaluation, repeated passes)."""
    purpose: Purpose = field(default="train", kw_only=True)
    """Only ``train`` updates a model."""

    def __init_subclass__(cls) -> None:
        other = Message.kinds.setdefault(cls.__name__, cls)
        if (other.__module__, other.__qualname__) != (cls.__module__, cls.__qualname__):
            raise TypeError(f"message kind {cls.__name__} is taken by {other.__module__}")
        Message.kinds[cls.__name__] = cls

    @classmethod
    def kind(cls) -> str:
        """The name on the wire."""
        return cls.__name__


@dataclass(frozen=True)
class Flow:
    """A kind of message that goes from one seat to another."""

    kind: str
    frm: RoleId
    to: RoleId


Shape = Literal["tensor", "tensors", "scalar", "scalars"]
_SHAPES: Mapping[object, Shape] = {
    Tensor: "tensor",
    Mapping[str, Tensor]: "tensors",
    Mapping[str, Scalar]: "scalars",
    bool: "scalar",
    int: "scalar",
    float: "scalar",
    str: "scalar",
}


@dataclass(frozen=True)
class FieldSpec:
    """One field of a message beyond ``step`` and ``purpose``."""

    name: str
    shape: Shape
    type: type
    optional: bool = False


def fields_of(cls: type[Message]) -> tuple[FieldSpec, ...]:
    """The fields that a kind adds, in order of declaration.

    Raises:
        TypeError: a field has a type that cannot cross the wire.
    """
    if cls not in _specs:
        _specs[cls] = tuple(_read_fields(cls))
    return _specs[cls]


_specs: dict[type[Message], tuple[FieldSpec, ...]] = {}


def _read_fields(cls: type[Message]) -> Iterator[FieldSpec]:
    hints = get_type_hints(cls)
    for f in fields(cls):
        if f.name in ("step", "purpose"):
            continue
        if hints[f.name] not in _SHAPES:
            raise TypeError(f"{cls.__name__}.{f.name}: {hints[f.name]} cannot cross the wire")
        shape = _SHAPES[hints[f.name]]
        yield FieldSpec(f.name, shape, hints[f.name], shape == "tensors" and f.default_factory is not MISSING)


M = TypeVar("M", bound=Message)


def tensors_of(message: Message) -> dict[str, Tensor]:
    """Every tensor of a message by name: ``z``, or ``grads/0.weight`` where the field is a mapping."""
    found: dict[str, Tensor] = {}
    for spec in fields_of(type(message)):
        value = getattr(message, spec.name)
        if spec.shape == "tensor":
            found[spec.name] = value
        elif spec.shape == "tensors":
            found |= {f"{spec.name}/{key}": tensor for key, tensor in value.items()}
    return found


def with_tensors(message: M, change: Callable[[str, Tensor], Tensor]) -> M:
    """The message with each floating-point tensor replaced by ``change(name, tensor)``."""

    def changed(name: str, tensor: Tensor) -> Tensor:
        return change(name, tensor) if tensor.is_floating_point() else tensor

    new: dict[str, object] = {}
    for spec in fields_of(type(message)):
        value = getattr(message, spec.name)
        if spec.shape == "tensor":
            new[spec.name] = changed(spec.name, value)
        elif spec.shape == "tensors":
            new[spec.name] = {key: changed(f"{spec.name}/{key}", tensor) for key, tensor in value.items()}
    return replace(message, **new)  # type: ignore[arg-type]

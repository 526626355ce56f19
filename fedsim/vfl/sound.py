"""What comes from a peer is looked at before it is used: its names, its shapes, and whether every number in it is one."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TypeVar

import torch
from torch import Tensor

from fedsim.errors import DivergedError, ProtocolError
from fedsim.message import Message, RoleId, tensors_of
from fedsim.vfl.schedule import Turn

M = TypeVar("M", bound=Message)
Shape = Sequence[int | None]
"""None stands for any length."""
Shapes = Mapping[str, Shape]
"""By name, as `tensors_of` has them, the shapes of a message's tensors."""


def sound(
    message: M,
    frm: RoleId,
    turn: Turn | None,
    shapes: Shapes | None,
    finite: bool = True,
    dtypes: Mapping[str, torch.dtype] = MappingProxyType({}),
) -> M:
    """The message, if its tensors are what they may be; stages on the link have done their part already.

    Args:
        message: what came.
        frm: from whom.
        turn: of which turn it is; None where exchanges are no turns.
        shapes: what is allowed; None: any names and shapes.
        finite: whether every number must be finite; it need not be where nobody learns from it.
        dtypes: by name, what a tensor is to be that is not float32: a buffer that counts.

    Raises:
        ProtocolError: they are something else; says what was found, what is allowed, and what to do.
    """
    tensors = tensors_of(message)
    if shapes is not None and tensors.keys() != shapes.keys():
        found, allowed = (", ".join(names) or "nothing" for names in (tensors, shapes))
        raise ProtocolError(f"{_sent(message, frm, turn)} of {found:.80}; allowed: {allowed:.80}; {_STRANGE}")
    for name, tensor in tensors.items():
        shape = tensor.shape if shapes is None else shapes[name]
        dtype = dtypes.get(name, torch.float32)
        if tensor.dtype != dtype or not _fits(tensor.shape, shape):
            found, allowed = _words(tensor.dtype, tensor.shape), _words(dtype, shape)
            raise ProtocolError(f"{_sent(message, frm, turn)} whose {name} is {found}; allowed: {allowed}; {_STRANGE}")
        if finite and (lost := _lost(tensor)):
            raise ProtocolError(
                f"{_sent(message, frm, turn)} with {lost}: {_SICK}, or it is hostile; {_CURE}, or leave it out"
            )
    return message


def healthy(message: M, me: RoleId, turn: Turn | None) -> M:
    """A message before it leaves this seat, if a peer is to learn nothing from it or every number in it is finite.

    Raises:
        DivergedError: the model at this very seat has left the numbers.
    """
    for tensor in tensors_of(message).values() if message.purpose == "train" else ():
        if lost := _lost(tensor):
            kind, when = message.kind(), _when(message, turn)
            raise DivergedError(
                f"training diverged: {me}'s own {kind} {when} has {lost}: {_SICK}; {_CURE}, or less noise"
            )
    return message


_STRANGE = "it has another model than the file says, or is hostile: leave it out"
_SICK = "its model has diverged"
_CURE = "try a smaller optimiser.lr"


def _lost(tensor: Tensor) -> str:
    """How many values are not finite, in words; empty if all are.

    Their sum is finite only then, and takes a tenth of the time of a look at each; it may overflow, too.
    """
    if math.isfinite(tensor.sum().item()):
        return ""
    count = int((~torch.isfinite(tensor)).sum())
    return f"{count} value{'s' * (count > 1)} that {'are' if count > 1 else 'is'} not finite" if count else ""


def _fits(found: Sequence[int], allowed: Shape) -> bool:
    if found == allowed:
        return True
    return len(found) == len(allowed) and all(b in (None, a) for a, b in zip(found, allowed, strict=True))


def _sent(message: Message, frm: RoleId, turn: Turn | None) -> str:
    return f"{_when(message, turn)} {frm} sent {'an' if message.kind()[0] in 'AEIOU' else 'a'} {message.kind()}"


def _when(message: Message, turn: Turn | None) -> str:
    if turn is None:
        return f"in exchange {message.step}"
    return f"at training step {turn.index}" if turn.purpose == "train" else f"after {turn.index} training steps"


def _words(dtype: torch.dtype, shape: Shape) -> str:
    sizes = " x ".join("any" if length is None else str(length) for length in shape)
    return f"{sizes or 'a single'} {str(dtype).removeprefix('torch.')}"

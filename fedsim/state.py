"""Any state of a stage, an attack or a role as a JSON text and a flat mapping of tensors, and back, to the bit.

A state is a frozen tree: tensors, scalars, None, `Rng` nodes, tuples, string-keyed mappings and frozen dataclasses of these.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import sys
from collections.abc import Mapping
from typing import Any, Protocol

import torch
from torch import Tensor

from fedsim.seeding import Rng

Packed = tuple[str, dict[str, Tensor]]


class Lasting(Protocol):
    """What can be put away after a training step, and taken up again by one that was built anew from the same file."""

    def state(self) -> Any:
        """All that steps have changed here, as a state. Tensors may be the live ones: who keeps them copies them."""

    def restore(self, state: Any) -> None:
        """Become what ``state`` says; the next step then gives the same bits."""


def pack(state: Any) -> Packed:
    """Split ``state`` into its structure (a JSON text) and its tensors, named by their path.

    Raises:
        TypeError: the state holds something that is not part of such a tree.
    """
    tensors: dict[str, Tensor] = {}
    return json.dumps(_pack(state, "", tensors)), tensors


def unpack(packed: Packed, like: Any) -> Any:
    """Rebuild what `pack` took apart.

    ``like`` is any state of the same kind, such as a fresh one: dataclasses are looked up by name in the modules
    that define the dataclasses in it, and nowhere else.
    """
    return _unpack(json.loads(packed[0]), packed[1], _dataclasses_near(like))


def digest(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 over names, dtypes, shapes and bytes, in order of name."""
    h = hashlib.sha256()
    for name in sorted(tensors):
        t = tensors[name].detach().cpu().contiguous()
        h.update(f"{name} {t.dtype} {tuple(t.shape)}\n".encode())
        h.update(t.reshape(-1).view(torch.uint8).numpy().tobytes())
    return h.hexdigest()


def _pack(node: Any, path: str, tensors: dict[str, Tensor]) -> Any:
    if node is None or isinstance(node, bool | int | float | str):
        return node
    if isinstance(node, Tensor):
        tensors[path] = node.detach().contiguous()
        return {"tensor": path}
    if isinstance(node, Rng):
        return {"rng": node.key.hex(), **({"unguessable": True} if node.unguessable else {})}
    if type(node) is tuple:  # a named tuple would come back as a plain one
        return [_pack(child, f"{path}/{i}", tensors) for i, child in enumerate(node)]
    if dataclasses.is_dataclass(node) and not isinstance(node, type):
        inner = {f.name: _pack(getattr(node, f.name), f"{path}/{f.name}", tensors) for f in dataclasses.fields(node)}
        return {"is": type(node).__qualname__, "of": inner}
    if isinstance(node, Mapping) and all(isinstance(key, str) for key in node):
        return {"map": [[key, _pack(child, f"{path}/{_escaped(key)}", tensors)] for key, child in node.items()]}
    raise TypeError(f"a state cannot hold {type(node).__name__} (at {path or 'its root'})")


def _escaped(key: str) -> str:
    """A key as one part of a path (RFC 6901), so that {"a/b": t} and {"a": {"b": t}} have different paths."""
    return key.replace("~", "~0").replace("/", "~1")


def _unpack(node: Any, tensors: Mapping[str, Tensor], types: Mapping[str, type]) -> Any:
    if isinstance(node, list):
        return tuple(_unpack(child, tensors, types) for child in node)
    if not isinstance(node, dict):
        return node
    if "tensor" in node:
        return tensors[node["tensor"]]
    if "rng" in node:
        return Rng(bytes.fromhex(node["rng"]), node.get("unguessable", False))
    if "map" in node:
        return {key: _unpack(child, tensors, types) for key, child in node["map"]}
    return types[node["is"]](**{k: _unpack(v, tensors, types) for k, v in node["of"].items()})


def _dataclasses_near(node: Any) -> dict[str, type]:
    if isinstance(node, tuple):
        return {k: v for child in node for k, v in _dataclasses_near(child).items()}
    if isinstance(node, Mapping):
        return _dataclasses_near(tuple(node.values()))
    if not dataclasses.is_dataclass(node) or isinstance(node, Rng):
        return {}
    here = {
        thing.__qualname__: thing
        for thing in vars(sys.modules[type(node).__module__]).values()
        if isinstance(thing, type) and dataclasses.is_dataclass(thing)
    }
    return here | _dataclasses_near(tuple(getattr(node, f.name) for f in dataclasses.fields(node)))

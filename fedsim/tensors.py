"""Tensors in a file, loaded strictly: a name that is missing, or one too many, is an error that names it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from fedsim.errors import OutputError
from fedsim.files import atomic_write, make_folder, read_file
from fedsim.safejson import parse

SHOWN = 4
"""Names in a message."""
MOST_BYTES, MOST_HEADER_BYTES = 4 << 30, 100 << 20
"""Of a file of tensors, and of its header."""


def store(path: Path, tensors: Mapping[str, Tensor], sync: bool = True) -> None:
    """Write named tensors (safetensors) as `fedsim.files.atomic_write` does; folders are made as needed."""
    make_folder(path.parent)
    atomic_write(path, encode(tensors), sync=sync)


def encode(tensors: Mapping[str, Tensor]) -> bytes:
    """Named tensors as the content of a file (safetensors)."""
    from safetensors.torch import save

    # views of one storage cannot be stored, copies can
    return save({name: t.detach().to("cpu", copy=True).contiguous() for name, t in tensors.items()})


def decode(content: bytes) -> dict[str, Tensor]:
    """What `encode` wrote.

    Raises:
        ValueError: it is no safetensors.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        return load(content)
    except (SafetensorError, KeyError, RuntimeError, TypeError) as error:  # also a type of numbers that torch has not
        raise ValueError(" ".join(str(error).split())[:200]) from error


def decode_metadata(content: bytes) -> dict[str, str]:
    """The texts that a safetensors file has beside its tensors.

    Raises:
        ValueError: it is no safetensors.
    """
    size = int.from_bytes(content[:8], "little")
    if size > min(len(content) - 8, MOST_HEADER_BYTES):
        raise ValueError("its header is cut off, or too large")
    header = parse(content[8 : 8 + size])
    found = header.get("__metadata__", {}) if isinstance(header, dict) else None
    if not isinstance(found, dict) or not all(isinstance(value, str) for value in found.values()):
        raise ValueError("its header has no texts")
    return found


def restore(path: Path, into: Mapping[str, Tensor]) -> None:
    """Copy a file's tensors into those of the same names.

    Raises:
        OutputError: there is no such file, it is no safetensors, or a name, a shape or a type differs; says which.
    """
    found = read(path)
    missing, extra = into.keys() - found.keys(), found.keys() - into.keys()
    if missing or extra:
        wrong = [f"{word} {_listed(sorted(names))}" for word, names in (("lacks", missing), ("has", extra)) if names]
        raise OutputError(f"{path}: {' and '.join(wrong)}; expected exactly the {len(into)} tensors of this network")
    for name, tensor in into.items():
        if (found[name].shape, found[name].dtype) != (tensor.shape, tensor.dtype):
            there, here = ((tuple(t.shape), t.dtype) for t in (found[name], tensor))
            raise OutputError(f"{path}: {name} is {there}, expected {here}")
    with torch.no_grad():
        for name, tensor in into.items():
            tensor.copy_(found[name])


def read(path: Path) -> dict[str, Tensor]:
    """All tensors of a file, by name.

    Raises:
        OutputError: there is no such file, or it is no safetensors.
    """
    try:
        return decode(read_file(path.parent, path.name, MOST_BYTES))
    except (OSError, ValueError) as error:
        why = str(error.strerror or error) if isinstance(error, OSError) else str(error)
        raise OutputError(f"{path}: not readable as safetensors: {why}") from error


def _listed(names: list[str]) -> str:
    rest = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(f"'{name}'" for name in names[:SHOWN]) + rest

"""Tensors in a file, loaded strictly: a name that is missing, or one too many, is an error that names it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from fedsim.errors import OutputError
from fedsim.files import atomic_write

SHOWN = 4
"""Names in a message."""


def store(path: Path, tensors: Mapping[str, Tensor], sync: bool = True) -> None:
    """Write named tensors (safetensors) as `fedsim.files.atomic_write` does; folders are made as needed."""
    from safetensors.torch import save

    path.parent.mkdir(parents=True, exist_ok=True)
    # views of one storage cannot be stored, copies can
    copies = {name: t.detach().to("cpu", copy=True).contiguous() for name, t in tensors.items()}
    atomic_write(path, save(copies), sync=sync)


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
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise OutputError(f"{path}: not readable as safetensors: {str(error).splitlines()[0]}") from error


def _listed(names: list[str]) -> str:
    rest = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(f"'{name}'" for name in names[:SHOWN]) + rest

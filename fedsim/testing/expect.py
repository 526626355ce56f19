"""What all kits share: one way to fail, one way to compare to the bit, one way through a checkpoint and back."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from fedsim.errors import ConformanceError
from fedsim.plugins import Plugin
from fedsim.state import digest, pack, unpack


def expect(holds: bool, broken: str) -> None:
    """Raise `ConformanceError` with ``broken`` unless ``holds``."""
    if not holds:
        raise ConformanceError(broken)


@contextmanager
def no_errors(where: str) -> Iterator[None]:
    """Whatever a plugin raises in here is a breach of its contract, told in one line."""
    try:
        yield
    except ConformanceError:
        raise
    except Exception as error:
        line = " ".join(str(error).split())
        raise ConformanceError(f"{where}: raised {type(error).__name__}: {line[:300]}") from error


def fingerprint(value: Any, where: str) -> str:
    """Equal for two states (or messages) if and only if they are equal to the bit.

    Raises:
        ConformanceError: the value is not a frozen tree, so it can neither be compared nor saved.
    """
    try:
        structure, tensors = pack(value)
    except (TypeError, ValueError) as error:
        raise ConformanceError(f"{where}: the state is not a frozen tree of tensors and scalars: {error}") from error
    return f"{structure} {digest(tensors)}"


def reloaded(state: Any, like: Any, where: str) -> Any:
    """The state after a checkpoint: through JSON text and the bytes of a safetensors file.

    Raises:
        ConformanceError: it does not come back as it went.
    """
    from safetensors.torch import load, save

    before = fingerprint(state, where)
    structure, tensors = pack(state)
    text = json.dumps(json.loads(structure))
    blob = save({name: tensor.clone() for name, tensor in tensors.items()})  # a file holds no two names for one memory
    try:
        back = unpack((text, load(blob)), like)
    except (KeyError, TypeError) as error:
        hint = "its dataclasses must be defined at the top of a module that the first state already knows"
        raise ConformanceError(f"{where}: the state cannot be loaded again ({error!r}); {hint}") from error
    expect(fingerprint(back, where) == before, f"{where}: the state changes on its way through a checkpoint")
    return back


def check_metadata(config: Plugin) -> None:
    """A plugin explains itself: a docstring, a description of every setting, settings that survive being written down.

    Raises:
        ConformanceError: says what is missing.
    """
    cls, kind = type(config), config.kind()
    doc = vars(cls).get("__doc__") or ""
    expect(bool(doc.strip()), f"{kind}: class {cls.__name__} has no docstring; it is what `fedsim show {kind}` prints")
    bare = [name for name, setting in cls.model_fields.items() if not setting.description]
    expect(not bare, f"{kind}: no description for {', '.join(bare)}; write Field(..., description=...)")
    with no_errors(f"{kind}: writing its settings down and reading them again"):
        dump = config.model_dump(mode="json")
        again = cls.model_validate({name: value for name, value in dump.items() if name != "kind"})
    expect(again == config, f"{kind}: its settings change when they are written down and read again")

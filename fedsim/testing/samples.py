"""Messages to try a stage on: for each stream, what one link of one federation carries, in order."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from fedsim.message import Message
from fedsim.seeding import Rng
from fedsim.threat import Claim, Disclosure, Verdict
from fedsim.vfl.messages import Embedding, Gradient, Model, ParameterGradient, Rows

Shapes = Mapping[str, tuple[int, ...]]

TABLE: Shapes = {"1.weight": (8, 5), "1.bias": (8,), "3.weight": (4, 8), "3.bias": (4,)}
IMAGE: Shapes = {"0.weight": (4, 1, 3, 3), "0.bias": (4,), "4.weight": (6, 64), "4.bias": (6,)}
SINGLE: Shapes = {"weight": (1, 1), "scale": ()}
LARGE: Shapes = {"weight": (512, 700)}


@dataclass(frozen=True)
class _Federation:
    """The sizes and values of one stream; ``scale`` multiplies standard normal values."""

    shapes: Shapes
    batch: int = 8
    width: int = 4
    scale: float = 1.0
    dtype: torch.dtype = torch.float32
    steps: int = 3


_FEDERATIONS = {
    "table": _Federation(TABLE),
    "image": _Federation(IMAGE, batch=5),
    "single elements": _Federation(SINGLE, batch=1, width=1),
    "large": _Federation(LARGE, batch=256, width=512, steps=1),
    "float64": _Federation(TABLE, dtype=torch.float64),
    "zeros": _Federation(TABLE, scale=0.0),
    "values near 1e-20": _Federation(TABLE, scale=1e-20),
    "values near 1e15": _Federation(TABLE, scale=1e15),
}


def sample_streams() -> dict[str, tuple[Message, ...]]:
    """By name, streams of messages of every kind: several shapes and dtypes, every purpose, a smaller last batch."""
    return {name: tuple(_stream(f, Rng.root(0).child("samples", name))) for name, f in _FEDERATIONS.items()}


def _stream(f: _Federation, rng: Rng) -> Iterator[Message]:
    yield Rows(0, 40, 10, purpose="query")
    yield Model(0, _named(f, rng.child("initial")))
    yield Model(0, _named(f, rng.child("initial")), _buffers(f, rng.child("buffers")))
    for step in range(f.steps):
        batch = max(1, f.batch // 2) if step == f.steps - 1 else f.batch  # the last batch of an epoch may be smaller
        here = rng.child(step)
        yield Embedding(step, _values(f, (batch, f.width), here.child("z")))
        yield Gradient(step, _values(f, (batch, f.width), here.child("g")))
        yield ParameterGradient(step, _named(f, here.child("grads")))
        yield Model(step, {}, _buffers(f, here.child("buffers")))
        yield Model(step + 1, _named(f, here.child("model")))
    yield Embedding(f.steps, _values(f, (f.batch, f.width), rng.child("held out")), purpose="evaluate")
    yield Embedding(f.steps + 1, _values(f, (f.batch, f.width), rng.child("new")), purpose="query")
    yield Gradient(f.steps + 1, _values(f, (f.batch, f.width), rng.child("pass")), purpose="query")
    yield from _threat(f, rng)


def _threat(f: _Federation, rng: Rng) -> Iterator[Message]:
    """What the trials of a scenario put on the same link; a stage for every kind of message meets it."""
    yield Disclosure(0, "bottom", '{"embedding": 4}', _named(f, rng.child("disclosed")), purpose="query")
    values = _values(f, (3, f.width), rng.child("claim"))
    yield Claim(step=0, about="features", rows=torch.arange(3), values=values, notes={"rounds": 3}, purpose="query")
    yield Verdict(0, {"psnr": 12.5}, {"psnr": 9.0}, purpose="query")


def _named(f: _Federation, rng: Rng) -> dict[str, Tensor]:
    return {name: _values(f, shape, rng.child(name)) for name, shape in f.shapes.items()}


def _buffers(f: _Federation, rng: Rng) -> dict[str, Tensor]:
    """Running statistics and a counter."""
    return {
        "mean": _values(f, (f.width,), rng.child("mean")),
        "var": _values(f, (f.width,), rng.child("var")).abs(),
        "batches": torch.tensor(7),
    }


def _values(f: _Federation, shape: tuple[int, ...], rng: Rng) -> Tensor:
    return torch.randn(shape, generator=rng.torch(), dtype=f.dtype) * f.scale

"""How fast is a training step, next to plain torch? ``python benchmarks/step.py``

Four parties of 196 features, each a linear layer of 64 with ReLU, a top from 256 to 10, batch 128, Adam, one process, one
thread. Three ways to take the same step, interleaved so that a noisy machine hits all of them alike:

    monolithic   one torch module, one graph, one fused Adam
    bare         the split of that module in a plain loop: five graphs, five fused Adams, no messages
    local        fedsim's local runtime: messages, frames, mailboxes, an event loop

Then where the time of ``local`` goes: maths (that of bare), encoding and decoding (the same frames, alone), and the rest.
"""

from __future__ import annotations

import json
import statistics
import time

import torch
from torch import Tensor, nn
from torch.nn import functional

from fedsim import config
from fedsim.seeding import determine
from fedsim.vfl.messages import Embedding
from fedsim.wire import Envelope, decode, encode

PARTIES, FEATURES, UNITS, CLASSES, BATCH, ROWS, STEPS, ROUNDS = 4, 196, 64, 10, 128, 4096, 300, 7

SCENARIO = {
    "name": "step",
    "seed": 1,
    "scenario": {
        "kind": "baseline",
        "data": {"kind": "synthetic", "count": ROWS + 128, "features": PARTIES * FEATURES, "classes": CLASSES,
                 "informative": 32, "test": 128},
        "parties": {f"party{i}": {"columns": f"{i * FEATURES}:{(i + 1) * FEATURES}"} for i in range(PARTIES)},
        "bottom": {"kind": "linear", "activation": "relu"},
        "embedding": UNITS,
        "top": {"kind": "linear"},
        "batch": BATCH,
        "steps": STEPS,
        "evaluate": STEPS,
    },
}  # fmt: skip


def batches() -> list[Tensor]:
    """The rows of each step; a shuffle an epoch, drawn beforehand."""
    rows: list[Tensor] = []
    while len(rows) < STEPS:
        rows += torch.randperm(ROWS).split(BATCH)
    return rows[:STEPS]


def monolithic(slices: list[Tensor], labels: Tensor, order: list[Tensor]) -> float:
    bottoms = nn.ModuleList(nn.Sequential(nn.Linear(FEATURES, UNITS), nn.ReLU()) for _ in slices)
    top = nn.Linear(PARTIES * UNITS, CLASSES)
    optimiser = torch.optim.Adam([*bottoms.parameters(), *top.parameters()], fused=True)
    start = time.perf_counter()
    for rows in order:
        z = torch.cat([b(x.index_select(0, rows)) for b, x in zip(bottoms, slices, strict=True)], dim=1)
        loss = functional.cross_entropy(top(z), labels.index_select(0, rows))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        loss.item()
    return STEPS / (time.perf_counter() - start)


def bare(slices: list[Tensor], labels: Tensor, order: list[Tensor]) -> float:
    bottoms = [nn.Sequential(nn.Linear(FEATURES, UNITS), nn.ReLU()) for _ in slices]
    top = nn.Linear(PARTIES * UNITS, CLASSES)
    optimisers = [torch.optim.Adam(m.parameters(), fused=True) for m in (*bottoms, top)]
    start = time.perf_counter()
    for rows in order:
        outputs = [b(x.index_select(0, rows)) for b, x in zip(bottoms, slices, strict=True)]
        z = torch.cat([o.detach() for o in outputs], dim=1).requires_grad_()
        loss = functional.cross_entropy(top(z), labels.index_select(0, rows))
        for optimiser in optimisers:
            optimiser.zero_grad()
        loss.backward()
        assert z.grad is not None
        for output, g in zip(outputs, z.grad.split(UNITS, dim=1), strict=True):
            output.backward(g)
        for optimiser in optimisers:
            optimiser.step()
        loss.item()
    return STEPS / (time.perf_counter() - start)


def local() -> float:
    times: list[float] = []
    file = config.validate(SCENARIO, "step", {})
    file.runtime.run(file, lambda role, row: times.append(time.perf_counter()) if "loss" in row else None)
    return (len(times) - 1) / (times[-1] - times[0])


def frame_microseconds(shape: tuple[int, ...], repeats: int = 5000) -> tuple[float, float]:
    """Encoding and decoding one float32 embedding, microseconds each."""
    envelope = Envelope("party0", "server", 0, Embedding(0, torch.randn(shape)))
    frame = encode(envelope)
    start = time.perf_counter()
    for _ in range(repeats):
        encode(envelope)
    middle = time.perf_counter()
    for _ in range(repeats):
        decode(frame)
    return (middle - start) / repeats * 1e6, (time.perf_counter() - middle) / repeats * 1e6


def main() -> None:
    determine(1)
    torch.manual_seed(0)
    slices = [torch.randn(ROWS, FEATURES) for _ in range(PARTIES)]
    labels = torch.randint(CLASSES, (ROWS,))
    speeds: dict[str, list[float]] = {"monolithic": [], "bare": [], "local": []}
    for _ in range(ROUNDS):
        order = batches()
        speeds["monolithic"].append(monolithic(slices, labels, order))
        speeds["bare"].append(bare(slices, labels, order))
        speeds["local"].append(local())
    best = {name: statistics.median(values) for name, values in speeds.items()}
    for name, value in best.items():
        print(f"{name:11} {value:7.0f} steps/s   {value / best['monolithic']:.2f} x monolithic")
    print(f"local is {best['local'] / best['bare']:.2f} x bare")
    step, maths = 1e6 / best["local"], 1e6 / best["bare"]
    frames = 2 * PARTIES * sum(frame_microseconds((BATCH, UNITS)))
    rest = step - maths - frames
    print(f"a local step: {step:.0f} us = maths {maths:.0f} + encode/decode {frames:.0f} + scheduling {rest:.0f}")
    small = frame_microseconds((64, 16))
    print(f"a frame of 64 x 16 float32: encode {small[0]:.1f} us, decode {small[1]:.1f} us")
    print(json.dumps({name: round(value, 1) for name, value in best.items()}))


if __name__ == "__main__":
    main()

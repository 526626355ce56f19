"""How fast is a training step when every seat has its own process? ``python benchmarks/transports.py``

The network of ``benchmarks/step.py`` (four parties of 196 features, batch 128) with a server, in seven ways, interleaved so
that a noisy machine hits all of them alike:

    monolithic   one torch module, one graph, one fused Adam
    local        fedsim's local runtime: one process
    processes    one process a seat, frames over gRPC on loopback
    ray          one Ray actor a seat, frames over the same gRPC streams
    flower       one Flower process a seat, frames over the same streams with mutual TLS
    simulation   Flower's simulation, an actor of its Ray a party, frames over the same streams with mutual TLS
    ray calls    one Ray actor a party and plain actor calls, one a party and step: what Ray alone would do

Then frames with embeddings of 4 MiB, echoed by four processes: MB/s, both directions added, in plain text and with mutual
TLS. Last, once, a few steps with frames as messages of Flower. It needs ``fedsim-vfl[ray,flower]``.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from step import CLASSES, FEATURES, PARTIES, ROWS, SCENARIO, UNITS, batches, monolithic
from torch import nn
from torch.nn import functional

from fedsim import config
from fedsim.config import Runtime
from fedsim.plan import Secrets
from fedsim.runtime.flower import Flower, conducting
from fedsim.runtime.local import Local
from fedsim.runtime.processes import Processes
from fedsim.runtime.ray import Ray, session
from fedsim.seeding import determine
from fedsim.transport.certificates import certify
from fedsim.transport.grpc import Hub, Pass, Spoke, token_of
from fedsim.transport.tls import Identity
from fedsim.vfl.messages import Embedding
from fedsim.wire import Envelope, encode

ROUNDS, STEPS, CALLS, LARGE, ECHOES, FEW = 3, 4000, 400, 4 << 20, 60, 3
PASS = Pass("benchmark", "benchmark")
ROSTER = ("server", *(f"party{i}" for i in range(PARTIES)))


def speed(runtime: Runtime) -> float:
    """Steps a second of the last three quarters, from when rows of the log arrive; those come some at a time.

    The first quarter is left out: processes that an engine starts beside the seats are still at it.
    """
    marks: list[tuple[float, int]] = []
    began = 0.0  # when the present burst of rows did

    def watch(role: str, row: Any) -> None:
        nonlocal began
        if "loss" in row:
            now = time.perf_counter()
            if marks and now - began < 0.01:
                marks.pop()
            else:
                began = now
            marks.append((now, row["step"]))

    file = config.validate(SCENARIO, "step", {})
    scenario = file.scenario.model_copy(update={"steps": STEPS, "evaluate": STEPS})
    runtime.run(file.model_copy(update={"scenario": scenario}), watch)
    late = [mark for mark in marks if mark[1] >= STEPS // 4]
    (start, first), (end, last) = late[0], late[-2] if len(late) > 4 else late[-1]
    return (last - first) / (end - start)


def simulated() -> float:
    from flwr.app import Context
    from flwr.serverapp import Grid, ServerApp
    from flwr.simulation import run_simulation

    from fedsim.flower_app import client

    server, found = ServerApp(), list[float]()

    @server.main()
    def lead(grid: Grid, context: Context) -> None:
        with conducting(grid, Secrets()):
            found.append(speed(Flower()))

    resources = {"client_resources": {"num_cpus": 1.0, "num_gpus": 0.0}, "init_args": {"num_cpus": PARTIES}}
    run_simulation(server, client, PARTIES, backend_config=resources)  # type: ignore[arg-type]
    return found[0]


def apart() -> float:
    """`simulated` in a process of its own: it imports Ray as it likes."""
    told = subprocess.run(
        [sys.executable, __file__, "simulation"], stdout=subprocess.PIPE, text=True, check=True
    ).stdout
    return float(next(line for line in told.splitlines() if line.startswith("simulation ")).split()[1])


def messages() -> float:
    """Seconds a step with frames as messages of Flower: between a longer run and a shorter one, without the start."""
    file, took = config.validate(SCENARIO, "step", {}), []
    with Flower(transport="flower").held(file):
        for steps in (1, 1 + FEW):
            scenario = file.scenario.model_copy(update={"steps": steps, "evaluate": 1000})
            start = time.perf_counter()
            Flower(transport="flower").run(file.model_copy(update={"scenario": scenario}), lambda role, row: None)
            took.append(time.perf_counter() - start)
    return (took[1] - took[0]) / FEW


class Party:
    """A party of the plain Ray variant: takes the gradient of the last step, gives the embedding of the next."""

    def __init__(self, seed: int) -> None:
        determine(1)
        self.x = torch.randn(ROWS, FEATURES, generator=torch.Generator().manual_seed(seed))
        self.bottom = nn.Sequential(nn.Linear(FEATURES, UNITS), nn.ReLU())
        self.optimiser = torch.optim.Adam(self.bottom.parameters(), fused=True)
        self.output: torch.Tensor | None = None

    def step(self, rows: np.ndarray, g: np.ndarray | None) -> np.ndarray:
        """The embedding of these rows, after an update with the gradient of the last one."""
        if g is not None and self.output is not None:
            self.optimiser.zero_grad()
            self.output.backward(torch.from_numpy(np.array(g)))
            self.optimiser.step()
        self.output = self.bottom(self.x.index_select(0, torch.from_numpy(np.array(rows))))
        return self.output.detach().numpy()


def ray_calls() -> float:
    import ray

    parties = [ray.remote(Party).remote(i) for i in range(PARTIES)]
    top, labels = nn.Linear(PARTIES * UNITS, CLASSES), torch.randint(CLASSES, (ROWS,))
    optimiser = torch.optim.Adam(top.parameters(), fused=True)
    gradients: list[np.ndarray | None] = [None] * PARTIES
    start = 0.0
    for i, rows in enumerate(batches()[:CALLS]):
        if i == CALLS // 10:
            start = time.perf_counter()
        calls = [p.step.remote(rows.numpy(), g) for p, g in zip(parties, gradients, strict=True)]
        outputs = [torch.from_numpy(np.array(z)) for z in ray.get(calls, timeout=120)]
        z = torch.cat(outputs, dim=1).requires_grad_()
        loss = functional.cross_entropy(top(z), labels.index_select(0, rows))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        assert z.grad is not None
        gradients = [g.numpy() for g in z.grad.split(UNITS, dim=1)]
    seconds = time.perf_counter() - start
    for party in parties:
        ray.kill(party)
    return (CALLS - CALLS // 10) / seconds


def large_frame() -> bytes:
    return encode(Envelope("party0", "server", 0, Embedding(0, torch.randn(LARGE // 4 // UNITS, UNITS))))


async def echo(role: str, address: str, keys: str = "") -> None:
    shows = Pass(token_of(PASS.token, role), PASS.digest)
    identity = Identity.read(*(Path(keys) / name for name in (f"{role}.ca", role, f"{role}.key"))) if keys else None
    spoke = await Spoke.connect(role, "server", address, shows, 60, identity)
    for _ in range(ECHOES):
        await spoke.send("server", (await spoke.recv())[1])
    await spoke.aclose()


async def megabytes(keys: str = "") -> float:
    """Plain, or encrypted with certificates that are made in a folder."""
    identities = certify("server", ROSTER[1:], ["127.0.0.1"], days=1) if keys else {}
    for role, identity in identities.items():
        for name, content in ((f"{role}.ca", identity.ca), (role, identity.certificate), (f"{role}.key", identity.key)):
            (Path(keys) / name).write_bytes(content)
    hub, frame = await Hub.listen("server", ROSTER, PASS, identity=identities.get("server")), large_frame()
    others = [subprocess.Popen([sys.executable, __file__, role, hub.address, keys]) for role in ROSTER[1:]]
    await hub.joined(60)
    start = 0.0
    for i in range(ECHOES):
        if i == ECHOES // 10:
            start = time.perf_counter()
        for role in ROSTER[1:]:
            await hub.send(role, frame)
        for _ in others:
            await hub.recv()
    seconds = time.perf_counter() - start
    await hub.aclose()
    for other in others:
        other.wait()
    return 2 * PARTIES * len(frame) * (ECHOES - ECHOES // 10) / seconds / 1e6


def main() -> None:
    determine(1)
    torch.manual_seed(0)
    slices = [torch.randn(ROWS, FEATURES) for _ in range(PARTIES)]
    labels = torch.randint(CLASSES, (ROWS,))
    found: dict[str, list[float]] = {
        n: []
        for n in ("monolithic", "local", "processes", "flower", "simulation", "ray", "ray calls", "MB/s", "MB/s TLS")
    }
    for _ in range(ROUNDS):
        found["monolithic"].append(monolithic(slices, labels, batches()))
        found["local"].append(speed(Local()))
        found["processes"].append(speed(Processes()))
        found["flower"].append(speed(Flower()))
        found["simulation"].append(apart())
        with session(Ray(), len(ROSTER)):  # closed meanwhile: its processes take time from the others
            found["ray"].append(speed(Ray()))
            found["ray calls"].append(ray_calls())
        found["MB/s"].append(asyncio.run(megabytes()))
        with tempfile.TemporaryDirectory() as keys:
            found["MB/s TLS"].append(asyncio.run(megabytes(keys)))
        print(json.dumps({name: round(values[-1]) for name, values in found.items()}), flush=True)
    best = {name: statistics.median(values) for name, values in found.items()}
    for name, value in best.items():
        if not name.startswith("MB/s"):
            ratio = value / best["monolithic"]
            print(f"{name:11} {value:6.0f} steps/s  {1e3 / value:6.2f} ms a step  {ratio:.2f} x monolithic")
    print(
        f"ray is {best['ray'] / best['processes']:.2f} x processes, flower {best['flower'] / best['processes']:.2f} x"
    )
    print(f"embeddings of 4 MiB: {best['MB/s']:.0f} MB/s, with TLS {best['MB/s TLS']:.0f}; both directions added")
    seconds = messages()
    print(f"frames as messages of Flower: {seconds:.1f} s a step; a stream is {best['flower'] * seconds:.0f} x as fast")
    print(json.dumps({name: round(value, 1) for name, value in best.items()}))


if __name__ == "__main__":
    if sys.argv[1:] == ["simulation"]:
        print(f"\nsimulation {simulated()}", flush=True)
    elif len(sys.argv) > 1:
        asyncio.run(echo(*sys.argv[1:]))
    else:
        main()

"""The tree of random streams: the only place where anything random is seeded.

Every draw comes from a named child of one of two roots: the scenario's public ``seed`` (schedule, protocol), or a seat's
private root (the noise of its stages, the initial weights of its bottom). Equal root and equal path give equal draws. In a
simulation private roots follow from the seed, too; in a deployment no two runs have the same (`derive_root`).
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

STATE_OFFSET, STATE_WORDS = 24, 624
"""Where in the state of a torch generator of the CPU the words of its Mersenne Twister begin, bytes, and how many there are."""


@dataclass(frozen=True, slots=True)
class Rng:
    """A node of the tree; its 32-byte key is a hash of the root and of the path to here.

    A child cannot be turned back into its parent, so a seat may hand out a child without giving its secret away.

    Attributes:
        key: what draws follow from.
        unguessable: whether all of the key counts in draws of torch, whose generators by themselves use 32 bits of a seed:
            everybody can try them all, and among 65,536 messages two would be likely to have the same noise. So it is for what
            a seat of a deployment draws; simulations, which hide nothing, keep the draws that they have always had.

    >>> Rng.root(7).child("noise", 3) == Rng.root(7).child("noise").child(3)
    True
    """

    key: bytes = field(repr=False)
    unguessable: bool = False

    @staticmethod
    def root(seed: int) -> Rng:
        """The public root of a scenario."""
        return Rng(hashlib.sha256(f"fedsim seed {seed}".encode()).digest())

    @staticmethod
    def secret(secret: bytes) -> Rng:
        """The root of a seat, from the seat's own secret bytes."""
        return Rng(hashlib.sha256(b"fedsim secret " + secret).digest())

    def child(self, *names: str | int) -> Rng:
        """The node at the end of the path ``names``; ``3`` and ``"3"`` are different names."""
        key = self.key
        for name in names:
            tag = b"i" if isinstance(name, int) else b"s"
            key = hashlib.sha256(key + tag + str(name).encode()).digest()
        return Rng(key, self.unguessable)

    def torch(self) -> torch.Generator:
        """A fresh torch generator of this node."""
        generator: torch.Generator = self._seeded(torch.Generator())
        return generator

    def numpy(self) -> np.random.Generator:
        """A fresh numpy generator of this node."""
        return np.random.default_rng(list(self.key))

    @contextmanager
    def as_global(self) -> Iterator[None]:
        """Seed torch's global stream for code that draws from it (dropout, layer initialisation), then restore it.

        There must be no ``await`` inside: another role would draw from this node.
        """
        before, seed = torch.get_rng_state(), self._seed()
        self._seeded(torch.default_generator)
        if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
            torch.cuda.manual_seed_all(seed)
        try:
            yield
        finally:
            torch.set_rng_state(before)

    def _seed(self) -> int:
        return int.from_bytes(self.key[:8], "little") >> 1

    def _seeded(self, generator: Any) -> Any:
        generator.manual_seed(self._seed())
        if self.unguessable:
            generator.set_state(self._fill_state(generator.get_state()))
        return generator

    def _fill_state(self, state: Tensor) -> Tensor:
        """Put words that follow from the whole key into the state of a Mersenne Twister that has just been seeded."""
        words = state.numpy()[STATE_OFFSET : STATE_OFFSET + 8 * STATE_WORDS].view("<u8")
        if len(state) < STATE_OFFSET + 8 * STATE_WORDS or words[0] != self._seed() & 0xFFFFFFFF:
            raise RuntimeError(
                f"torch {torch.__version__} keeps the state of its generator in another form than fedsim knows"
            )
        words[:] = np.frombuffer(hashlib.shake_256(b"fedsim state " + self.key).digest(4 * STATE_WORDS), "<u4")
        return state


def simulated_secret(seed: int, role: str) -> bytes:
    """The secret of a seat in a simulation: it follows from the seed. In a deployment it comes from the seat's own node."""
    return hashlib.sha256(f"fedsim simulated secret {seed} {role}".encode()).digest()


@dataclass(frozen=True, slots=True)
class SeatRoot:
    """The root of a seat's private draws in one run.

    Attributes:
        rng: the root itself.
        fresh: the bytes that were drawn for this run, in hex; empty in a simulation.
    """

    rng: Rng
    fresh: str = field(repr=False)

    @property
    def simulated(self) -> bool:
        """Whether everybody who has the scenario file can compute this root."""
        return not self.fresh

    @property
    def fingerprint(self) -> str:
        """A hash that tells two roots apart and gives neither away."""
        return self.rng.child("fingerprint").key.hex()


def simulate_root(seed: int, role: str) -> SeatRoot:
    """Compute the private root of a seat in a simulation, which is the same in every run of the same seed."""
    return SeatRoot(Rng.secret(simulated_secret(seed, role)), "")


def draw_fresh() -> bytes:
    """Draw the random bytes of one run from the operating system; nothing else here does, and no simulation."""
    return os.urandom(32)


def derive_root(secret: bytes, digest: str, role: str, fresh: bytes) -> SeatRoot:
    """Derive the private root of a seat in one run of a deployment, which nobody else can compute.

    Args:
        secret: the seat's own; the seat may use it for many runs.
        digest: that of the variant that is played. With it two variants have different roots even if ``fresh`` repeats, as
            it may on a machine that was restored from a snapshot.
        role: the seat. With it two seats have different roots even if an operator gave them the same secret.
        fresh: random bytes that the seat has drawn for this run.

    Raises:
        ValueError: there are no fresh bytes.
    """
    if not fresh:
        raise ValueError("a deployment needs fresh bytes for every run")
    key = Rng.secret(secret).child("run", digest, role, fresh.hex()).key
    return SeatRoot(Rng(key, unguessable=True), fresh.hex())


def determine(threads: int) -> None:
    """Make this process compute the same bits every time: fixed threads, deterministic kernels, no denormals."""
    if torch.get_num_threads() != threads:
        torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(True)
    setattr(torch.utils.deterministic, "fill_uninitialized_memory", False)  # noqa: B010 (no stubs); we write whatever we allocate; filling costs time
    for kind in (np.float16, np.float32, np.float64):
        np.finfo(kind)  # up to NumPy 2.3 it is worked out once, and warns where there are no denormals
    torch.set_flush_denormal(True)

"""Which rows everybody has: each seat sends the hub keyed hashes of its ids and is told which of them all seats have.

An id is its text, without spaces around it, in Unicode's form NFC; what travels is HMAC-SHA256 (RFC 2104) under a key that
all seats have, cut to 128 bits. Each seat then puts the rows that are left in the order of their ids: which row is which
follows from the ids alone, whatever the key and whatever the order of anybody's file.
"""

from __future__ import annotations

import hashlib
import hmac
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from fedsim.errors import DataError, ProtocolError
from fedsim.message import Message, RoleId
from fedsim.net import Net

SIZE = 16
"""Bytes of a hash: two of 10^9 different ids are equal with a probability of 10^-21."""
Where = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Ids(Message):
    """Prologue, to the hub: the hashes of a seat's ids in ascending order, (n, 16) uint8, and a mark of the key."""

    hashes: Tensor
    mark: str


@dataclass(frozen=True, eq=False)
class Common(Message):
    """Prologue, from the hub: which of the hashes that the seat has sent all seats have, (n,) bool."""

    everywhere: Tensor


def normal(id: str) -> str:
    """An id as it is compared: ``7`` and ``007`` are two."""
    return unicodedata.normalize("NFC", id.strip())


async def align(ids: Sequence[str], net: Net, key: bytes) -> Where:
    """Where among ``ids`` the rows are that every seat has, (m,), in the order of their ids.

    Args:
        ids: of this seat's rows, as `normal` gives them; each once.
        net: the way to the other seats, all of which align as well.
        key: what ids are hashed with; the same at every seat.

    Raises:
        DataError: no id is at every seat.
        ProtocolError: a seat hashes with another key, or says what cannot be.
    """
    hashes = [_hash(key, b"id " + id.encode()) for id in ids]
    order = sorted(range(len(ids)), key=hashes.__getitem__)
    mine, mark = [hashes[i] for i in order], _hash(key, b"mark").hex()
    if net.me == net.hub:
        everywhere = await _intersect(mine, mark, net)
    else:
        await net.send(net.hub, Ids(0, _tensor(mine), mark, purpose="query"))
        everywhere = (await net.recv(net.hub, Common, 0)).everywhere
        if everywhere.shape != (len(ids),) or everywhere.dtype != torch.bool:
            raise ProtocolError(f"{net.hub} answers {len(ids)} hashes of {net.me} with {tuple(everywhere.shape)}")
    kept = [row for row, common in zip(order, everywhere.tolist(), strict=True) if common]
    if not kept:
        raise DataError(f"no id of the {len(ids)} rows at {net.me} is at every other seat: nothing is left to train on")
    return np.array(sorted(kept, key=ids.__getitem__), dtype=np.int64)


async def _intersect(mine: Sequence[bytes], mark: str, net: Net) -> Tensor:
    """Tell everyone which of its hashes all have; returns which of ``mine``."""
    theirs = {peer: _checked(peer, said, mark, net) for peer, said in (await net.gather(Ids, 0)).items()}
    common = set(mine).intersection(*theirs.values())
    for peer, hashes in theirs.items():
        await net.send(peer, Common(0, _which(hashes, common), purpose="query"))
    left_out = {net.me: len(mine) - len(common)} | {peer: len(each) - len(common) for peer, each in theirs.items()}
    net.show({"notice": _said(len(common), left_out)})
    return _which(mine, common)


def _said(common: int, left_out: Mapping[RoleId, int]) -> str:
    counts = ", ".join(f"{count:,} of {role}" for role, count in left_out.items() if count)
    return f"{common:,} rows are at every seat; left out: {counts or 'none'}"


def _checked(peer: RoleId, said: Ids, mark: str, net: Net) -> list[bytes]:
    if not hmac.compare_digest(said.mark.encode(), mark.encode()):
        raise ProtocolError(f"{peer} hashes its ids with another key than {net.me}: expected the same at every seat")
    if said.hashes.ndim != 2 or said.hashes.shape[1] != SIZE or said.hashes.dtype != torch.uint8:
        raise ProtocolError(f"{peer} sent ids as {tuple(said.hashes.shape)}; expected (rows, {SIZE}) of uint8")
    block = said.hashes.numpy().tobytes()
    hashes = [block[i : i + SIZE] for i in range(0, len(block), SIZE)]
    if any(one >= other for one, other in pairwise(hashes)):
        raise ProtocolError(f"{peer} sent ids that are not in ascending order, each once")
    return hashes


def _hash(key: bytes, text: bytes) -> bytes:
    return hmac.digest(key, text, hashlib.sha256)[:SIZE]


def _tensor(hashes: Sequence[bytes]) -> Tensor:
    return torch.tensor(bytearray(b"".join(hashes)), dtype=torch.uint8).reshape(len(hashes), SIZE)


def _which(hashes: Sequence[bytes], common: set[bytes]) -> Tensor:
    return torch.tensor([each in common for each in hashes], dtype=torch.bool)

"""Bits of stored weights that are struck: what flipped and stuck bits have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import torch
from pydantic import Field, model_validator
from torch import Tensor

from fedsim import bits
from fedsim.bits import Format, Part, Stored
from fedsim.errors import ConfigError
from fedsim.parties.wrappers._weights import LISTED, Damage, WeightFault, Weights
from fedsim.seeding import Rng


class BitFault(WeightFault, ABC):
    """A fault of single bits in the words that hold the weights."""

    rate: float = Field(1e-3, ge=0, le=1, description="probability of each bit to be struck; unused with a count")
    count: int | None = Field(None, ge=0, description="how many bits, of all the chosen layers of a network together")
    part: Part = Field("any", description="which bits of a word: any | sign | exponent | mantissa")
    format: Format = Field(
        "float32", description="how weights are stored: float32 | bfloat16 | int8 (255 even steps a tensor)"
    )

    @model_validator(mode="after")
    def _such_bits(self) -> BitFault:
        if not bits.PARTS[self.format][self.part]:
            raise ValueError(f"part: words of {self.format} have no {self.part} bits")
        return self

    @abstractmethod
    def change(self, stored: Stored, mask: Tensor) -> Stored:
        """What becomes of the words where the bits of ``mask`` are struck."""

    def spoil(self, weights: Weights, rng: Rng) -> Damage:
        """See `WeightFault.spoil`; numbers of bits struck and of words that changed, and what each was and is."""
        size = sum(tensor.numel() for tensor in weights.values())
        try:
            places, chosen = bits.draw(size, self.format, self.part, rng, count=self.count, rate=self.rate)
        except ValueError as error:
            raise ConfigError(f"{self.kind()}: {error}") from error
        mask = bits.masks(places, chosen, size)
        after: dict[str, Tensor] = {}
        changes: list[dict[str, Any]] = []
        words, begin = 0, 0
        for name, tensor in weights.items():
            here = mask[begin : begin + tensor.numel()].view(tensor.shape)
            before = bits.store(tensor, self.format)
            struck = self.change(before, here)
            after[name] = struck.value()
            words += int((struck.words != before.words).sum())
            lies = (places >= begin) & (places < begin + tensor.numel())
            changes += _listed(name, before, struck, places[lies] - begin, chosen[lies])
            begin += tensor.numel()
        return Damage(after, {"bits": len(chosen), "weights changed": words}, changes[:LISTED])


def _listed(name: str, before: Stored, after: Stored, places: Tensor, chosen: Tensor) -> list[dict[str, Any]]:
    """Where each bit lies, and the value of its word before and after the whole blow."""
    old, new = before.value().flatten()[places[:LISTED]], after.value().flatten()[places[:LISTED]]
    where = [list(map(int, torch.unravel_index(place, before.words.shape))) for place in places[:LISTED]]
    rows = zip(where, chosen.tolist(), old.tolist(), new.tolist(), strict=False)
    return [{"parameter": name, "at": at, "bit": bit, "before": a, "after": b} for at, bit, a, b in rows]

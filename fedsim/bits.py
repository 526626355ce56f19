"""The words in which a tensor is stored, and what becomes of it when bits of them flip or stick."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from fedsim.seeding import Rng

Format = Literal["float32", "bfloat16", "int8"]
Part = Literal["any", "sign", "exponent", "mantissa"]

WIDTH = {"float32": 32, "bfloat16": 16, "int8": 8}
"""Bits of a word; bit 0 is the lowest."""
PARTS: dict[str, dict[str, range]] = {
    "float32": {"any": range(32), "mantissa": range(23), "exponent": range(23, 31), "sign": range(31, 32)},
    "bfloat16": {"any": range(16), "mantissa": range(7), "exponent": range(7, 15), "sign": range(15, 16)},
    "int8": {"any": range(8), "mantissa": range(7), "exponent": range(0), "sign": range(7, 8)},
}
"""By format, which bits are what: IEEE 754, and two's complement, which has no exponent."""
WORD = {"float32": torch.int32, "bfloat16": torch.int16, "int8": torch.int8}


@dataclass(frozen=True)
class Stored:
    """A tensor as it lies in memory.

    Attributes:
        words: its words as signed integers, of the tensor's shape.
        format: of a word.
        scale: what an int8 of 1 stands for; 1 otherwise.
    """

    words: Tensor
    format: Format
    scale: float = 1.0

    def value(self) -> Tensor:
        """What is read back, float32."""
        if self.format == "float32":
            return self.words.view(torch.float32)
        if self.format == "bfloat16":
            return self.words.view(torch.bfloat16).float()
        return self.words.float() * self.scale

    def flip(self, mask: Tensor) -> Stored:
        """The same with every bit of ``mask`` (int64, as of unsigned words, of the tensor's shape) turned over."""
        return Stored(self.words ^ _signed(mask, self.format), self.format, self.scale)

    def stick(self, mask: Tensor, value: int) -> Stored:
        """The same with every bit of ``mask`` at ``value``, 0 or 1."""
        bits = _signed(mask, self.format)
        return Stored(self.words | bits if value else self.words & ~bits, self.format, self.scale)


def store(tensor: Tensor, format: Format) -> Stored:
    """A float32 tensor in words: as it is, rounded to bfloat16, or in 255 even steps up to its largest absolute value."""
    tensor = tensor.detach().float().contiguous()
    if format == "float32":
        return Stored(tensor.view(torch.int32), format)
    if format == "bfloat16":
        return Stored(tensor.bfloat16().view(torch.int16), format)
    scale = float(tensor.abs().max()) / 127 if tensor.numel() else 1.0
    words = (tensor / (scale or 1.0)).round().clamp(-127, 127).to(torch.int8)
    return Stored(words, format, scale or 1.0)


def masks(places: Tensor, bits: Tensor, size: int) -> Tensor:
    """A mask (size,) int64 with bit ``bits[i]`` of word ``places[i]`` set, both (k,) int64; no bit stands twice."""
    return torch.zeros(size, dtype=torch.int64).index_add_(0, places, torch.ones_like(bits) << bits)


def draw(words: int, format: Format, part: Part, rng: Rng, *, count: int | None, rate: float) -> tuple[Tensor, Tensor]:
    """Distinct bits of ``words`` words: ``count`` of them, or (None) each with probability ``rate``.

    Returns:
        Places of words and of bits in them, each (k,) int64, in the order of the words.

    Raises:
        ValueError: the format has no such bits, or fewer than ``count``.
    """
    kinds = PARTS[format][part]
    total = words * len(kinds)
    if not total:
        raise ValueError(f"words of {format} have no {part} bits")
    generator = rng.numpy()
    wanted = int(generator.binomial(total, rate)) if count is None else count
    if wanted > total:
        raise ValueError(f"{wanted} bits to strike, but there are {total}")
    chosen = torch.from_numpy(np.sort(generator.choice(total, wanted, replace=False, shuffle=False)))
    return chosen // len(kinds), kinds.start + chosen % len(kinds)


def _signed(mask: Tensor, format: Format) -> Tensor:
    """Unsigned words, held in int64, as signed ones of the format's width."""
    width = WIDTH[format]
    return torch.where(mask >= 1 << (width - 1), mask - (1 << width), mask).to(WORD[format])

"""Words of tensors: every bit where the format has it, and every flip undone by another."""

from __future__ import annotations

import math
import struct

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fedsim import bits
from fedsim.bits import Format
from fedsim.seeding import Rng

ONE = torch.tensor([1.0])


def flipped(value: float, bit: int, format: Format = "float32") -> float:
    mask = bits.masks(torch.tensor([0]), torch.tensor([bit]), 1)
    return float(bits.store(torch.tensor([value]), format).flip(mask).value())


@given(st.floats(width=32, allow_nan=False), st.integers(0, 31))
def test_a_flip_is_that_of_the_ieee_word(value: float, bit: int) -> None:
    (word,) = struct.unpack("<I", struct.pack("<f", value))
    (expected,) = struct.unpack("<f", struct.pack("<I", word ^ (1 << bit)))
    found = flipped(value, bit)
    assert found == expected or (math.isnan(found) and math.isnan(expected))


def test_what_a_flip_does_in_each_format() -> None:
    assert [flipped(1.0, bit) for bit in (31, 30, 23, 22)] == [-1.0, math.inf, 0.5, 1.5]
    assert [flipped(1.0, bit, "bfloat16") for bit in (15, 14, 7, 6)] == [-1.0, math.inf, 0.5, 1.5]
    assert flipped(1.0, 7, "int8") == pytest.approx(-1 / 127)  # 127 with its sign bit turned over is -1
    assert flipped(1.0, 6, "int8") == pytest.approx(63 / 127)


@pytest.mark.parametrize("format", ["float32", "bfloat16", "int8"])
def test_every_bit_flipped_twice_is_as_before(format: Format) -> None:
    stored = bits.store(torch.randn(7, 5, generator=Rng.root(1).torch()), format)
    full = torch.full((7, 5), (1 << bits.WIDTH[format]) - 1)
    assert torch.equal(stored.flip(full).flip(full).words, stored.words)
    assert torch.equal(stored.flip(full).words, ~stored.words)
    assert torch.equal(stored.stick(full, 1).words, torch.full_like(stored.words, -1))
    assert torch.equal(stored.stick(full, 0).words, torch.zeros_like(stored.words))


def test_rounding_is_within_half_a_step() -> None:
    tensor = torch.randn(50, 40, generator=Rng.root(2).torch())
    off = (bits.store(tensor, "int8").value() - tensor).abs().max()
    assert 0 < off <= tensor.abs().max() / 127 / 2 * 1.0001
    assert torch.equal(bits.store(tensor, "float32").value(), tensor)
    assert torch.equal(bits.store(torch.zeros(3), "int8").value(), torch.zeros(3))


def test_what_is_drawn_is_distinct_and_named_by_its_seed() -> None:
    places, chosen = bits.draw(20, "float32", "exponent", Rng.root(3), count=160, rate=0)
    assert set(zip(places.tolist(), chosen.tolist(), strict=True)) == {(p, b) for p in range(20) for b in range(23, 31)}
    one, two, other = (bits.draw(500, "int8", "any", Rng.root(s), count=None, rate=0.1)[0] for s in (4, 4, 5))
    assert torch.equal(one, two)
    assert not torch.equal(one, other)
    assert 250 < len(one) < 550  # 400 expected
    with pytest.raises(ValueError, match="no exponent bits"):
        bits.draw(3, "int8", "exponent", Rng.root(1), count=1, rate=0)
    with pytest.raises(ValueError, match="9 bits to strike, but there are 3"):
        bits.draw(3, "int8", "sign", Rng.root(1), count=9, rate=0)

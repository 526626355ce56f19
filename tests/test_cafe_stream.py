"""CAFE sums rounds up: its memory does not grow with them, and what it solves is the least squares over all of them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fedsim.errors import ThreatModelError
from fedsim.models.linear import Linear
from fedsim.scenarios.attacks._disclosed import check_reads_vectors, first_linear, layers_before
from fedsim.scenarios.attacks._invert import Inversion, invert
from fedsim.scenarios.attacks._recover import Recovered, equations, exact, recover
from fedsim.scenarios.attacks._stream import Round, Stream
from fedsim.scenarios.attacks.cafe import Cafe
from fedsim.seeding import Rng
from fedsim.state import pack
from fedsim.threat import Attack, Fact, Knowledge
from fedsim.vfl.messages import Model, ParameterGradient

N, K, D1, D2 = 20, 6, 30, 12


def truth(generator: torch.Generator) -> tuple[Tensor, Tensor]:
    return torch.rand((N, D1), generator=generator), torch.randn((N, D2), generator=generator)


def rounds(count: int, h: Tensor, v: Tensor, generator: torch.Generator) -> list[Round]:
    made = []
    for _ in range(count):
        rows = torch.randperm(N, generator=generator)[:K]
        made.append(Round(rows, v[rows].mean(dim=0), v[rows].T @ h[rows] / K))
    return made


def solved(stream: Stream, made: list[Round]) -> Recovered:
    for each in made:
        stream = stream.add(each)
    return recover(equations(stream.settled()), exact)


@pytest.mark.parametrize("directions", [1, 3, 8, 100])
@pytest.mark.parametrize("memory", [None, 7])
def test_any_number_of_directions_and_any_memory_recover_still_rows_exactly(
    directions: int, memory: int | None
) -> None:
    generator = torch.Generator().manual_seed(1)
    h, v = truth(generator)
    found = solved(Stream(N, directions, memory), rounds(60, h, v, generator))
    assert (found.rank, found.dead) == (N, 0)
    assert float((found.h - h).norm() / h.norm()) < 1e-3
    assert found.residual < 1e-3


def test_with_all_directions_it_is_the_full_least_squares_even_when_no_rows_fit() -> None:
    generator = torch.Generator().manual_seed(2)
    h, v = truth(generator)
    noise = (0.05 * torch.randn(D2, D1, generator=generator) for _ in range(50))
    exactly = rounds(50, h, v, generator)
    made = [Round(r.rows, r.bias, r.weight + off) for r, off in zip(exactly, noise, strict=True)]
    found = solved(Stream(N, D2), made)
    design = torch.zeros(50 * D2, N, dtype=torch.float64)
    for t, each in enumerate(made):
        design[t * D2 : (t + 1) * D2, each.rows] = found.v[each.rows].T / K
    target = torch.cat([r.weight for r in made]).double()
    full = torch.linalg.lstsq(design, target, driver="gelsd").solution
    assert torch.allclose(found.h, full, rtol=1e-4, atol=1e-5)
    assert found.residual == pytest.approx(float((design @ full - target).norm() / target.norm()), rel=1e-3)


def test_a_forgetful_stream_follows_what_changed() -> None:
    generator = torch.Generator().manual_seed(3)
    old, v = truth(generator)
    new = torch.rand((N, D1), generator=generator)
    made = rounds(100, old, v, generator) + rounds(100, new, v, generator)
    off = [float((solved(Stream(N, 8, memory), made).h - new).norm() / new.norm()) for memory in (None, 10)]
    assert off[1] < 0.01 < 0.2 < off[0]


def size(state: Any) -> int:
    return sum(tensor.untyped_storage().nbytes() for tensor in pack(state)[1].values())


def listened(count: int, still: bool) -> int:
    """Bytes in the state after ``count`` rounds, without the granted schedule and the rounds' bias gradients."""
    generator = torch.Generator().manual_seed(4)
    net = Linear().build((D1,), D2)
    parameters = {name: p.detach().clone() for name, p in net.named_parameters()}
    fact = Fact({"model": {"kind": "linear"}, "shape": [D1], "embedding": D2}, parameters)
    batches = {step: torch.randperm(N, generator=generator)[:K].clone() for step in range(count)}
    attack: Attack[Any] = Cafe(recent=5).attack()
    state = attack.init(Knowledge({"rows": batches, "bottom": fact}), Rng.root(1))
    start = size(state)
    for step in range(count):
        grads = {name: torch.randn(p.shape, generator=generator) for name, p in parameters.items()}
        state = attack.observe(ParameterGradient(step, grads), state)
        moved = parameters if still else {name: p + step + 1 for name, p in parameters.items()}
        state = attack.observe(Model(step, {name: p.clone() for name, p in moved.items()}), state)
    streams = (state.stretches.now, state.stretches.still, state.stretches.moving)
    biases = sum(s.biases.nbytes for s in streams if s.biases is not None)
    rows = sum(r.nbytes for s in streams for r in s.rows)
    return size(state) - start - biases - rows


@pytest.mark.parametrize("still", [True, False], ids=["frozen", "training"])
def test_memory_does_not_grow_with_the_rounds_but_for_their_bias_gradients(still: bool) -> None:
    few, many = listened(128, still), listened(128 + 512, still)  # as many of them wait
    assert many <= few
    assert (
        many <= 8 * 8 * N * D1 + 4 * 8 * D2 + 4 * 128 * 8 * D1 + 3 * 4 * (D1 + 1) * D2
    )  # sums, basis, waiting, models


class Twice(nn.Module):
    """A block that is no plain sequence."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        return x + torch.relu(self.inner(x))


def test_the_layer_is_found_in_nested_sequences_with_what_lies_before_it() -> None:
    bottom = nn.Sequential(nn.LayerNorm(3), nn.Sequential(nn.Tanh(), nn.Linear(3, 4)), nn.Linear(4, 2))
    assert first_linear(bottom, "cafe")[0] == "1.1"
    assert "1.1.bias" in dict(bottom.named_parameters())
    x = torch.rand(5, 3)
    assert torch.equal(layers_before(bottom, "1.1")(x), torch.tanh(bottom[0](x)))


@pytest.mark.parametrize(
    ("bottom", "why"),
    [
        (nn.Sequential(nn.Tanh(), Twice(), nn.Linear(3, 2)), r"inside '1' \(Twice\)"),
        (nn.Sequential(nn.LayerNorm(3)), "no layer is one"),
    ],
)
def test_a_bottom_that_it_cannot_read_is_refused_with_the_reason(bottom: nn.Sequential, why: str) -> None:
    with pytest.raises(ThreatModelError, match=why):
        first_linear(bottom, "cafe")


def test_a_layer_that_is_applied_to_many_places_of_a_row_is_refused() -> None:
    with pytest.raises(ThreatModelError, match=r"one vector a row; here, it reads \(4, 3\)"):
        check_reads_vectors(nn.Sequential(nn.Tanh()), (4, 3), "cafe")


def test_behind_layers_that_are_no_images_rows_of_tables_come_back_too() -> None:
    generator = torch.Generator().manual_seed(6)
    before = nn.Sequential(nn.Linear(8, 30), nn.Tanh()).requires_grad_(False)
    x = torch.randn((12, 8), generator=generator)
    h = before(x)
    assert float(h.min()) < 0
    found, residual = invert(before, h, (8,), Inversion(iterations=300), Rng.root(2), lambda done: None)
    assert float(residual.max()) < 1e-6
    assert float((found - x).norm() / x.norm()) < 1e-2

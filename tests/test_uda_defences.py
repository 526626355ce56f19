"""What a learner does against labelled rows that it should not believe: which rows it leaves out, and what that does."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional
from two_domains import build, make_file, run, scores, weights

from fedsim.errors import ConfigError
from fedsim.parties.screening import Screen, Screening

LABELS = torch.tensor([0, 0, 0, 1, 1, 1, 1, -1, -1])
PLACES = torch.tensor(
    [[0.0], [0.1], [0.2], [5.0], [5.1], [5.2], [0.15]]
)  # the seventh is labelled unlike its neighbours


def weighed(screening: Screening, rows: Tensor, logits: Tensor | None = None) -> Tensor:
    logits = torch.zeros(len(rows), 2) if logits is None else logits
    losses = functional.cross_entropy(logits, LABELS[rows], reduction="none")
    return screening.weigh(rows, PLACES[rows], LABELS, logits, losses)


def test_a_row_among_rows_of_another_label_is_left_out_once_these_are_known() -> None:
    screening = Screening(Screen(knn=3), 2)
    assert weighed(screening, torch.tensor([6, 0, 1])).tolist() == [1, 1, 1]  # too few to compare with
    assert weighed(screening, torch.tensor([2, 3, 4, 5])).tolist() == [1, 1, 1, 1]
    assert weighed(screening, torch.tensor([6, 0, 3])).tolist() == [0, 1, 1]
    assert screening.weights[[6, 0, 3]].tolist() == [0, 1, 1]
    assert screening.weights[7:].isnan().all()


def test_no_row_pulls_at_its_logits_by_more_than_the_cap() -> None:
    logits = torch.tensor([[4.0, 0.0], [0.0, 4.0], [0.0, 0.0]], requires_grad=True)
    rows = torch.tensor([0, 1, 2])
    losses = functional.cross_entropy(logits, LABELS[rows], reduction="none")
    found = Screening(Screen(cap=0.3), 2).weigh(rows, PLACES[rows], LABELS, logits, losses)
    (pulls,) = torch.autograd.grad((found * losses).sum(), logits)
    (free,) = torch.autograd.grad(functional.cross_entropy(logits, LABELS[rows], reduction="sum"), logits)
    assert pulls.norm(dim=1)[1:].tolist() == pytest.approx([0.3, 0.3])
    assert torch.equal(pulls[0], free[0])  # it is sure and right, and pulls by less


def test_defences_multiply() -> None:
    logits = torch.tensor([[0.0, 2.0], [0.0, 0.0], [0.0, 0.0], [0.0, 0.0]])
    rows = torch.tensor([0, 1, 2, 3])
    parts = [weighed(Screening(screen, 2), rows, logits) for screen in (Screen(trim=0.25), Screen(cap=0.3))]
    assert parts[0].tolist() == [0, 1, 1, 1]
    assert torch.equal(weighed(Screening(Screen(trim=0.25, cap=0.3), 2), rows, logits), parts[0] * parts[1])


@pytest.mark.parametrize("defence", [{"trim": 0.2}, {"knn": 10}, {"cap": 0.1}])
def test_a_defence_changes_what_is_learned_and_says_at_what_rows_counted(defence: dict[str, float]) -> None:
    seats = {"server": [{"kind": "mislabelled", "base": "target"}]}
    plain, defended = run(seats), run(seats, **defence)
    assert weights(plain) != weights(defended)
    assert 0 < scores(defended)["source_weight"] < 1
    assert 0 <= scores(defended)["entered_weight"] <= 1
    assert "source_weight" not in scores(plain)
    assert "entered_weight" not in scores(run(**defence))


@pytest.mark.parametrize(
    ("defence", "why"),
    [
        ({"knn": 300}, "scenario.knn: 300 nearest of 300 labelled rows; expected fewer than there are"),
        ({"knn": 60, "steps": 1}, "scenario.knn: 60 nearest of 50 labelled rows"),
        ({"trim": 0.009}, "scenario.trim: 0.009 of a batch of 50 rounds to no row"),
    ],
)
def test_a_defence_that_could_never_act_is_refused(defence: dict[str, float], why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        build(make_file(**defence))
    build(make_file(knn=299, trim=0.011))


def test_a_cap_that_no_row_reaches_is_none() -> None:
    assert make_file(cap=1.5).plan()
    plain, capped = run(), run(cap=1.5)
    one, other = (found["a"].tensors for found in (plain, capped))
    assert all(torch.allclose(one[name], other[name], atol=1e-4) for name in one)

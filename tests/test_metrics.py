"""Metrics against direct calls of scikit-learn."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest
import torch
from sklearn import metrics
from torch import Tensor

from fedsim.metrics import auc, classification
from fedsim.seeding import Rng


def guesses(rows: int, classes: int, skill: float = 1.0) -> tuple[Tensor, Tensor]:
    """Probabilities (rows, classes) with some skill, and labels."""
    generator = Rng.root(classes).child("metrics", rows).torch()
    labels = torch.randint(classes, (rows,), generator=generator)
    logits = torch.randn((rows, classes), generator=generator)
    logits[torch.arange(rows), labels] += skill
    return logits.softmax(dim=1), labels


def normalised(p: Tensor) -> npt.NDArray[np.float64]:
    """In float64 and with rows that sum to one there, too."""
    exact: npt.NDArray[np.float64] = p.double().numpy()
    return np.asarray(exact / exact.sum(axis=1, keepdims=True))


def test_binary_metrics_are_scikit_learns() -> None:
    p, y = guesses(200, 2)
    guess, exact = p.argmax(dim=1), normalised(p)
    assert classification(p, y) == pytest.approx(
        {
            "accuracy": metrics.accuracy_score(y, guess),
            "balanced_accuracy": metrics.balanced_accuracy_score(y, guess),
            "macro_f1": metrics.f1_score(y, guess, average="macro"),
            "log_loss": metrics.log_loss(y, exact),
            "roc_auc": metrics.roc_auc_score(y, exact[:, 1]),
        },
        abs=1e-9,
    )


def test_multi_class_metrics_are_scikit_learns() -> None:
    p, y = guesses(300, 5)
    guess, exact = p.argmax(dim=1), normalised(p)
    assert classification(p, y) == pytest.approx(
        {
            "accuracy": metrics.accuracy_score(y, guess),
            "balanced_accuracy": metrics.balanced_accuracy_score(y, guess),
            "macro_f1": metrics.f1_score(y, guess, average="macro"),
            "log_loss": metrics.log_loss(y, exact),
            "roc_auc": metrics.roc_auc_score(y, exact, multi_class="ovr", average="macro"),
        },
        abs=1e-9,
    )


@pytest.mark.parametrize("classes", [2, 4])
def test_a_class_without_held_out_rows_leaves_out_the_auc_and_nothing_else(classes: int) -> None:
    p, y = guesses(150, classes, skill=2.0)
    present = y != classes - 1
    p, y = p[present], y[present]
    guess, exact = p.argmax(dim=1), normalised(p)
    recalls = [float((guess[y == c] == c).double().mean()) for c in range(classes - 1)]
    assert classification(p, y) == pytest.approx(
        {
            "accuracy": metrics.accuracy_score(y, guess),
            "balanced_accuracy": sum(recalls) / len(recalls),
            "macro_f1": metrics.f1_score(y, guess, average="macro", labels=range(classes), zero_division=0),
            "log_loss": metrics.log_loss(y, exact, labels=range(classes)),
        }
    )


def test_a_class_that_nobody_has_and_nobody_guesses_counts_as_zero_in_macro_f1_and_not_in_balanced_accuracy() -> None:
    y = torch.arange(40) % 2
    p = torch.nn.functional.one_hot(y, 3).float() * 0.97 + 0.01
    found = classification(p, y)
    assert found["macro_f1"] == pytest.approx(2 / 3)
    assert found["balanced_accuracy"] == 1.0
    assert "roc_auc" not in found


def test_a_certain_and_right_model_is_perfect_and_a_constant_one_is_at_chance() -> None:
    y = torch.arange(60) % 3
    perfect = classification(torch.nn.functional.one_hot(y, 3).float(), y)
    assert perfect.pop("log_loss") == pytest.approx(0.0, abs=1e-12)
    assert set(perfect.values()) == {1.0}
    constant = classification(torch.full((60, 3), 1 / 3), y)
    assert constant["roc_auc"] == 0.5
    assert constant["log_loss"] == pytest.approx(math.log(3), rel=1e-6)
    assert constant["balanced_accuracy"] == pytest.approx(1 / 3)


def test_auc_is_the_share_of_pairs_in_the_right_order() -> None:
    scores = torch.tensor([0.1, 0.4, 0.35, 0.8, 0.4])
    positive = torch.tensor([False, False, True, True, True])
    pairs = [
        1.0 if p > n else 0.5 if p == n else 0.0 for p in scores[positive].tolist() for n in scores[~positive].tolist()
    ]
    assert auc(positive, scores) == pytest.approx(sum(pairs) / len(pairs))

"""How a victim judges a claim: against its own truth, beside a blind guess on the same rows."""

from __future__ import annotations

import torch
from torch import Tensor

from fedsim.errors import ThreatModelError
from fedsim.metrics import auc, column_errors, identified, psnr, ssim
from fedsim.seeding import Rng
from fedsim.threat import Claim, Judgement

SHOWN = 8
"""Rows that a victim keeps for its own report."""
BLIND_DRAWS = 20


def judge_features(truth: Tensor, claim: Claim, rng: Rng) -> Judgement:
    """Score reconstructed rows; rows that are not claimed count as the mean training row, which is the blind guess.

    Scores: ``psnr``, the mean over all rows, each at most 60 dB; its median; the share of rows above 30 dB; the mean
    ``correlation`` of what is claimed and what is true of a row, beyond the mean row; the mean squared error. The peak is
    the range of the truth, for tables that of each column. A claim of the wrong contrast has a poor PSNR, and yet a person may
    recognise what it shows: the correlation tells, and the rate at which claims are ``identified``, nearer to their own true
    row than to any other training row. Images have an ``ssim`` as well, tables a ``column_error``, mean and worst column.

    Args:
        truth: (N, ...), the training rows.
        claim: about ``features``; what it holds is checked and clipped here, not trusted.
        rng: for random rows, whose level stands beside that of the mean row, and for a random order of the rows, which is
            the blind guess at who is who.
    """
    if claim.about != "features":
        raise ThreatModelError(f"a feature party cannot judge a claim about {claim.about}")
    low, width = _range(truth)
    mean = truth.mean(dim=0, keepdim=True).expand_as(truth)
    guess = mean.clone()
    rows = _checked_rows(claim, len(truth))
    if claim.values.shape != (len(rows), *truth.shape[1:]):
        raise ThreatModelError(f"claim of shape {tuple(claim.values.shape)}, expected {(len(rows), *truth.shape[1:])}")
    values = claim.values.to(truth.dtype)
    guess[rows] = torch.where(values.isfinite(), values, mean[rows]).clamp(low, low + width)
    noise = low + width * torch.rand(truth.shape, generator=rng.torch())
    chance = _feature_scores(truth, mean) | {
        "psnr_random": float(psnr((truth - low) / width, (noise - low) / width).mean()),
        "identified": _blindly_identified(len(truth), rng.child("identity")),
    }
    kept = {"truth": truth[:SHOWN].clone(), "claim": guess[:SHOWN].clone()}
    return Judgement(_feature_scores(truth, guess), chance, kept)


def judge_labels(labels: Tensor, claim: Claim, rng: Rng) -> Judgement:
    """Score inferred labels.

    Scores: ``auc`` of scores for the rarer of two classes, or ``accuracy`` of scores for each class. The blind guess is
    random scores for ``auc`` (the mean of 20 draws, and the best of them), and always the most frequent class for
    ``accuracy``. Rows that are not claimed have the median score or the most frequent class: an attacker cannot shine by
    claiming its surest rows only.

    Args:
        labels: (N,) int64, of the training rows.
        claim: about ``labels``, values (n,) or (n, C).
        rng: for the random scores.

    Raises:
        ThreatModelError: the claim is malformed, or the training rows do not hold every class.
    """
    if claim.about != "labels":
        raise ThreatModelError(f"a label holder cannot judge a claim about {claim.about}")
    rows = _checked_rows(claim, len(labels))
    counts = torch.bincount(labels)
    if len(counts) < 2 or int(counts.min()) == 0:
        raise ThreatModelError("the training rows do not hold every class, so there is little to infer")
    values = torch.nan_to_num(claim.values.double())
    if values.shape not in ((len(rows),), (len(rows), len(counts))) or (values.ndim == 1 and len(counts) != 2):
        raise ThreatModelError(f"scores of shape {tuple(values.shape)} for {len(rows)} rows and {len(counts)} classes")
    if values.ndim == 2:
        guess = torch.full_like(labels, int(counts.argmax()))
        guess[rows] = values.argmax(dim=1)
        hits = float((guess == labels).double().mean())
        return Judgement({"accuracy": hits}, {"accuracy": float(counts.max() / counts.sum())})
    scores = torch.full(labels.shape, float(values.median()), dtype=torch.float64)
    scores[rows] = values
    positive = labels == int(counts.argmin())
    generator = rng.torch()
    blind = [auc(positive, torch.rand(len(labels), generator=generator)) for _ in range(BLIND_DRAWS)]
    return Judgement({"auc": auc(positive, scores)}, {"auc": sum(blind) / len(blind), "auc_at_best": max(blind)})


def _feature_scores(truth: Tensor, guess: Tensor) -> dict[str, float]:
    low, width = _range(truth)
    levels = psnr((truth - low) / width, (guess - low) / width)
    return {
        "psnr": float(levels.mean()),
        "psnr_median": float(levels.median()),
        "share_above_30": float((levels > 30).double().mean()),
        "correlation": _correlation(truth, guess),
        "identified": float(identified(truth, guess).mean()),
        "mse": float((truth.double() - guess.double()).pow(2).mean()),
        **_shape_scores(truth, guess),
    }


def _range(truth: Tensor) -> tuple[Tensor, Tensor]:
    """Lowest value and width of the truth's range; for a table (N, D) those of each column, 1 where it is constant."""
    low, high = (truth.amin(0), truth.amax(0)) if truth.ndim == 2 else (truth.min(), truth.max())
    return low, torch.where(high > low, high - low, torch.ones_like(low))


def _shape_scores(truth: Tensor, guess: Tensor) -> dict[str, float]:
    """What suits images only, or tables only."""
    if truth.ndim == 4 and min(truth.shape[2:]) >= 3:
        peak = float(truth.max() - truth.min())
        return {"ssim": float(ssim(truth, guess, peak).mean())} if peak else {}
    if truth.ndim != 2 or not len(errors := column_errors(truth, guess)):
        return {}
    return {"column_error": float(errors.mean()), "column_error_worst": float(errors.max())}


def _blindly_identified(count: int, rng: Rng) -> float:
    """The rate at which a random order of the rows puts a row in its own place: 1/N in the mean."""
    generator, places = rng.torch(), torch.arange(count)
    draws = [(torch.randperm(count, generator=generator) == places).double().mean() for _ in range(BLIND_DRAWS)]
    return float(torch.stack(draws).mean())


def _correlation(truth: Tensor, guess: Tensor) -> float:
    """The mean over rows of the Pearson correlation of deviations from the mean row; 0 for the mean row itself."""
    mean = truth.double().mean(dim=0, keepdim=True)
    true, claimed = ((rows.double() - mean).flatten(1) for rows in (truth, guess))
    true, claimed = (rows - rows.mean(dim=1, keepdim=True) for rows in (true, claimed))
    lengths = true.norm(dim=1), claimed.norm(dim=1)
    deviates = lengths[1] > 1e-6 * lengths[0]  # what is left of the mean row is rounding
    found = (true * claimed).sum(dim=1) / (lengths[0] * lengths[1]).clamp_min(1e-300)
    return float(torch.where(deviates, found, torch.zeros_like(found)).mean())


def _checked_rows(claim: Claim, count: int) -> Tensor:
    rows = claim.rows
    if rows.ndim != 1 or rows.dtype != torch.int64 or len(rows) == 0 or len(set(rows.tolist())) != len(rows):
        raise ThreatModelError("a claim must name each of its rows once, (n,) int64")
    if int(rows.min()) < 0 or int(rows.max()) >= count:
        raise ThreatModelError(f"a claim names rows outside 0:{count}")
    return rows

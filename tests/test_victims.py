"""Victims judge: perfect, partial, blind and malformed claims."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from fedsim.errors import ThreatModelError
from fedsim.metrics import identified, psnr, ssim
from fedsim.parties.victim import judge_features, judge_labels
from fedsim.seeding import Rng
from fedsim.threat import Claim

RNG = Rng.root(1)
TRUTH = torch.rand((40, 1, 4, 4), generator=RNG.child("truth").torch())
EVERY = torch.arange(40)
LABELS = (torch.arange(200) % 10 == 0).long()


def features(values: Tensor, rows: Tensor = EVERY) -> Claim:
    return Claim(about="features", rows=rows, values=values)


def labels(values: Tensor, rows: Tensor | None = None) -> Claim:
    return Claim(about="labels", rows=torch.arange(len(values)) if rows is None else rows, values=values)


def test_psnr_is_ten_times_the_log_of_the_squared_range_over_the_mean_squared_error() -> None:
    truth, claim = torch.zeros(3, 1, 2, 2), torch.zeros(3, 1, 2, 2)
    claim[0] += 0.1
    claim[1, 0, 0, 0] = 0.5
    found = psnr(truth, claim)
    assert found[0].item() == pytest.approx(20.0, abs=1e-5)
    assert found[1].item() == pytest.approx(-10 * math.log10(0.25 / 4))
    assert found[2].item() == 60.0
    assert psnr(truth, claim, peak=10.0)[0].item() == pytest.approx(40.0, abs=1e-5)
    assert psnr(truth, claim, cap=15.0).tolist() == pytest.approx([15.0, 10 * math.log10(16), 15.0])


def test_a_perfect_claim_scores_the_cap() -> None:
    found = judge_features(TRUTH, features(TRUTH), RNG)
    expected = {"psnr": 60.0, "psnr_median": 60.0, "share_above_30": 1.0, "correlation": 1.0, "mse": 0.0}
    expected |= {"identified": 1.0, "ssim": 1.0}
    assert found.scores == pytest.approx(expected)


def test_correlation_sees_through_contrast_and_is_zero_for_the_mean_row() -> None:
    mean = TRUTH.mean(dim=0, keepdim=True)
    pale = judge_features(TRUTH, features(mean + 0.1 * (TRUTH - mean)), RNG)
    assert pale.scores["correlation"] == pytest.approx(1.0, abs=1e-4)
    assert pale.scores["psnr"] < 20.0
    assert pale.chance["correlation"] == 0.0
    inverted = judge_features(TRUTH, features(mean - 0.1 * (TRUTH - mean)), RNG)
    assert inverted.scores["correlation"] == pytest.approx(-1.0, abs=1e-4)


def test_claiming_the_mean_row_is_the_blind_guess() -> None:
    found = judge_features(TRUTH, features(TRUTH.mean(dim=0, keepdim=True).repeat(40, 1, 1, 1)), RNG)
    chance = {name: found.chance[name] for name in found.scores}
    scores = dict(found.scores)
    assert scores.pop("identified") == pytest.approx(1 / 40)  # a tie with all; the blind guess is drawn
    assert chance.pop("identified") == pytest.approx(
        1 / 40, abs=4 * 0.0056
    )  # 20 orders of 40 rows, four standard errors
    assert scores == chance
    variance = (TRUTH.double() - TRUTH.double().mean(dim=0)).pow(2).mean()
    assert found.chance["mse"] == pytest.approx(float(variance), rel=1e-5)


def test_the_level_of_random_rows_stands_beside_and_is_drawn_from_the_given_node() -> None:
    one, same, other = (
        judge_features(TRUTH, features(TRUTH), rng).chance["psnr_random"] for rng in (RNG, RNG, RNG.child(1))
    )
    assert one == same != other
    assert one == pytest.approx(10 * math.log10(6), abs=0.6)  # two uniform numbers differ by 1/6 in the mean square


def test_rows_that_are_not_claimed_count_as_the_mean_row() -> None:
    half = judge_features(TRUTH, features(TRUTH[:20], EVERY[:20]), RNG)
    rest = judge_features(TRUTH[20:], features(TRUTH.mean(0).expand(20, -1, -1, -1), EVERY[:20]), RNG)
    assert half.scores["share_above_30"] == 0.5
    assert half.scores["mse"] == pytest.approx(rest.scores["mse"] / 2, rel=1e-5)
    assert half.chance["psnr"] < half.scores["psnr"] < 60.0


def test_the_order_of_the_claimed_rows_does_not_matter() -> None:
    order = torch.randperm(40, generator=RNG.child("order").torch())
    assert judge_features(TRUTH, features(TRUTH[order], EVERY[order]), RNG).scores["psnr"] == 60.0
    assert judge_features(TRUTH, features(TRUTH[order], EVERY), RNG).scores["psnr"] < 20.0


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_not_a_number_counts_as_the_mean(value: float) -> None:
    broken = judge_features(TRUTH, features(torch.full_like(TRUTH, value)), RNG)
    assert broken.scores["psnr"] == pytest.approx(broken.chance["psnr"])


def test_values_out_of_range_are_clipped_to_the_range_of_the_truth() -> None:
    wild, clipped = (
        judge_features(TRUTH, features(v), RNG) for v in (TRUTH * 1e20, torch.full_like(TRUTH, float(TRUTH.max())))
    )
    assert wild.scores == clipped.scores
    below = judge_features(TRUTH, features(-TRUTH - 1), RNG)
    assert below.scores == judge_features(TRUTH, features(torch.full_like(TRUTH, float(TRUTH.min()))), RNG).scores


def test_the_peak_is_the_range_of_the_truth() -> None:
    off = 0.01 * torch.sign(TRUTH - 0.5)
    one = judge_features(TRUTH, features(TRUTH - off), RNG).scores["psnr"]
    wide = judge_features(100 * TRUTH - 7, features(100 * (TRUTH - off) - 7), RNG).scores["psnr"]
    assert wide == pytest.approx(one, abs=1e-2)


def test_identity_sees_through_contrast_and_through_order() -> None:
    mean = TRUTH.mean(dim=0, keepdim=True)
    pale = judge_features(TRUTH, features(mean + 0.1 * (TRUTH - mean)), RNG).scores
    assert pale["identified"] == 1.0
    assert judge_features(TRUTH, features(TRUTH.roll(1, dims=0)), RNG).scores["identified"] == 0.0
    half = judge_features(TRUTH, features(TRUTH[:20], EVERY[:20]), RNG).scores["identified"]
    assert half == pytest.approx(0.5 + 0.5 / 40)  # the others are claimed to be the mean row, which ties with all


def test_equal_rows_share_their_identity() -> None:
    twins = torch.cat([TRUTH[:5], TRUTH[:5]])
    assert identified(twins, twins).tolist() == pytest.approx([0.5] * 10)


def test_ssim_is_scikit_images_with_the_widest_window_that_fits() -> None:
    from skimage.metrics import structural_similarity

    noisy = (TRUTH + 0.1 * torch.randn(TRUTH.shape, generator=RNG.child("noise").torch())).clamp(0, 1)
    one = structural_similarity(TRUTH[3, 0].numpy(), noisy[3, 0].numpy(), win_size=3, data_range=1.0)
    assert ssim(TRUTH, noisy)[3].item() == pytest.approx(one, abs=1e-5)
    found = judge_features(TRUTH, features(noisy), RNG)
    assert found.chance["ssim"] < found.scores["ssim"] < 1.0
    wide = torch.rand((2, 3, 14, 14), generator=RNG.child("wide").torch())
    assert ssim(wide, wide).tolist() == [1.0, 1.0]


def test_a_tables_columns_are_measured_by_their_own_spread() -> None:
    table = torch.randn((60, 4), generator=RNG.child("table").torch()) * torch.tensor([1.0, 1e-3, 100.0, 0.0]) + 5.0
    spread = table.std(dim=0, correction=0)
    off = table.clone()
    off[:, 1] += 0.5 * spread[1] * torch.sign(table.mean(dim=0)[1] - table[:, 1])
    found = judge_features(table, Claim(about="features", rows=torch.arange(60), values=off), RNG)
    assert found.scores["column_error"] == pytest.approx(0.5 / 3, rel=1e-3)  # the constant column tells nothing
    assert found.scores["column_error_worst"] == pytest.approx(0.5, rel=1e-3)
    assert found.chance["column_error"] == pytest.approx(1.0, rel=1e-3)
    assert found.chance["column_error_worst"] == pytest.approx(1.0, rel=1e-3)
    assert "ssim" not in found.scores
    assert "column_error" not in judge_features(TRUTH, features(TRUTH), RNG).scores


def test_rows_of_constant_value_or_tiny_images_have_the_scores_that_make_sense() -> None:
    tiny = torch.rand((6, 1, 2, 2), generator=RNG.child("tiny").torch())
    assert "ssim" not in judge_features(tiny, Claim(about="features", rows=torch.arange(6), values=tiny), RNG).scores


def test_800_image_parts_of_less_contrast_are_all_identified() -> None:
    truth = torch.rand((800, 1, 14, 14), generator=RNG.child("many").torch())
    claim = Claim(about="features", rows=torch.arange(800), values=0.9 * truth)
    scores = judge_features(truth, claim, RNG).scores
    assert scores["identified"] == 1.0
    assert scores["correlation"] > 0.95


def test_the_victim_keeps_a_few_rows_of_truth_beside_claim() -> None:
    found = judge_features(TRUTH, features(TRUTH / 2), RNG).exhibits
    assert torch.equal(found["truth"], TRUTH[:8])
    assert torch.equal(found["claim"], (TRUTH / 2)[:8].clamp(TRUTH.min(), TRUTH.max()))


MALFORMED = {
    "two-dimensional rows": (EVERY.view(8, 5), TRUTH),
    "rows of another dtype": (EVERY.int(), TRUTH),
    "a row twice": (torch.tensor([0, 1, 1]), TRUTH[:3]),
    "a row below": (torch.tensor([-1, 1]), TRUTH[:2]),
    "a row beyond": (torch.tensor([1, 40]), TRUTH[:2]),
    "no rows": (EVERY[:0], TRUTH[:0]),
    "fewer values than rows": (EVERY, TRUTH[:3]),
    "flat values": (EVERY, TRUTH.flatten(1)),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_a_malformed_claim_about_features_is_refused(name: str) -> None:
    rows, values = MALFORMED[name]
    with pytest.raises(ThreatModelError, match="claim"):
        judge_features(TRUTH, features(values, rows), RNG)


def test_a_victim_judges_only_what_it_holds() -> None:
    with pytest.raises(ThreatModelError, match="cannot judge a claim about labels"):
        judge_features(TRUTH, labels(TRUTH), RNG)
    with pytest.raises(ThreatModelError, match="cannot judge a claim about features"):
        judge_labels(LABELS, features(LABELS.double(), torch.arange(200)), RNG)


def test_scores_that_rank_the_rarer_class_first_have_auc_one() -> None:
    assert judge_labels(LABELS, labels(LABELS.double()), RNG).scores == {"auc": 1.0}
    assert judge_labels(LABELS, labels(-LABELS.double()), RNG).scores == {"auc": 0.0}
    assert judge_labels(1 - LABELS, labels(LABELS.double()), RNG).scores == {"auc": 1.0}  # now class 0 is the rarer


def test_constant_scores_and_scores_that_are_no_numbers_are_worth_nothing() -> None:
    assert judge_labels(LABELS, labels(torch.ones(200)), RNG).scores["auc"] == 0.5
    assert judge_labels(LABELS, labels(torch.full((200,), math.nan)), RNG).scores["auc"] == 0.5


def test_the_blind_auc_is_measured_and_near_a_half() -> None:
    levels = [judge_labels(LABELS, labels(torch.ones(200)), RNG.child(i)).chance["auc"] for i in range(5)]
    assert all(abs(level - 0.5) < 0.06 for level in levels)  # 20 draws of a standard error of .068 each: 4 errors
    assert len(set(levels)) == 5


def test_rows_that_are_not_claimed_have_the_median_score_so_the_surest_rows_alone_do_not_shine() -> None:
    rare, common = (LABELS == 1).nonzero().flatten(), (LABELS == 0).nonzero().flatten()
    rows = torch.cat([rare[:5], common[:5]])
    found = judge_labels(LABELS, labels(LABELS[rows].double(), rows), RNG)
    claimed_and_rest = found.scores["auc"]
    assert 0.5 < claimed_and_rest < 0.75
    assert judge_labels(LABELS, labels(LABELS.double()), RNG).scores["auc"] == 1.0


def test_scores_for_each_class_are_judged_by_accuracy_beside_the_most_frequent_class() -> None:
    classes = torch.arange(100) % 4
    classes[:10] = 3
    guess = torch.nn.functional.one_hot(classes, 4).double()
    guess[:20] = guess[:20].roll(1, dims=1)
    found = judge_labels(classes, labels(guess), RNG)
    assert found.scores == {"accuracy": 0.8}
    assert found.chance == pytest.approx({"accuracy": float((classes == 3).double().mean())})


def test_a_malformed_claim_about_labels_is_refused() -> None:
    for rows, values in (
        (torch.arange(3), torch.ones(4)),
        (torch.tensor([0, 0]), torch.ones(2)),
        (torch.tensor([0, 200]), torch.ones(2)),
        (torch.arange(3), torch.ones(4, 2)),
        (torch.arange(3), torch.ones(3, 2, 2)),
    ):
        with pytest.raises(ThreatModelError):
            judge_labels(LABELS, labels(values, rows), RNG)


def test_one_score_a_row_cannot_say_which_of_three_classes() -> None:
    with pytest.raises(ThreatModelError, match="3 classes"):
        judge_labels(torch.arange(9) % 3, labels(torch.ones(9)), RNG)


def test_labels_of_one_class_only_cannot_be_inferred() -> None:
    with pytest.raises(ThreatModelError, match="every class"):
        judge_labels(torch.ones(20, dtype=torch.int64), labels(torch.rand(20)), RNG)


def test_scores_for_a_wrong_number_of_classes_are_refused() -> None:
    with pytest.raises(ThreatModelError):
        judge_labels(LABELS, labels(torch.ones(200, 3)), RNG)

"""Two domains over the same parties: what the learners compute, what poison changes and what it leaves alone."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from two_domains import DATA, PARTIES, build, make_file, played, run, scores, weights

from fedsim.config import read, validate
from fedsim.errors import ConfigError, DataError, ThreatModelError
from fedsim.models import ModelConfig
from fedsim.parties.data._pair import Pair, Sizes
from fedsim.parties.labels import LabelHolder
from fedsim.parties.learners import Bench, LearnerConfig
from fedsim.parties.learners.rotation import quarters_of
from fedsim.parties.opening import pools
from fedsim.parties.screening import Screen
from fedsim.plugins import load, names
from fedsim.runtime.local import Local, memory, play_all
from fedsim.seeding import Rng
from fedsim.vfl.optimise import OptimiserConfig
from fedsim.vfl.schedule import Turn

IMAGES = {"a": {"columns": "0:6, 0:12"}, "b": {"columns": "6:12, 0:12"}}
LINEAR = ("models", ModelConfig, {"kind": "linear"})
BOTH = {"a": ["labels", "target_labels"], "b": ["labels", "target_labels"]}


def gaps(one: Tensor, other: Tensor) -> Tensor:
    """Distances, exact where rows are equal."""
    return torch.cdist(one, other, compute_mode="donot_use_mm_for_euclid_dist")


# data


def test_a_split_has_the_source_first_and_as_many_rows_as_it_says() -> None:
    data = load("data", Pair, {**DATA, "target_rows": 120})
    assert data.sizes() == Sizes(300, 120, 100, 100)
    train, test = data.split(Rng.root(1))
    domains = data.is_target()
    assert domains[train].tolist() == [False] * 300 + [True] * 120
    assert domains[test].tolist() == [False] * 100 + [True] * 100
    assert len({*train.tolist(), *test.tolist()}) == 620
    assert np.array_equal(train, data.split(Rng.root(1))[0])
    assert not np.array_equal(train, data.split(Rng.root(2))[0])


def test_the_domains_differ_by_a_turn_and_a_shift_and_by_nothing_else() -> None:
    data = load("data", Pair, {"kind": "domains", "count": 4000, "shift": 2, "angle": 0.5})
    table, labels = data.load()  # type: ignore[attr-defined]
    target = data.is_target()
    for name in table.columns:
        gap = table[name][target].mean() - table[name][~target].mean()
        if name.startswith(("n", "m")):
            assert gap == pytest.approx(2.0 if name.startswith("n") else 0.0, abs=0.1)
    for c in range(5):
        source, turned = (table[["c0", "c1"]][(labels == c) & (target == d)].mean().to_numpy() for d in (False, True))
        angle = np.arctan2(turned[1], turned[0]) - np.arctan2(source[1], source[0])
        if np.linalg.norm(source) > 0.5:
            assert (angle + np.pi) % (2 * np.pi) - np.pi == pytest.approx(0.5, abs=0.15)


def write_images(path: Path, size: int, top: int, kind: type[np.unsignedinteger[Any]], channels: int = 0) -> None:
    rng = np.random.default_rng(size)
    shape = (size, size, channels) if channels else (size, size)
    parts = {"train": 30, "test": 12}
    images = {f"x_{part}": rng.integers(top + 1, size=(n, *shape)).astype(kind) for part, n in parts.items()}
    np.savez(path, **images, **{f"y_{part}": np.arange(n) % 3 for part, n in parts.items()})


def test_two_archives_of_images_are_two_domains_of_one_size(tmp_path: Path) -> None:
    write_images(tmp_path / "s.npz", 12, 255, np.uint8)
    write_images(tmp_path / "t.npz", 8, 2000, np.uint16)
    paths = {"kind": "image_pair", "source": str(tmp_path / "s.npz"), "target": str(tmp_path / "t.npz"), "test": 10}
    data = load("data", Pair, {**paths, "target_scale": 2000, "inner": 8})
    assert data.sizes() == Sizes(30, 30, 10, 10)
    train, test = data.split(Rng.root(1))
    assert train[:30].max() < 30
    assert {*test[:10].tolist()} <= set(range(30, 42))
    assert train[30:].min() >= 42
    assert train[30:].max() < 72 <= test[10:].min()
    images = data.read(data.part("a", {"a": "0:6, 0:12", "b": "6:12, 0:12"}))
    assert images.shape == (84, 1, 6, 12)
    stored = np.load(tmp_path / "t.npz")["x_train"]
    assert np.abs(images[42:72, 0, 2:6, 2:10] - stored[:, :4] / 2000).max() < 0.51 / 255
    assert images[42:, 0, :2].max() == images[42:, 0, :, :2].max() == 0
    found = run(data={**paths, "target_scale": 2000, "inner": 8}, parties=IMAGES, batch=10)
    assert 0 <= scores(found)["source_accuracy"] <= 1


def test_a_larger_target_in_colour_is_cropped_and_the_source_gets_its_channels(tmp_path: Path) -> None:
    write_images(tmp_path / "s.npz", 12, 255, np.uint8)
    write_images(tmp_path / "t.npz", 16, 255, np.uint8, channels=3)
    paths = {"kind": "image_pair", "source": str(tmp_path / "s.npz"), "target": str(tmp_path / "t.npz")}
    images = load("data", Pair, paths).load()[0]  # type: ignore[attr-defined]
    assert images.shape == (84, 3, 12, 12)
    assert (images[:42, 0] == images[:42, 2]).all()
    assert (images[42:72].transpose(0, 2, 3, 1) == np.load(tmp_path / "t.npz")["x_train"][:, 2:14, 2:14]).all()
    with pytest.raises(DataError, match="smaller than 16 x 16; set inner"):
        load("data", Pair, {**paths, "source": paths["target"], "target": paths["source"]}).count()
    with pytest.raises(DataError, match="inner: 20 pixels do not fit into images of 12 x 12"):
        load("data", Pair, {**paths, "inner": 20}).count()
    np.savez(tmp_path / "u.npz", x_train=np.zeros((2, 4, 4)))
    with pytest.raises(DataError, match="has no array 'x_test'; expected x_train"):
        load("data", Pair, {**paths, "target": str(tmp_path / "u.npz")}).count()


def test_more_rows_than_a_domain_has_are_refused() -> None:
    with pytest.raises(
        DataError, match="350 training and 100 held-out rows are asked of the source domain, which has 400"
    ):
        load("data", Pair, {**DATA, "rows": 350}).sizes()
    with pytest.raises(ConfigError, match="only 40 training rows in one of its domains"):
        build(make_file(data={**DATA, "target_rows": 40}))


# the exchange


def test_a_batch_has_rows_of_both_domains_each_once_an_epoch() -> None:
    party = build(make_file(steps=6))["a"]
    turns = [turn for turn in party.schedule.turns() if turn.purpose == "train"]
    assert all(len(turn.rows) == 100 for turn in turns)
    rows = torch.cat([turn.rows for turn in turns])
    assert sorted(rows.tolist()) == list(range(600))
    assert all(int((turn.rows < 300).sum()) == 50 for turn in turns)


def test_the_learner_has_no_label_of_the_target() -> None:
    hub = build(make_file())["server"]
    assert isinstance(hub, LabelHolder)
    assert (hub.top.labels[:300] >= 0).all()
    assert (hub.top.labels[300:] == -1).all()


def test_dann_over_the_federation_is_dann_over_the_joint_network() -> None:
    """Ganin et al. with torch's own modules, autograd and Adam, on the batches of the federation."""
    file = make_file(steps=8, evaluate=8)
    roles, reports = build(file), run(steps=8, evaluate=8)
    hub, bottoms = roles["server"], [roles[p].bottom for p in ("a", "b")]
    head, discriminator = hub.top.network.module, hub.top.discriminator.part.network.module
    features = nn.ModuleList([bottom.network.module for bottom in bottoms])
    adam = torch.optim.Adam([*features.parameters(), *head.parameters()], lr=0.002, betas=(0.5, 0.999))
    against = torch.optim.Adam(discriminator.parameters(), lr=0.002, betas=(0.5, 0.999))
    losses = []
    schedule = hub.schedule
    for turn in (turn for turn in schedule.turns() if turn.purpose == "train"):
        z = torch.cat([net(b.features["train"][turn.rows]) for net, b in zip(features, bottoms, strict=True)], dim=1)
        labels = hub.top.labels[turn.rows]
        source, domains = labels >= 0, (labels < 0).long()
        against.zero_grad()
        functional.cross_entropy(discriminator(z.detach()), domains).backward()
        against.step()
        adam.zero_grad()
        labelling = functional.cross_entropy(head(z[source]), labels[source])
        (labelling + functional.cross_entropy(discriminator(z), 1 - domains)).backward()
        adam.step()
        losses.append(labelling.item())
    assert [row["loss"] for row in reports["server"].rows if "loss" in row] == pytest.approx(losses, rel=1e-4)
    for party, bottom in zip(("a", "b"), bottoms, strict=True):
        for name, tensor in bottom.network.parameters.items():
            assert torch.allclose(reports[party].tensors[name], tensor, atol=1e-5)


def test_without_weight_dann_is_source_only() -> None:
    plain = run(learner={"kind": "source_only"})
    assert weights(run(learner={"kind": "dann", "weight": 0})) == weights(plain)
    assert weights(run()) != weights(plain)


@pytest.mark.parametrize("kind", names("learners"))
def test_a_learner_answers_each_exchange_with_gradients_and_predicts(kind: str) -> None:
    config = load("learners", LearnerConfig, {"kind": kind})
    labels = torch.tensor([0, 1, 2, 0, 1, 2, -1, -1, -1, -1])
    found = []
    for _ in range(2):
        head = load("models", ModelConfig, {"kind": "linear"})
        learner = config.build(Bench(head, 5, 3, labels, OptimiserConfig(), 0.0, Screen(), Rng.root(4), Rng.root(1)))
        z = torch.randn(10, 5, generator=Rng.root(2).torch())
        for phase in range(config.exchanges):
            turn = Turn(phase, 0, "train", torch.arange(10), phase=phase)
            given = learner.step(turn, {"a": z[:, :2], "b": z[:, 2:]})
            assert [g.shape for g in given.values()] == [(10, 2), (10, 3)]
            found.append(torch.cat(list(given.values()), dim=1))
        p = learner.predict({"a": z[:, :2], "b": z[:, 2:]})
        assert torch.allclose(p.sum(dim=1), torch.ones(10))
        found.append(p)
    half = len(found) // 2
    assert all(torch.equal(one, other) for one, other in zip(found[:half], found[half:], strict=True))
    moves_target = any(g[6:].abs().max() > 0 for g in found[: half - 1])
    assert moves_target == (kind != "source_only")


def test_trimmed_rows_are_those_of_largest_loss_and_send_no_gradient() -> None:
    config, head = (load(*each) for each in (("learners", LearnerConfig, {"kind": "source_only"}), LINEAR))
    labels = torch.tensor([0, 1, 2] * 4)
    z, turn = torch.randn(12, 5, generator=Rng.root(2).torch()), Turn(0, 0, "train", torch.arange(12))
    learners = [
        config.build(Bench(head, 5, 3, labels, OptimiserConfig(), 0.0, Screen(trim), Rng.root(4), Rng.root(1)))
        for trim in (0.0, 0.25)
    ]
    losses = functional.cross_entropy(learners[0].network.module(z), labels, reduction="none")
    plain, trimmed = (learner.step(turn, {"a": z})["a"] for learner in learners)
    left_out = losses.topk(3).indices.tolist()
    assert [i for i, g in enumerate(trimmed) if not g.any()] == sorted(left_out)
    kept = [i for i in range(12) if i not in left_out]
    assert torch.allclose(trimmed[kept], plain[kept] * 12 / 9, atol=1e-6)


def test_a_learner_with_several_exchanges_costs_as_many_round_trips() -> None:
    for repeats in (1, 3):
        found = run(learner={"kind": "mcd", "repeats": repeats}, steps=4, evaluate=4)
        assert found["server"].traffic.frames["a", "Gradient"] == 4 * (1 + repeats)
        assert [row["step"] for row in found["server"].rows if "loss" in row] == [0, 1, 2, 3]


def test_rotation_turns_each_square_slice_in_place_and_the_hub_knows_how_far() -> None:
    config = load("learners", LearnerConfig, {"kind": "rotation"})
    rows = torch.arange(6 * 9.0).view(6, 1, 3, 3)
    rng, turn = Rng.root(5), Turn(1, 0, "train", torch.arange(6), phase=1)
    turned, quarters = config.pretext(rows, turn, rng), quarters_of(turn, rng)
    assert {*quarters.tolist()} <= {0, 1, 2, 3}
    assert len({*quarters.tolist()}) > 1
    for before, after, quarter in zip(rows, turned, quarters.tolist(), strict=True):
        assert torch.equal(after[0], torch.from_numpy(np.rot90(before[0].numpy(), quarter).copy()))
    assert config.pretext(rows, replace(turn, phase=0), rng) is rows
    assert config.pretext(rows, replace(turn, purpose="evaluate"), rng) is rows
    with pytest.raises(ConfigError, match="learner rotation: a slice must be a square of pixels; found rows of shape"):
        run(learner={"kind": "rotation"})


def test_rotation_is_learned_over_quadrants(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    ramp = np.linspace(0, 255, 8)[:, None] * np.ones((8, 8))  # dark above, light below: the turn of a row can be told
    images = (ramp + rng.normal(0, 10, (300, 8, 8))).clip(0, 255).astype(np.uint8)
    y = np.arange(300) % 3
    np.savez(tmp_path / "x.npz", x_train=images[:200], x_test=images[200:], y_train=y[:200], y_test=y[200:])
    path = str(tmp_path / "x.npz")
    file = make_file(
        learner={"kind": "rotation"},
        data={"kind": "image_pair", "source": path, "target": path, "test": 50},
        parties={f"q{i}": {"columns": f"{r}:{r + 4}, {c}:{c + 4}"} for i, (r, c) in enumerate(product((0, 4), (0, 4)))},
        steps=60,
    )
    roles, plan = build(file), file.plan()
    built = {
        role: replace(seat, build=lambda public, private, role=role: roles[role]) for role, seat in plan.seats.items()
    }
    asyncio.run(play_all(file, memory(plan), plan=replace(plan, seats=built)))
    assert roles["server"].top.pretext_loss < 0.3  # nats; a guess costs log 4 = 1.39


# poison


def test_all_parties_in_the_plot_are_the_label_holder_alone() -> None:
    """With alpha 1 everywhere, what is entered is the target record, which every party holds anyway."""
    alone = run({"server": [{"kind": "mislabelled", "base": "target"}]})
    plot = [{"kind": "mislabelled", "plotters": ["a", "b"]}]
    watermark = [{"kind": "watermark", "alpha": 1.0}]
    together = run({"server": plot, "a": watermark, "b": watermark})
    assert weights(together) == weights(alone)
    assert weights(alone) != weights(run())


def test_alpha_0_is_a_mislabelled_source_record() -> None:
    alone = run({"server": [{"kind": "mislabelled", "base": "source"}]})
    plot = [{"kind": "mislabelled", "plotters": ["b"], "candidates": 1}]
    together = run({"server": plot, "b": [{"kind": "watermark", "alpha": 0.0}]})
    assert weights(together) == weights(alone)


def test_a_watermark_is_a_blend_in_the_slices_of_the_plot_and_the_source_record_elsewhere() -> None:
    plot = [{"kind": "mislabelled", "plotters": ["a"], "rate": 0.1}]
    hub, parties, before = played({"server": plot, "a": [{"kind": "watermark", "alpha": 0.3}]})
    assert len(hub.top.labels) == 630
    for party in PARTIES:
        after = parties[party].bottom.features["train"]
        assert torch.equal(after[:600], before[party])
        nearest = gaps(after[600:], before[party][:300]).amin(dim=1)
        assert (nearest == 0).all() == (party == "b")
    a, b = (before[party] for party in PARTIES)
    twins = gaps(parties["b"].bottom.features["train"][600:], b[:300]).argmin(dim=1)
    target = (parties["a"].bottom.features["train"][600:] - 0.7 * a[twins]) / 0.3
    off, found = gaps(target, a[300:]).min(dim=1)
    assert off.max() < 1e-4
    truth = build(make_file())["server"].prologue.truths
    assert torch.equal(hub.top.labels[600:], (truth["target_labels"][found] + 1) % 5)
    assert torch.equal(truth["labels"][twins], truth["target_labels"][found])


def test_the_plot_seeks_the_nearest_twin_in_its_own_slices() -> None:
    plot = [{"kind": "mislabelled", "plotters": ["a"], "rate": 0.1}]
    seats = {"server": plot, "a": [{"kind": "watermark", "alpha": 0.0}]}
    _, parties, before = played(seats)
    near = parties["a"].bottom.features["train"][600:]
    _, parties, _ = played({**seats, "server": [{**plot[0], "candidates": 1}]})
    drawn = parties["a"].bottom.features["train"][600:]
    rows = before["a"][300:]
    assert gaps(near, rows).amin(dim=1).mean() < gaps(drawn, rows).amin(dim=1).mean()


def test_a_poisoned_slice_touches_no_label_and_no_other_slice() -> None:
    hub, parties, before = played({"a": [{"kind": "poisoned_slice"}]}, grants=BOTH)
    truth = hub.prologue.truths  # type: ignore[union-attr]
    assert torch.equal(hub.top.labels[:300], truth["labels"])
    assert torch.equal(parties["b"].bottom.features["train"], before["b"])
    after = parties["a"].bottom.features["train"]
    altered = (after != before["a"]).any(dim=1).nonzero().flatten()
    assert 25 <= len(altered) <= 30
    assert int(altered.max()) < 300
    off, taken = gaps(after[altered], before["a"][300:]).min(dim=1)
    assert off.max() == 0
    assert torch.equal(truth["labels"][altered], (truth["target_labels"][taken] + 1) % 5)


def test_parties_of_one_plot_poison_the_same_records() -> None:
    def altered(**b: Any) -> dict[str, list[int]]:
        seats = {"a": [{"kind": "poisoned_slice"}], "b": [{"kind": "poisoned_slice", **b}]}
        _, parties, before = played(seats, grants=BOTH)
        changed = {p: (parties[p].bottom.features["train"] != before[p]).any(dim=1) for p in PARTIES}
        return {p: rows.nonzero().flatten().tolist() for p, rows in changed.items()}

    same, other = altered(), altered(plot=1)
    assert same["a"] == same["b"]
    assert other["a"] != other["b"]


def test_what_is_not_granted_is_not_known() -> None:
    poison = {"server": [{"kind": "mislabelled"}]}
    needs = "seats.server.0: mislabelled: needs to know target_labels or pseudo_labels; scenario.grants tells server"
    with pytest.raises(ThreatModelError, match=f"{needs} nothing"):
        make_file(poison, grants={}).plan()
    needs = "seats.a.0: poisoned_slice: needs to know labels; scenario.grants tells a target_labels"
    with pytest.raises(ThreatModelError, match=needs):
        make_file({"a": [{"kind": "poisoned_slice"}]}, grants={"a": ["target_labels"]}).plan()
    around = run(poison)["server"].describe["around"][0]
    assert around["knowledge"] == {"granted": ["target_labels"], "used": ["target_labels"]}
    assert around["numbers"] == {"records entered": 30, "parties in the plot": 0}
    with pytest.raises(ConfigError, match=r"scenario.grants: no seat 'c'"):
        make_file(grants={"c": ["labels"]}).plan()


def test_what_is_granted_to_a_party_travels_as_a_message() -> None:
    frames = run(grants={"b": ["target_labels"]})["server"].traffic.frames
    assert (frames["b", "Granted"], frames["a", "Granted"]) == (1, 0)


def test_poison_is_refused_where_it_has_no_place() -> None:
    with pytest.raises(ThreatModelError, match=r"seats.a.0: mislabelled: expected the label holder, server; found a"):
        make_file({"a": [{"kind": "mislabelled"}]}).plan()
    with pytest.raises(ThreatModelError, match="watermark: expected a party with features, found the label holder"):
        make_file({"server": [{"kind": "watermark"}]}).plan()
    single = {"kind": "baseline", "data": {"kind": "sklearn", "name": "wine"}, "parties": {"a": {"columns": "*"}}}
    file = validate({"scenario": single, "seats": {"a": [{"kind": "poisoned_slice"}]}}, "test", {})
    with pytest.raises(ThreatModelError, match="poisoned_slice: expected a federation over two domains"):
        Local().run(file, lambda role, row: None)


def test_entered_rows_befall_what_is_around_the_seat_too() -> None:
    poison = {"server": [{"kind": "mislabelled", "base": "target"}]}
    found = run({**poison, "a": [{"kind": "shifted", "at": 0}]})
    assert weights(found) != weights(run(poison))
    assert found["a"].describe["around"][0]["numbers"]["rows that differ"] == 630 + 200


def test_pools_hold_every_row_once() -> None:
    labelled, unlabelled = pools(Sizes(5, 3, 1, 1), 2)
    assert [list(each) for each in labelled] == [[0, 1, 2, 3, 4], [8, 9]]
    assert [list(each) for each in unlabelled] == [[5, 6, 7]]


# what comes of it


def test_a_tenth_of_mislabelled_target_records_turns_adaptation_against_the_target() -> None:
    found = {}
    for name, arm in read("uda_poisoning").arms().items():
        found[name] = scores({report.role: report for report in Local().run(arm, lambda role, row: None)})
    assert found["clean"]["accuracy"] > 0.95
    assert found["mislabelled target"]["accuracy"] < 0.10
    assert found["mislabelled target"]["poison_label"] > 0.8
    assert found["mislabelled source"]["accuracy"] > 0.85
    assert all(score["source_accuracy"] > 0.95 for score in found.values())
    assert found["mislabelled target"]["lower_bound"] > 0.5  # of an error of .99
    assert found["clean"]["lower_bound"] == found["mislabelled source"]["lower_bound"] == 0

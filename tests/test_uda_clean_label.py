"""Poison under true labels against one record, and what an attacker works out when it is told no label of the target."""

from __future__ import annotations

import pytest
import torch
from two_domains import DATA, PARTIES, make_file, played, run, scores, weights

from fedsim.errors import ConfigError, ThreatModelError
from fedsim.parties.opening import Opening
from fedsim.parties.rehearsal import Rehearsal
from fedsim.parties.wrappers._crew import Crew
from fedsim.seeding import Rng

TWO = {**DATA, "classes": 2}
COLLISION = {"kind": "feature_collision", "plotters": ["a", "b"], "rounds": 3, "moves": 5, "models": 2}
CRAFTED = {"a": [{"kind": "crafted_slice"}], "b": [{"kind": "crafted_slice"}]}
GRANTS = {"server": ["slices", "target_labels"]}


def test_what_is_entered_has_its_true_label_and_is_moved_within_reach() -> None:
    seats = {"server": [{**COLLISION, "reach": 0.2, "watermark": 0.0, "rate": 0.05}], **CRAFTED}
    hub, parties, before = played(seats, data=TWO, grants=GRANTS, steps=12)
    truth = hub.prologue.truths["target_labels"]  # type: ignore[union-attr]
    rows = {party: parties[party].bottom.features["train"] for party in PARTIES}
    assert len(hub.top.labels) == len(rows["a"]) == 615
    joined, bases = (torch.cat([each[p] for p in PARTIES], dim=1) for each in (rows, before))
    # the base of each entered record is the one target record that it is within reach of in every value
    within = ((joined[600:, None] - bases[None, 300:]).abs() <= 0.2 + 1e-5).all(dim=2)
    assert (within.sum(dim=1) >= 1).all()
    for entered, label in zip(within, hub.top.labels[600:], strict=True):
        assert set(truth[entered].tolist()) == {int(label)}
    assert (joined[600:, None] != bases[None, 300:]).any(dim=2).all()
    assert torch.equal(joined[:600], bases)


def test_records_move_towards_where_the_models_embed_the_victim() -> None:
    more = {"rounds": 4, "moves": 20, "lr": 0.05, "reach": 2.0, "weight": 0.0}
    hub = run({"server": [{**COLLISION, **more}], **CRAFTED}, data=TWO, grants=GRANTS, steps=80, evaluate=80)["server"]
    numbers = hub.describe["around"][0]["numbers"]
    assert numbers["collision, last round"] < 0.3 * numbers["collision, first round"]


@pytest.mark.parametrize(("watermark", "taken"), [(1.0, 1.0), (0.0, 0.0)])
def test_copies_of_the_victim_under_another_label_are_believed(watermark: float, taken: float) -> None:
    """What any such attack can come to at best, and what records that nobody moved come to."""
    poison = {**COLLISION, "watermark": watermark, "reach": 0.0, "rounds": 1}
    found = run({"server": [poison], **CRAFTED}, data=TWO, grants=GRANTS, steps=150, evaluate=150)
    assert scores(found)["victim_taken"] == taken
    assert scores(found)["accuracy"] > 0.9


def test_slices_are_told_by_message_and_to_the_label_holder_alone() -> None:
    found = run({"server": [COLLISION], **CRAFTED}, data=TWO, grants=GRANTS)
    assert {p: found[p].traffic.frames["server", "Slice"] for p in PARTIES} == {"a": 1, "b": 1}
    assert {p: found["server"].traffic.frames[p, "Crafted"] for p in PARTIES} == {"a": 1, "b": 1}
    around = found["server"].describe["around"][0]
    assert around["knowledge"] == {"granted": ["slices", "target_labels"], "used": ["slices", "target_labels"]}
    assert "Slice" not in {kind for _, kind in run()["a"].traffic.frames}
    with pytest.raises(ThreatModelError, match=r"needs to know slices; scenario.grants tells server target_labels"):
        run({"server": [COLLISION], **CRAFTED}, data=TWO)
    with pytest.raises(ConfigError, match="slices can be granted to server only; found a"):
        make_file(grants={"a": ["slices"]}).plan()
    with pytest.raises(ConfigError, match="victim: 100 is asked of 100 held-out target rows"):
        run({"server": [{**COLLISION, "victim": 100}], **CRAFTED}, data=TWO, grants=GRANTS)


def test_a_source_base_needs_no_label_of_the_target() -> None:
    seats = {"server": [{**COLLISION, "base": "source"}], **CRAFTED}
    around = run(seats, data=TWO, grants={"server": ["slices"]})["server"].describe["around"][0]
    assert around["knowledge"]["used"] == ["slices"]


def test_pseudo_labels_are_those_of_a_rehearsal_and_do_where_true_ones_are_not_granted() -> None:
    poison = {"server": [{"kind": "mislabelled", "base": "target", "rate": 0.5}]}
    told, _, _ = played(poison, grants={"server": ["pseudo_labels"]}, steps=120, evaluate=120)
    knows, _, _ = played(poison, steps=120, evaluate=120)  # the same records, under the true class plus one
    right = (told.top.labels[600:] == knows.top.labels[600:]).double().mean()
    assert 0.8 < right < 1
    used = run(poison, grants={"server": ["pseudo_labels"]})["server"].describe["around"][0]["knowledge"]["used"]
    assert used == ["pseudo_labels"]


def test_true_labels_go_before_pseudo_labels() -> None:
    poison = {"server": [{"kind": "mislabelled", "base": "target"}]}
    both = {"server": ["pseudo_labels", "target_labels"]}
    assert weights(run(poison, grants=both)) == weights(run(poison))


def test_a_party_alone_makes_do_with_pseudo_labels() -> None:
    found = run({"a": [{"kind": "poisoned_slice"}]}, grants={"a": ["labels", "pseudo_labels"]})
    assert found["server"].traffic.frames["a", "Granted"] == 2
    assert found["a"].describe["around"][0]["knowledge"]["used"] == ["labels", "pseudo_labels"]


def test_rehearsals_of_a_crew_are_of_ages_spread_over_the_training_and_begin_anew() -> None:
    hub, _, before = played({}, steps=12, evaluate=12)
    opening = hub.prologue
    assert isinstance(opening, Opening)
    crew = Crew(opening.rehearse, before, hub.top.labels, 3, Rng.root(1))
    left: list[list[int]] = []
    for _ in range(3):
        left.append([member.steps for member in crew.members])
        crew.train(before, 4)
    assert left == [[12, 8, 4], [8, 4, 12], [4, 12, 8]]
    assert all(isinstance(member, Rehearsal) for member in crew.members)

"""Nobody can compute a seat's noise who has not drawn it: not from other runs, variants, seats or steps, nor from the seed."""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import json
import math
import shutil
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

import fedsim.scenarios.defences
from fedsim.config import ScenarioFile, read, validate
from fedsim.errors import ConfigError
from fedsim.message import Message, RoleId, tensors_of
from fedsim.outcome import SeatReport, to_bytes
from fedsim.plan import Secrets
from fedsim.play import play
from fedsim.report import manifest, words
from fedsim.runtime._mail import find_belongings, is_simulated
from fedsim.runtime._seat import Belongings
from fedsim.runtime.local import memory
from fedsim.seeding import Rng, SeatRoot, derive_root, simulate_root, simulated_secret
from fedsim.state import digest, pack, unpack
from fedsim.supervision import keeping
from fedsim.testing.runtimes import _check_equal
from fedsim.transport.wrappers import Record
from fedsim.vfl.messages import Embedding
from fedsim.wire import decode

SEED, SIGMA = 5, 25.0
SECRET = b"a secret that an operator gave to both parties"
TO_SERVER = {"from": "*", "to": "server", "message": "Embedding"}
SCENARIO = {
    "kind": "leakage",
    "data": {"kind": "synthetic", "count": 150, "features": 8, "informative": 6},
    "parties": {"a": {"columns": "0:4"}, "b": {"columns": "4:8"}},
    "bottom": {"kind": "mlp", "hidden": [8], "dropout": 0.2},
    "embedding": 16,
    "batch": 60,
    "steps": 4,
    "evaluate": 4,
}
BOUND = 0.25
"""A correlation that independent draws of 960 numbers and more do not reach: eight standard errors."""
REMEMBER = """
from fedsim.channel import tap
from fedsim.threat import Defence

CLEAN = []


class Remember(Defence):
    '''Keep what a seat sends, before noise is added to it.'''

    seat: str = ""

    def stage(self):
        return tap(lambda rng: 0, lambda message, state: CLEAN.append((self.seat, message)) or state)
"""


@dataclass
class Sent:
    """What parties sent in one run: by seat and step the clean tensor, and what left."""

    clean: dict[tuple[RoleId, int], Tensor] = field(default_factory=dict)
    left: dict[tuple[RoleId, int], Tensor] = field(default_factory=dict)

    def noise(self, sigma: float = SIGMA) -> dict[tuple[RoleId, int], Tensor]:
        """The noise of each message, in standard deviations."""
        return {key: (left - self.clean[key]) / sigma for key, left in self.left.items()}


class OldSecrets(Secrets):
    """The scheme of old: a secret gives the same root in every run, of every variant, at every seat."""

    def root(self, file_digest: str, seed: int, role: RoleId, fresh: bytes | None = None) -> SeatRoot:
        assert self.own is not None
        return SeatRoot(Rng.secret(self.own), "old")


def make_file(sigma: float = SIGMA, seed: int = SEED, **more: Any) -> ScenarioFile:
    before = [{"from": seat, "to": "server", "sender": [{"kind": "remember", "seat": seat}]} for seat in ("a", "b")]
    links = [*before, {**TO_SERVER, "sender": [{"kind": "gaussian_noise", "sigma": sigma}]}]
    return validate({"name": "noise", "seed": seed, "scenario": SCENARIO, "links": links, **more}, "noise", {})


def play_all(file: ScenarioFile, secrets: Mapping[RoleId, Secrets], **watched: Any) -> dict[RoleId, SeatReport]:
    return play_over(file, memory(file.plan()), secrets, **watched)


def play_over(
    file: ScenarioFile, ways: Mapping[RoleId, Any], secrets: Mapping[RoleId, Secrets], **watched: Any
) -> dict[RoleId, SeatReport]:
    async def everyone() -> list[SeatReport]:
        tasks = [
            asyncio.create_task(play(file, role, way, secrets=secrets.get(role, Secrets()), **watched))
            for role, way in ways.items()
        ]
        try:
            return list(await asyncio.gather(*tasks))
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    return {report.role: report for report in asyncio.run(everyone())}


@pytest.fixture(autouse=True)
def _remember(add_kind: Callable[[Any, str, str], str]) -> None:
    add_kind(fedsim.scenarios.defences, "remember", REMEMBER)


def listen(file: ScenarioFile, secrets: Secrets) -> Sent:
    """Play with the same secrets at every seat; what each party had in training, and what the hub got of it."""
    from fedsim.scenarios.defences import remember  # type: ignore[attr-defined]

    remember.CLEAN.clear()
    inner = memory(file.plan())
    record = Record(inner["server"])
    play_over(file, {**inner, "server": record}, dict.fromkeys(inner, secrets))
    messages = [(seat, decode(frame).message) for seat, frame in record.received]
    sent = Sent(_embeddings(remember.CLEAN), _embeddings(messages))
    assert sent.clean.keys() == sent.left.keys()
    assert len(sent.left) == 2 * SCENARIO["steps"]
    return sent


def _embeddings(messages: Iterable[tuple[RoleId, Message]]) -> dict[tuple[RoleId, int], Tensor]:
    return {
        (seat, m.step): tensors_of(m)["z"].detach().flatten().double()
        for seat, m in messages
        if m.kind() == "Embedding" and m.purpose == "train"
    }


Noises = Mapping[Any, Tensor]


def find_repeated(noises: Noises) -> list[tuple[Any, Any]]:
    """The pairs of noises that say something about each other: correlated, or nearer than independent ones are."""
    found = []
    for (one, x), (other, y) in itertools.combinations(noises.items(), 2):
        size = min(len(x), len(y))
        x, y = x[:size], y[:size]
        correlation = float(torch.corrcoef(torch.stack([x, y]))[0, 1])
        residual = min(float((x - y).norm()), float((x + y).norm())) / math.sqrt(2 * size)
        if abs(correlation) > BOUND or residual < 1 - BOUND:
            found.append((one, other))
    return found


def foretell(role: RoleId, step: int, root: Rng, like: Tensor) -> Tensor:
    """What the noise of a message would be, drawn from this root."""
    stage = make_file().plan().links[2].sender[0].stage()
    node = root.child("stage", "server", 2, 0)
    drawn, _ = stage.apply(Embedding(step, torch.zeros(60, 16)), stage.init(node))
    return tensors_of(drawn)["z"].flatten().double()[: len(like)] / SIGMA


def gather(secrets: Secrets) -> dict[str, dict[tuple[RoleId, int], Tensor]]:
    """The noise of two runs of a variant, and of one of another variant."""
    return {
        "run 1": listen(make_file(), secrets).noise(),
        "run 2": listen(make_file(), secrets).noise(),
        "variant": listen(make_file(2 * SIGMA), secrets).noise(2 * SIGMA),
    }


def flat(runs: Mapping[str, Noises]) -> dict[Any, Tensor]:
    return {(run, *key): noise for run, noises in runs.items() for key, noise in noises.items()}


def test_no_noise_repeats_between_runs_variants_seats_and_steps_nor_follows_from_the_seed() -> None:
    noises = flat(gather(Secrets(SECRET, b"ids")))
    assert len(noises) == 3 * 2 * 4
    for noise in noises.values():
        assert 0.9 < float(noise.std()) < 1.1
    assert find_repeated(noises) == []
    digests = {sigma: make_file(sigma).digest() for sigma in (SIGMA, 2 * SIGMA)}
    for role, step in itertools.product(("a", "b"), range(4)):
        known = [simulate_root(SEED, other).rng for other in ("a", "b", "server")]
        known += [Rng.root(SEED), Rng.secret(SECRET), Rng.secret(str(SEED).encode())]
        known += [derive_root(SECRET, digest, role, b"guessed").rng for digest in digests.values()]
        for i, root in enumerate(known):
            guess = {"guess": foretell(role, step, root, noises["run 1", role, step])}
            mine = {key: noise for key, noise in noises.items() if key[1:] == (role, step)}
            assert [pair for pair in find_repeated({**guess, **mine}) if "guess" in pair] == [], (role, step, i)


def test_the_search_finds_that_noise_repeated_with_a_root_that_is_the_secrets_alone() -> None:
    """The control: what the search above finds where a secret gives the same root to every run, variant and seat."""
    runs = gather(OldSecrets(SECRET, b"ids"))
    found = {frozenset(pair) for pair in find_repeated(flat(runs))}
    for step in range(4):
        one = ("run 1", "a", step)
        for other in (("run 2", "a", step), ("variant", "a", step), ("run 1", "b", step)):
            assert frozenset((one, other)) in found
        guess = foretell("a", step, Rng.secret(SECRET), runs["run 1"]["a", step])
        assert find_repeated({"guess": guess, "run": runs["run 1"]["a", step]}) == [("guess", "run")]
    assert not any(one[2] != other[2] for one, other in map(tuple, found))


def test_the_search_finds_what_the_public_seed_tells_of_a_simulation() -> None:
    """The control: a seat without a secret, as the search above would see it."""
    noise = listen(make_file(), Secrets()).noise()
    for (role, step), drawn in noise.items():
        guess = foretell(role, step, simulate_root(SEED, role).rng, drawn)
        assert find_repeated({"guess": guess, "run": drawn}) == [("guess", "run")]
        assert float((guess - drawn).norm() / drawn.norm()) < 1e-5


@pytest.mark.parametrize(
    ("secrets", "repeats"),
    [(Secrets(SECRET, b"ids"), False), (OldSecrets(SECRET, b"ids"), True), (Secrets(), True)],
    ids=["own", "own, of old", "simulated"],
)
def test_two_variants_do_not_give_the_clean_embedding(secrets: Secrets, repeats: bool) -> None:
    """Sigma 25 and 50: twice the one less the other is the clean embedding if the noise repeats."""
    one, other = listen(make_file(25.0), secrets), listen(make_file(50.0), secrets)
    for key in (("a", 0), ("b", 0)):  # the first step: later ones are of weights that noise has moved
        found, clean = 2 * one.left[key] - other.left[key], one.clean[key]
        error = float((found - clean).norm() / clean.norm())
        assert error < 1e-4 if repeats else error > 10


def test_initial_weights_are_others_in_every_run() -> None:
    file = make_file(seats={})
    runs = [play_all(file, dict.fromkeys(("a", "b", "server"), Secrets(SECRET, b"ids"))) for _ in range(2)]
    for role in ("a", "b", "server"):
        for name, weight in runs[0][role].tensors.items():
            assert not torch.equal(weight, runs[1][role].tensors[name]), (role, name)
    assert {report.noise_source for run in runs for report in run.values()} == {"secret"}


def test_fake_gradients_are_others_in_every_run() -> None:
    scenario = {**SCENARIO, "exchange": "shared", "window": {"from": 0, "rounds": 4}}
    links = [{"message": "ParameterGradient", "sender": [{"kind": "fake_gradient"}]}]
    file = validate({"name": "fakes", "seed": SEED, "scenario": scenario, "links": links}, "fakes", {})

    def values(secrets: Secrets) -> set[float]:
        inner = memory(file.plan())
        record = Record(inner["server"])
        play_over(file, {**inner, "server": record}, dict.fromkeys(inner, secrets))
        kinds = [decode(frame).message for _, frame in record.received]
        sent = [m for m in kinds if m.kind() == "ParameterGradient"]
        assert len(sent) == 2 * 4
        return {float(v) for m in sent for t in tensors_of(m).values() for v in t.flatten() if v}

    one, other = values(Secrets(SECRET, b"ids")), values(Secrets(SECRET, b"ids"))
    assert len(one & other) < len(one) / 100
    assert values(Secrets()) == values(Secrets())  # the control


# what must agree between seats follows from the seed all the same


def test_what_seats_must_have_in_common_follows_from_the_public_seed() -> None:
    file = make_file(links=[])
    own = play_all(file, {role: Secrets(role.encode(), b"ids") for role in ("a", "b", "server")})
    simulated = play_all(file, {})
    assert own["server"].traffic == simulated["server"].traffic
    assert [row["step"] for row in own["server"].rows] == [row["step"] for row in simulated["server"].rows]
    for secret in (b"one", b"other"):
        seat = file.plan().seats["a"].build(Rng.root(SEED), derive_root(secret, file.digest(), "a", b"fresh").rng)
        rows = seat.knows("rows")
        same = file.plan().seats["a"].build(Rng.root(SEED), simulate_root(SEED, "a").rng).knows("rows")
        assert all(torch.equal(rows[step], same[step]) for step in rows)


# roots


def test_a_root_depends_on_each_of_its_parts_and_gives_none_of_them_away() -> None:
    roots = [
        derive_root(*parts)
        for parts in (
            (b"s", "d", "a", b"f"),
            (b"t", "d", "a", b"f"),
            (b"s", "e", "a", b"f"),
            (b"s", "d", "b", b"f"),
            (b"s", "d", "a", b"g"),
            (b"s", "da", "", b"f"),
        )
    ]
    assert len({root.rng.key for root in roots}) == len({root.fingerprint for root in roots}) == len(roots)
    assert derive_root(b"s", "d", "a", b"f") == roots[0]
    assert simulate_root(5, "a").rng == Rng.secret(simulated_secret(5, "a"))
    assert (simulate_root(5, "a").simulated, roots[0].simulated) == (True, False)
    with pytest.raises(ValueError, match="needs fresh bytes"):
        derive_root(b"s", "d", "a", b"")
    shown = repr(roots[0]) + repr(Secrets(b"hushed", b"ids key", b"fresh ones"))
    assert [
        word for word in (roots[0].rng.key.hex(), str(roots[0].rng.key), b"f".hex() + "'", "hushed") if word in shown
    ] == []


def test_all_of_a_key_counts_in_what_a_seat_of_a_deployment_draws() -> None:
    """torch's generators use 32 bits of a seed, so that whoever tries them all finds the noise, and steps share noise."""
    key = bytes(range(32))
    others = [key[:i] + bytes([key[i] ^ 0x80]) + key[i + 1 :] for i in range(32)]

    def draw(node: Rng) -> Tensor:
        with node.as_global():
            return torch.cat([torch.randn(960, generator=node.torch()), torch.randn(960)]).double()

    for unguessable in (True, False):
        mine, same = draw(Rng(key, unguessable)), draw(Rng(key, unguessable))
        assert torch.equal(mine, same)
        noises = {str(i): draw(Rng(other, unguessable)) for i, other in enumerate(others)}
        repeated = [pair for pair in find_repeated({"mine": mine, **noises}) if "mine" in pair]
        assert len(repeated) == (0 if unguessable else 28)  # the control: of 32 bytes those that count are four
    root = derive_root(b"s", "d", "a", b"f").rng.child("stage")
    assert root.unguessable
    assert unpack(pack(root), root) == root != Rng(root.key)
    assert not simulate_root(SEED, "a").rng.child("stage").unguessable
    assert find_repeated({str(i): draw(root.child(i)) for i in range(40)}) == []
    drawn = torch.cat([draw(root.child(i)) for i in range(40)])
    assert abs(float(drawn.mean())) < 0.02
    assert abs(float(drawn.std()) - 1) < 0.02


def test_a_run_draws_its_fresh_bytes_itself() -> None:
    drawn = {Secrets(SECRET).root("d", 5, "a").fresh for _ in range(8)}
    assert len(drawn) == 8
    assert {len(each) for each in drawn} == {64}
    assert Secrets(SECRET).root("d", 5, "a", b"kept").fresh == b"kept".hex()
    assert Secrets().root("d", 5, "a", b"kept") == Secrets().root("e", 5, "a")


def test_the_key_of_ids_is_no_secret() -> None:
    with pytest.raises(ConfigError, match="the seat's secret is the key that ids are hashed with"):
        Secrets(b"one", b"one")


# checkpoints


class CutShort(Exception):
    pass


def until(step: int) -> Callable[[str, Mapping[str, Any]], None]:
    def watch(role: str, row: Mapping[str, Any]) -> None:
        if row.get("step") == step and "loss" in row:
            raise CutShort

    return watch


ALL = ("a", "b", "server")


def make_lasting(folder: Path) -> ScenarioFile:
    scenario = {**SCENARIO, "steps": 12, "evaluate": 6}
    return keeping(make_file(scenario=scenario, checkpoint={"every": 2}), folder)


def read_fresh(folder: Path, role: RoleId) -> str:
    """The fresh bytes in the newest part of a seat, in hex."""
    with safe_open(sorted((folder / f"seat-{role}").glob("step-*"))[-1], "pt") as part:
        state = json.loads(json.loads(part.metadata()["part"])["state"])
    fresh: str = dict(json.loads(state["root"])["map"])["fresh"]
    return fresh


def cut(file: ScenarioFile, secrets: Mapping[RoleId, Secrets], step: int) -> None:
    with pytest.raises(CutShort):
        play_all(file, secrets, watch=until(step))


def test_a_run_with_own_secrets_that_is_taken_up_is_the_run_that_was_not_cut_short(tmp_path: Path) -> None:
    file, secrets = make_lasting(tmp_path), {role: Secrets(role.encode(), b"ids") for role in ALL}
    fresh = set()
    for step in (3, 8):
        cut(file, secrets, step)
        fresh.add(tuple(read_fresh(tmp_path, role) for role in ALL))
    found = play_all(file, secrets)
    (kept,) = fresh
    assert len(set(kept)) == 3
    whole = {role: Secrets(role.encode(), b"ids", bytes.fromhex(each)) for role, each in zip(ALL, kept, strict=True)}
    for role, report in play_all(file.model_copy(update={"checkpoint": None}), whole).items():
        _check_equal(found[role], report, role)
    other = play_all(file.model_copy(update={"checkpoint": None}), secrets)
    assert digest(other["a"].tensors) != digest(found["a"].tensors)


def test_a_run_that_begins_anew_draws_anew(tmp_path: Path) -> None:
    file, secrets = make_lasting(tmp_path), {role: Secrets(role.encode(), b"ids") for role in ALL}
    drawn = set()
    for _ in range(2):
        cut(file, secrets, 3)
        drawn.add(read_fresh(tmp_path, "a"))
        for path in (tmp_path / "seat-b").glob("step-*"):  # so that there is no checkpoint that all have
            path.unlink()
    assert len(drawn) == 2


MINE = Secrets(b"one", b"ids")


@pytest.mark.parametrize(
    ("before", "after"),
    [(MINE, Secrets(b"other", b"ids")), (MINE, Secrets()), (Secrets(), MINE)],
    ids=["another secret", "simulates later", "simulated before"],
)
def test_checkpoints_of_another_secret_are_not_used(tmp_path: Path, before: Secrets, after: Secrets) -> None:
    file, notices = make_lasting(tmp_path), list[str]()
    cut(file, dict.fromkeys(ALL, before), 5)
    rows: list[Mapping[str, Any]] = []
    reports = play_all(file, {"a": after, "b": before, "server": before}, watch=lambda role, row: rows.append(row))
    notices = [row["notice"] for row in rows if "notice" in row]
    why = "a: its checkpoints after training steps 2, 4 were made with another secret, or as a simulation, and are not used"
    assert why in notices
    assert not any(line.startswith("all go on after") for line in notices)
    assert reports["a"].noise_source == ("seed" if after.own is None else "secret")


def test_a_part_from_before_roots_were_kept_is_that_of_a_simulation_only(tmp_path: Path) -> None:
    file = make_lasting(tmp_path)
    cut(file, {}, 5)
    for path in tmp_path.glob("seat-*/step-*"):
        with safe_open(path, "pt") as part:
            about = json.loads(part.metadata()["part"])
            tensors = {name: part.get_tensor(name) for name in part.keys()}  # noqa: SIM118 (no mapping)
        about["state"] = json.dumps({k: v for k, v in json.loads(about["state"]).items() if k != "root"})
        block = save(tensors, {"part": json.dumps(about)})
        path.unlink()
        path.with_name(f"{path.name[:15]}-{hashlib.sha256(block).hexdigest()}.safetensors").write_bytes(block)
    for secrets, goes_on in (({}, True), ({"a": Secrets(b"one", b"ids")}, False)):
        rows: list[Mapping[str, Any]] = []
        copied = tmp_path / f"{goes_on}"
        shutil.copytree(tmp_path, copied, ignore=shutil.ignore_patterns("True", "False"))
        play_all(make_lasting(copied), secrets, watch=lambda role, row: rows.append(row))  # noqa: B023
        assert ({"notice": "all go on after training step 4"} in rows) is goes_on


# what stays


def test_neither_secret_nor_fresh_bytes_leave_their_seat(tmp_path: Path) -> None:
    """Looked for in every frame, report and notice, and in what the other seats keep."""
    file = make_lasting(tmp_path / "checkpoints")
    secrets = {role: Secrets(f"hushed by {role}".encode(), b"a key of ids") for role in ALL}
    inner, rows = memory(file.plan()), list[Mapping[str, Any]]()
    ways = {role: Record(way) for role, way in inner.items()}
    reports = play_over(file, ways, secrets, watch=lambda role, row: rows.append(row))
    fresh = {role: read_fresh(tmp_path / "checkpoints", role) for role in ALL}
    roots = {role: secrets[role].root(file.digest(), SEED, role, bytes.fromhex(fresh[role])).rng for role in ALL}
    frames = [frame for way in ways.values() for _, frame in way.sent]
    assert len(frames) > 50
    said = [
        json.dumps([dict(row) for row in rows]).encode(),
        *(to_bytes(report, file.plan()) for report in reports.values()),
    ]
    for role in ALL:
        node = roots[role].child("stage", "server", 2, 0).key
        hidden = [f"hushed by {role}".encode(), bytes.fromhex(fresh[role]), roots[role].key, node]
        hidden += [each.hex().encode() for each in hidden]
        files = {path: path.read_bytes() for path in (tmp_path / "checkpoints").rglob("*") if path.is_file()}
        theirs = [content for path, content in files.items() if path.parent.name != f"seat-{role}"]
        assert theirs
        assert [each for each in (*frames, *said, *theirs) if any(word in each for word in hidden)] == []
        mine = [path for path in files if path.parent.name == f"seat-{role}"]
        kept_from_disk = f"hushed by {role}".encode(), roots[role].key.hex().encode()
        assert [path for path in mine if any(word in files[path] for word in kept_from_disk)] == []
        holding = [path for path in mine if fresh[role].encode() in files[path]]
        assert holding  # the control: the search finds them where they are
        assert {path.stat().st_mode & 0o777 for path in holding} == {0o600}


# who must have a secret


def test_a_node_without_a_secret_is_refused_unless_it_is_told_to_simulate(tmp_path: Path) -> None:
    file = make_file()
    (tmp_path / "secret").write_text("mine\n")
    with pytest.raises(
        ConfigError, match=r"a has no secret of its own, so that everybody .* --secret FILE, or secret="
    ):
        Belongings.named({"party": "a"}).at(file, "a")
    with pytest.raises(ConfigError, match="a has a secret and is to simulate"):
        Belongings.named({"secret": str(tmp_path / "secret"), "simulate": True}).at(file, "a")
    with pytest.raises(ConfigError, match="simulate: expected true or false, found 'yes'"):
        Belongings.named({"simulate": "yes"})
    assert Belongings.named({"simulate": True}).at(file, "a")[1] == Secrets()
    assert Belongings.named({"secret": str(tmp_path / "secret"), "simulate": False}).at(file, "a")[1].own == b"mine"


NUMBERED = {"partition-id": 0, "num-partitions": 2}
"""The settings of a node of Flower's simulation, and of a SuperNode that somebody has numbered."""


def test_a_numbered_node_without_a_secret_is_refused_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "ray", raising=False)
    assert not is_simulated(NUMBERED)
    with pytest.raises(ConfigError, match="a has no secret of its own"):
        find_belongings(NUMBERED).at(make_file(), "a")


@pytest.mark.usefixtures("ray_session")
def test_a_node_of_flowers_simulation_which_plays_in_a_process_of_ray_simulates() -> None:
    assert is_simulated(NUMBERED)
    assert not is_simulated({"party": "a", **NUMBERED})
    assert find_belongings(NUMBERED).at(make_file(), "a")[1] == Secrets()


def test_the_report_of_a_run_says_what_its_noise_follows_from() -> None:
    assert words.describe_noise({}) == ""
    found = manifest.find_noise_sources(
        replace(report, noise_source=source)
        for source, file in (("secret", make_file()), ("seed", make_file()))
        for report in play_all(file, {}).values()
        if report.role != "b" or source == "secret"
    )
    assert found == {"server": "seed", "a": "seed", "b": "secret"}
    assert words.describe_noise({"noise_source": found}) == (
        "Simulated: noise and initial weights of server, a follow from the public seed; everybody who has the file can "
        "subtract this noise."
    )
    assert "of all seats follow" in words.describe_noise({"noise_source": dict.fromkeys(found, "seed")})
    assert words.describe_noise({"noise_source": dict.fromkeys(found, "secret")}).startswith(
        "Noise and initial weights follow"
    )


def test_a_secret_is_read_up_to_a_bound(tmp_path: Path) -> None:
    (tmp_path / "long").write_bytes(bytes(1 << 17))
    for path in (tmp_path / "long", Path("/dev/zero")):
        with pytest.raises(ConfigError, match=f"secret: {path} has more than 65536 bytes"):
            Belongings(secret=str(path)).at(read("baseline"), "server")

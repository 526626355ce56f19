"""What ``fedsim compose`` writes: who runs where, and that each has its own folder and no other."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from terminal import TABLE, fedsim, fine, refused

from fedsim import config
from fedsim.residency import SharingConsent, read_consent

pytest.importorskip("cryptography", reason="needs fedsim-vfl[flower]")


PUBLISHED = "${FEDSIM_PUBLISH:?set FEDSIM_PUBLISH to the address of hub.example.org on this machine}"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    (path := tmp_path / "s.yaml").write_text(TABLE)
    return path


def services(folder: Path) -> Mapping[str, Any]:
    services: Mapping[str, Any] = yaml.safe_load((folder / "compose.yaml").read_text())["services"]
    return services


def folders(service: Mapping[str, Any]) -> set[str]:
    return {volume.partition(":")[0] for volume in service["volumes"]}


def test_on_one_machine_every_seat_has_a_container_with_its_own_folder(source: Path, tmp_path: Path) -> None:
    said = fine("compose", source, "--out", tmp_path / "out")
    where = f"{tmp_path}/out/seats/<seat>/data of each"
    assert said == f"containers: {tmp_path}/out; all seats read the same data, whose files belong in {where}\n"
    found = services(tmp_path / "out")
    assert list(found) == ["superlink", "hub", "party-a", "party-b", "register", "run"]
    assert folders(found["party-a"]) == {"./seats/a/settings", "./seats/a/data", "./seats/a/runs"}
    assert folders(found["superlink"]) == {"./superlink/settings", "./superlink/state"}
    mounted = [volume for name in ("hub", "party-b") for volume in folders(found[name])]
    assert [volume for volume in mounted if "/a/" in volume] == []
    for service in found.values():
        assert service["read_only"]
        assert (service["cap_drop"], service["user"].partition(":")[0]) == (["ALL"], str(os.geteuid() or 10001))
        assert "ports" not in service
    assert yaml.safe_load((tmp_path / "out/compose.yaml").read_text())["networks"]["federation"]["internal"]


def test_on_several_machines_only_the_hubs_has_open_ports(source: Path, tmp_path: Path) -> None:
    fine("compose", source, "--out", tmp_path / "out", "--host", "hub.example.org")
    assert list(services(tmp_path / "out")) == ["superlink", "hub", "register", "run"]
    assert {name: each.get("ports") for name, each in services(tmp_path / "out").items() if "ports" in each} == {
        "superlink": [f"{PUBLISHED}:8000:8000"],
        "hub": [f"{PUBLISHED}:7000:7000"],
    }
    own = services(tmp_path / "out/seats/a")
    assert list(own) == ["party-a", "gate"]
    assert own["gate"]["command"][-3:] == ["hub.example.org", "8000", "7000"]
    assert "superlink:8000" in own["party-a"]["command"]
    assert folders(own["party-a"]) == {"./settings", "./data", "./runs"}
    assert folders(own["gate"]) == set()


def test_ports_are_open_at_the_named_host_only(source: Path, tmp_path: Path) -> None:
    fine("compose", source, "--out", tmp_path / "out", "--host", "192.0.2.7")
    ports = [port for each in services(tmp_path / "out").values() for port in each.get("ports", ())]
    assert ports == [f"${{FEDSIM_PUBLISH:-192.0.2.7}}:{port}:{port}" for port in (8000, 7000)]


def networks(folder: Path) -> Mapping[str, Any]:
    found: Mapping[str, Any] = yaml.safe_load((folder / "compose.yaml").read_text())["networks"]
    return found


def test_on_one_machine_a_party_reaches_the_hub_and_no_other_party_and_nobody_reaches_further(
    source: Path, tmp_path: Path
) -> None:
    fine("compose", source, "--out", tmp_path / "out")
    found, there = services(tmp_path / "out"), networks(tmp_path / "out")
    assert set(there) == {"federation", "party-a", "party-b"}
    assert all(each == {"internal": True} for each in there.values())
    for one, other in (("a", "b"), ("b", "a")):
        mine = set(found[f"party-{one}"]["networks"])
        assert mine & set(found[f"party-{other}"]["networks"]) == set()
        assert mine & set(found["run"]["networks"]) == set()
        assert mine <= set(found["hub"]["networks"]) & set(found["superlink"]["networks"])


def test_on_several_machines_a_party_reaches_the_gate_only_and_the_gate_the_hub_only(
    source: Path, tmp_path: Path
) -> None:
    fine("compose", source, "--out", tmp_path / "out", "--host", "hub.example.org")
    own, there = services(tmp_path / "out/seats/a"), networks(tmp_path / "out/seats/a")
    assert own["party-a"]["networks"] == ["federation"]
    assert own["gate"]["networks"] == {"federation": {"aliases": ["superlink", "hub"]}, "outside": {}}
    assert there == {"federation": {"internal": True}, "outside": {}}
    at_hub = networks(tmp_path / "out")["federation"]
    assert at_hub == {"driver_opts": {"com.docker.network.bridge.enable_ip_masquerade": "false"}}


def test_many_parties_share_a_network_because_an_engine_has_addresses_for_few(tmp_path: Path) -> None:
    parties = ", ".join(f"p{i}: {{columns: [c{i}]}}" for i in range(25))
    data = "{kind: csv, path: t.csv, label: y}"
    source = tmp_path / "s.yaml"
    source.write_text(f"scenario:\n  kind: baseline\n  data: {data}\n  parties: {{{parties}}}\n")
    fine("compose", source, "--out", tmp_path / "out")
    assert networks(tmp_path / "out") == {"federation": {"internal": True}}
    assert {tuple(each["networks"]) for each in services(tmp_path / "out").values()} == {("federation",)}


@pytest.mark.parametrize("more", [(), ("--host", "192.0.2.7")])
def test_every_container_has_limits_and_may_do_nothing_but_its_task(
    more: tuple[str, ...], source: Path, tmp_path: Path
) -> None:
    fine("compose", source, "--out", tmp_path / "out", *more)
    for path in (tmp_path / "out").rglob("compose.yaml"):
        for name, service in services(path.parent).items():
            assert service["read_only"] is True, name
            assert service["cap_drop"] == ["ALL"]
            assert service["security_opt"] == ["no-new-privileges:true"]
            assert service["ulimits"] == {"core": 0}
            assert service["mem_limit"] in ("${FEDSIM_MEMORY:-8g}", "2g")
            assert service["pids_limit"] in (4096, 512)  # a number: compose 1.29 takes no variable here
            assert [each.partition(":")[0] for each in service["tmpfs"]] == ["/tmp"]
            assert "size=" in service["tmpfs"][0]
            assert "privileged" not in service
            assert all(volume.startswith("./") for volume in service["volumes"])


def test_a_party_has_the_scenario_that_it_agrees_to(source: Path, tmp_path: Path) -> None:
    fine("compose", source, "--out", tmp_path / "out")
    for seat in ("a", "b"):
        own = tmp_path / "out/seats" / seat / "settings/scenario.yaml"
        assert config.read(str(own)).digest() == config.read(str(source)).digest()
        assert 'agrees="/settings/scenario.yaml"' in services(tmp_path / "out")[f"party-{seat}"]["command"][-1]


def test_a_party_keeps_what_it_owns_and_says_itself_what_it_shares(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    fine("compose", source, "--out", out)
    for seat in ("a", "b"):
        assert read_consent({"sharing": str(out / "seats" / seat / "settings/sharing.yaml")}) == SharingConsent()
        assert (out / "seats" / seat / "runs").stat().st_mode & 0o777 == 0o700
        own = services(out)[f"party-{seat}"]
        assert 'runs="/runs" sharing="/settings/sharing.yaml"' in own["command"][-1]
        assert f"./seats/{seat}/runs:/runs" in own["volumes"]


def test_with_checkpoints_a_party_has_a_folder_for_its_parts_that_outlives_its_container(
    source: Path, tmp_path: Path
) -> None:
    fine("compose", source, "--out", tmp_path / "out", "--set", "checkpoint={every: 5}")
    found = services(tmp_path / "out")["party-a"]
    assert "./seats/a/checkpoints:/checkpoints" in found["volumes"]
    assert 'checkpoints="/checkpoints"' in found["command"][-1]
    assert (tmp_path / "out/seats/a/checkpoints").is_dir()


def test_what_ends_by_itself_is_started_again_and_a_run_whose_server_app_is_lost_is_handed_in_again(
    source: Path, tmp_path: Path
) -> None:
    for number, more in (("0", ()), ("5", ("--set", "checkpoint={every: 5, restarts: 5}"))):
        fine("compose", source, "--out", tmp_path / number, *more)
        found = services(tmp_path / number)
        assert found["run"]["command"][-2:] == ["run", number]
        assert [name for name in found if found[name].get("restart") == "unless-stopped"] == list(found)[:4]
        assert "./superlink/state:/state" in found["superlink"]["volumes"]
        assert "/state/flower.db" in found["superlink"]["command"]
        assert (tmp_path / number / "superlink/state").is_dir()


def test_secrets_are_for_their_owner_only_and_of_one_seat(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    fine("compose", source, "--out", out)
    secret = [path for path in out.rglob("*") if path.name in ("secret", "node", "key.pem", "superexec")]
    assert len(secret) == 3 + 2 + 1 + 2
    assert {path.stat().st_mode & 0o777 for path in secret} == {0o600}
    alone = [path.read_bytes() for path in secret if path.name != "superexec"]
    assert len(set(alone)) == len(alone)
    assert [path for path in out.rglob("compose.yaml") if any(each[:60] in path.read_bytes() for each in alone)] == []


def test_seats_that_simulate_have_no_secrets_and_it_says_so(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    said = fedsim("compose", source, "--out", out, "--simulate")
    assert said.code == 0
    assert said.err.startswith(
        "fedsim: every seat SIMULATES: without a secret of its own its noise and its initial weights"
    )
    assert list(out.rglob("secret")) == []
    for seat in ("a", "b"):
        node = services(out)[f"party-{seat}"]["command"][-1]
        assert "simulate=true" in node
        assert "secret" not in node
    app = tomllib.loads((out / "run/app/pyproject.toml").read_text())["tool"]["flwr"]["app"]["config"]
    assert (app["simulate"], app["secret"]) == (True, "")
    fine("compose", source, "--out", tmp_path / "own")
    assert 'secret="/settings/secret"' in services(tmp_path / "own")["party-a"]["command"][-1]
    app = tomllib.loads((tmp_path / "own/run/app/pyproject.toml").read_text())["tool"]["flwr"]["app"]["config"]
    assert (app["simulate"], app["secret"]) == (False, "/settings/secret")


def test_what_cannot_be_is_refused(source: Path, tmp_path: Path) -> None:
    for host in ("a b", "", "-x", "0.0.0.0", "http://a"):
        said = refused("compose", source, "--out", tmp_path / "x", "--host", host)
        assert f"--host: expected a name or an address, such as hub.example.org; found '{host}'" in said
    assert "--image: expected the name of an image" in refused(
        "compose", source, "--out", tmp_path / "x", "--image", "a b;c"
    )
    assert "--host: expected a name or an address" in refused(
        "keys", source, "--out", tmp_path / "x", "--host", "bad host!"
    )
    assert not (tmp_path / "x").exists()
    (tmp_path / "there").mkdir()
    assert "cannot be written: File exists" in refused("compose", source, "--out", tmp_path / "there")

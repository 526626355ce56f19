"""The tree of random streams: equal path, equal draws; nothing leaks between nodes or into the global stream."""

from __future__ import annotations

import subprocess
import sys

import torch

from fedsim.seeding import Rng, determine, simulated_secret


def test_equal_paths_draw_equal_values_every_time() -> None:
    node = Rng.root(7).child("noise", 3)
    assert torch.equal(torch.rand(5, generator=node.torch()), torch.rand(5, generator=node.torch()))
    assert node.numpy().integers(1 << 40, size=4).tolist() == node.numpy().integers(1 << 40, size=4).tolist()


def test_the_draws_of_a_node_are_these() -> None:
    """A change here would change every published number."""
    node = Rng.root(7).child("noise", 3)
    assert node.key.hex() == "daf04857b1fa6c5fe96e578ca5f7ba8f31b5c675f14abedb341561c41f563847"
    assert node.numpy().integers(1000, size=3).tolist() == [605, 232, 575]
    assert torch.randint(1000, (3,), generator=node.torch()).tolist() == [662, 932, 678]


def test_other_paths_draw_other_values() -> None:
    root = Rng.root(7)
    draws = [torch.rand(4, generator=node.torch()) for node in (root, root.child("a"), root.child("b"), Rng.root(8))]
    assert all(not torch.equal(a, b) for i, a in enumerate(draws) for b in draws[:i])


def test_a_child_drawn_from_does_not_disturb_its_siblings() -> None:
    root = Rng.root(7)
    before = torch.rand(3, generator=root.child("b").torch())
    torch.rand(100, generator=root.child("a").torch())
    assert torch.equal(before, torch.rand(3, generator=root.child("b").torch()))


def test_the_global_stream_is_seeded_inside_and_restored_after() -> None:
    node = Rng.root(1).child("forward")
    before = torch.get_rng_state()
    with node.as_global():
        one = torch.rand(3)
    with node.as_global():
        two = torch.rand(3)
    assert torch.equal(one, two)
    assert torch.equal(before, torch.get_rng_state())


def test_the_global_stream_is_restored_after_an_error() -> None:
    before = torch.get_rng_state()
    try:
        with Rng.root(1).as_global():
            torch.rand(3)
            raise KeyError("inside")
    except KeyError:
        pass
    assert torch.equal(before, torch.get_rng_state())


def test_a_secret_is_not_a_seed_and_a_simulated_one_follows_from_seed_and_role() -> None:
    assert Rng.secret(b"7") != Rng.root(7)
    secrets = {simulated_secret(seed, role) for seed in (1, 2) for role in ("a", "b")}
    assert len(secrets) == 4
    assert simulated_secret(1, "a") == simulated_secret(1, "a")


def test_determine_fixes_the_number_of_threads() -> None:
    determine(1)
    assert torch.get_num_threads() == 1
    assert torch.are_deterministic_algorithms_enabled()


def test_numpy_finds_nothing_odd_where_denormals_are_flushed() -> None:
    code = "from fedsim.seeding import determine; determine(1); import numpy.ma, numpy as np; np.finfo(np.float32)"
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")

"""What keeps a container to itself: limits of memory, processes and disk, networks, and the address of open ports.

Limits of memory are texts that compose fills in from its environment, so that a larger run needs no other file.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from fedsim.message import RoleId

FEDERATION, OUTSIDE = "federation", "outside"
"""The network of all, or of those at the hub where each party has its own; and that of a gate to the hub's machine."""
MAX_NETWORKS = 20
"""Parties with a network of their own, at most: an engine has addresses for some thirty networks."""
SEAT_MEMORY, SEAT_PIDS = "${FEDSIM_MEMORY:-8g}", 4096
"""What a container may use in which a seat computes; threads are counted among the processes."""
SERVICE_MEMORY, SERVICE_PIDS = "2g", 512
SCRATCH = "/tmp:mode=1777,nosuid,nodev,size=${FEDSIM_SCRATCH:-1g}"  # noqa: S108 (of the container)
PUBLISH = "FEDSIM_PUBLISH"
"""The environment variable with the address of the hub's machine at which its ports are open."""
NO_MASQUERADE = {"com.docker.network.bridge.enable_ip_masquerade": "false"}
"""Of a network whose containers can be reached from outside: they themselves are given no address to be answered at."""


def limit_service(carries_data: bool) -> dict[str, Any]:
    """The limits of a container, and all that it may not do."""
    return {
        "read_only": True,
        "tmpfs": [SCRATCH],
        "cap_drop": ["ALL"],
        "security_opt": ["no-new-privileges:true"],
        "mem_limit": SEAT_MEMORY if carries_data else SERVICE_MEMORY,
        "pids_limit": SEAT_PIDS if carries_data else SERVICE_PIDS,
        "ulimits": {"core": 0},  # the memory of a seat is not left on a disk
    }


def name_networks(parties: Collection[RoleId]) -> dict[RoleId, str]:
    """By party on one machine, its network: one of its own, on which it reaches the hub and no other party."""
    own = len(parties) <= MAX_NETWORKS
    return {party: f"party-{party}" if own else FEDERATION for party in parties}


def close_networks(names: Iterable[str]) -> dict[str, Any]:
    """The settings of networks without a way out."""
    return {name: {"internal": True} for name in dict.fromkeys(names)}


def publish_port(host: str, port: int) -> str:
    """Open a port of the hub's machine at the address that ``host`` is, or else that ``FEDSIM_PUBLISH`` names; at no other."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        default = f":?set {PUBLISH} to the address of {host} on this machine"
    else:
        default = f":-{address}"
    return f"${{{PUBLISH}{default}}}:{port}:{port}"


def reachable_network() -> Mapping[str, Any]:
    """The settings of a network whose containers have open ports, and no way out beside them."""
    return {"driver_opts": NO_MASQUERADE}

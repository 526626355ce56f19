"""A switch in user space with faults: for kernels without netem. ``tapswitch.py SEED NAMESPACE=ADDRESS/BITS ...``

Each namespace gets a TAP device ``eth1`` with its address. A line of JSON on standard input says what happens from then on to
frames from (``up``) or to (``down``) a namespace: ``{"to": NAMESPACE, "way": "up", "faults": {"delay": 0.025, "lose": 0.1}}``.
Needs root and /dev/net/tun; prints ``ready`` and runs until its input ends.
"""

from __future__ import annotations

import ctypes
import fcntl
import heapq
import json
import os
import random
import select
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass

TUNSETIFF, TAP_WITHOUT_HEAD, CLONE_NEWNET = 0x400454CA, 0x1002, 0x40000000
MTU = 65600
BROADCAST = 1
HEAD, KIND, IPV4 = 14, slice(12, 14), b"\x08\x00"


@dataclass
class Way:
    """What happens to frames in one direction of a namespace's link.

    Attributes:
        delay: seconds.
        jitter: up to so many seconds more, drawn for each frame: frames overtake each other.
        lose, double, corrupt: shares of frames; one that is corrupt has one bit of its packet flipped.
        rate: bytes a second; 0 is as many as come.
    """

    delay: float = 0.0
    jitter: float = 0.0
    lose: float = 0.0
    double: float = 0.0
    corrupt: float = 0.0
    rate: float = 0.0
    free: float = 0.0

    def passes(self, now: float, frame: bytes, draw: random.Random) -> Iterator[tuple[float, bytes]]:
        """When a frame that enters now leaves, and as what: not at all, once or twice."""
        for _ in range(2 if draw.random() < self.double else 1):
            if draw.random() < self.lose:
                continue
            if self.rate:
                now = self.free = max(now, self.free) + len(frame) / self.rate
            altered = draw.random() < self.corrupt and frame[KIND] == IPV4
            yield now + self.delay + self.jitter * draw.random(), _flipped(frame, draw) if altered else frame


def _flipped(frame: bytes, draw: random.Random) -> bytes:
    block, bit = bytearray(frame), draw.randrange(8 * HEAD, 8 * len(frame))
    block[bit // 8] ^= 1 << bit % 8
    return bytes(block)


def enter(path: str) -> None:
    """Move this process into the network namespace at ``path``."""
    libc = ctypes.CDLL(None, use_errno=True)
    with open(path) as file:
        if libc.setns(file.fileno(), CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), path)


def tap(namespace: str, address: str) -> int:
    """A TAP device in a namespace; its file descriptor works from anywhere."""
    home = f"/proc/{os.getpid()}/ns/net"
    with open(home) as back:
        enter(f"/run/netns/{namespace}")
        fd = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
        fcntl.ioctl(fd, TUNSETIFF, struct.pack("16sH22x", b"eth1", TAP_WITHOUT_HEAD))
        subprocess.run(["ip", "addr", "add", address, "dev", "eth1"], check=True)
        subprocess.run(["ip", "link", "set", "eth1", "up"], check=True)
        enter(f"/proc/self/fd/{back.fileno()}")
    return fd


def main() -> None:
    """Take frames and hand them on when it is time."""
    draw, places = random.Random(int(sys.argv[1])), dict(place.split("=") for place in sys.argv[2:])
    fds = {namespace: tap(namespace, address) for namespace, address in places.items()}
    ways = {fd: {"up": Way(), "down": Way()} for fd in fds.values()}
    poll, homes = select.epoll(), dict[bytes, int]()
    for fd in (0, *ways):
        poll.register(fd, select.EPOLLIN)
    late: list[tuple[float, int, int, bytes]] = []
    count = 0
    print("ready", flush=True)
    while True:
        left = late[0][0] - time.monotonic() if late else -1
        for fd, _ in poll.poll(-1 if not late else max(left - 0.001, 0)):  # it rounds up to ms; the last one is spun
            if fd == 0:
                if not (orders := os.read(0, MTU)):
                    return
                for order in map(json.loads, orders.splitlines()):
                    ways[fds[order["to"]]][order["way"]] = Way(**order["faults"])
                continue
            while frame := _read(fd):
                homes[frame[6:12]] = fd
                known = None if frame[0] & BROADCAST else homes.get(frame[:6])
                for to in [to for to in ways if to != fd] if known is None else [known]:
                    for up, sent in ways[fd]["up"].passes(time.monotonic(), frame, draw):
                        for due, block in ways[to]["down"].passes(up, sent, draw):
                            count += 1  # those that are due at the same time stay in order
                            heapq.heappush(late, (due, count, to, block))
        while late and late[0][0] <= time.monotonic():
            _, _, to, block = heapq.heappop(late)
            _write(to, block)


def _read(fd: int) -> bytes:
    try:
        return os.read(fd, MTU)
    except OSError:  # none left
        return b""


def _write(fd: int, frame: bytes) -> None:
    try:
        os.write(fd, frame)
    except OSError:  # the host is full, or gone: what a network does then is to lose it
        return


if __name__ == "__main__":
    main()

"""A switch in user space that delays: for kernels without netem. ``tapswitch.py MILLISECONDS NAMESPACE=ADDRESS/BITS ...``

Each namespace gets a TAP device ``eth1`` with its address; a frame leaves the switch so much later than it came. Order is kept.
Needs root and /dev/net/tun; prints ``ready`` and runs until it is killed.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import select
import struct
import subprocess
import sys
import time
from collections import deque

TUNSETIFF, TAP_WITHOUT_HEAD, CLONE_NEWNET = 0x400454CA, 0x1002, 0x40000000
MTU = 65600
BROADCAST = 1


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
    delay = float(sys.argv[1]) / 1000
    fds = [tap(*place.split("=")) for place in sys.argv[2:]]
    poll, homes = select.epoll(), dict[bytes, int]()
    for fd in fds:
        poll.register(fd, select.EPOLLIN)
    late: deque[tuple[float, int, bytes]] = deque()
    print("ready", flush=True)
    while True:
        left = late[0][0] - time.monotonic() if late else -1
        for fd, _ in poll.poll(-1 if not late else max(left - 0.001, 0)):  # it rounds up to ms; the last one is spun
            while frame := _read(fd):
                homes[frame[6:12]] = fd
                late.append((time.monotonic() + delay, fd, frame))
        while late and late[0][0] <= time.monotonic():
            _, source, frame = late.popleft()
            known = None if frame[0] & BROADCAST else homes.get(frame[:6])
            for fd in fds if known is None else (known,):
                if fd != source:
                    _write(fd, frame)


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

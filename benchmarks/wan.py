"""A wide-area network on one machine, for any program: namespaces as hosts, between which packets travel slowly.

    python benchmarks/wan.py 40ms,350mbit 3 command ...     # run a command that finds three hosts (see hosts.py)
    python benchmarks/wan.py 40ms,350mbit                   # measure the network

Each host is a network namespace with one TUN device, `wan`, whose other end this process holds::

    host 0 · TUN → [ queue, emptied at the rate ] → [ in flight for half a round trip ] → TUN · host 1

Each ordered pair of hosts has such a path of its own. The kernel of each host does all the rest, so programs run
unchanged and TCP behaves as it does between data centres: segments of 1,460 bytes, slow start, a window that has to
grow. Packets get lost only where more than `QUEUE_SECONDS` of them wait. Needs root, and leaves nothing behind: hosts
live as long as this process. `tacit local --wan` needs no root, but relays connections instead of packets.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import heapq
import os
import select
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path

import hosts

from tacit.net.emulation import Conditions

__all__ = ["Network", "main"]

QUEUE_SECONDS = 0.25
"""How long packets may wait for their turn on a path: more than the largest window of a connection, 6 MB, at the
350 Mbit/s of the benchmark, so that a single connection loses nothing."""

MTU = 1500
FRAME_BYTES = 1 << 17
"""Room for what the kernel hands over at once: with offloading, up to 64 KB of segments under one header."""

OFFLOADED = struct.Struct("<BBHHHH")
"""What stands before each packet: how segments that travel together are to be cut. It is passed on as it is."""

TCP = {"rmem": "4096 131072 6291456", "wmem": "4096 16384 4194304", "slow_start_after_idle": "1"}
"""Linux's own defaults, whatever this machine is set to; so is the congestion control, below."""

TUNSETIFF, TUNSETOFFLOAD = 0x400454CA, 0x400454D0
IFF_TUN, IFF_NO_PI, IFF_VNET_HDR = 0x0001, 0x1000, 0x4000
TUN_F_CSUM, TUN_F_TSO4 = 0x01, 0x02


class Network:
    """Hosts, and the thread that carries packets between them until the network is closed."""

    def __init__(self, conditions: Conditions, count: int) -> None:
        self._conditions = conditions
        self._closed, self._wake = os.pipe()
        made = [_host(host) for host in range(count)]
        self._devices = [device for device, _ in made]
        self._namespaces = [namespace for _, namespace in made]
        self.environment = {hosts.VARIABLE: ":".join(f"/proc/{os.getpid()}/fd/{fd}" for fd in self._namespaces)}
        self._thread = threading.Thread(target=self._carry, name="wan", daemon=True)
        self._thread.start()

    def __enter__(self) -> Network:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._wake)
        self._thread.join()
        for descriptor in (self._closed, *self._devices, *self._namespaces):
            os.close(descriptor)

    def _carry(self) -> None:
        """Take packets from their senders, and give each to its receiver when its time has come."""
        with contextlib.suppress(PermissionError):
            os.setpriority(os.PRIO_PROCESS, 0, -20)  # of this thread: programs that compute must not delay packets
        places = {host + 1: device for host, device in enumerate(self._devices)}  # by the last byte of the address
        free: dict[tuple[int, int], float] = {}
        flying: list[tuple[float, int, int, bytes]] = []
        number, delay, rate = 0, self._conditions.round_trip / 2, self._conditions.rate
        while True:
            patience = max(flying[0][0] - time.monotonic(), 0.0) if flying else None
            ready, _, _ = select.select([self._closed, *self._devices], [], [], patience)
            if self._closed in ready:
                return
            for device in ready:
                packet = os.read(device, FRAME_BYTES)
                target = _target(packet)
                if target not in places:
                    continue
                path, now = (device, target), time.monotonic()
                start = max(free.get(path, 0.0), now)
                if start - now <= QUEUE_SECONDS:
                    free[path] = start + (len(packet) - OFFLOADED.size) / rate
                    number += 1
                    heapq.heappush(flying, (free[path] + delay, number, places[target], packet))
            while flying and flying[0][0] <= time.monotonic():
                _, _, device, packet = heapq.heappop(flying)
                os.write(device, packet)


def _target(packet: bytes) -> int:
    """Return the last byte of an IPv4 packet's destination, 0 for other packets."""
    ip = packet[OFFLOADED.size :]
    return ip[19] if len(ip) >= 20 and ip[0] >> 4 == 4 else 0


def _host(host: int) -> tuple[int, int]:
    """Make a namespace with a device; return the descriptors of the device and of the namespace."""
    outside = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    try:
        hosts.call("unshare", hosts.CLONE_NEWNET)
        device = os.open("/dev/net/tun", os.O_RDWR)
        flags = IFF_TUN | IFF_NO_PI | IFF_VNET_HDR
        fcntl.ioctl(device, TUNSETIFF, struct.pack("16sH22x", b"wan", flags))
        fcntl.ioctl(device, TUNSETOFFLOAD, TUN_F_CSUM | TUN_F_TSO4)
        for command in (
            "link set lo up",
            f"address add 10.77.0.{host + 1}/24 dev wan",
            f"link set wan mtu {MTU} txqueuelen 5000 up",
            "route replace 10.77.0.0/24 dev wan congctl cubic",
        ):
            subprocess.run(["ip", *command.split()], check=True)
        for name, value in TCP.items():
            Path(f"/proc/sys/net/ipv4/tcp_{name}").write_text(value)
        return device, os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    finally:
        hosts.call("setns", outside, hosts.CLONE_NEWNET)
        os.close(outside)


def main() -> int:
    """Make the network and run the command in it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("link", type=Conditions.parse, help="round trip and rate of each direction, say 40ms,350mbit")
    parser.add_argument("hosts", nargs="?", type=int, default=2)
    parser.add_argument("command", nargs=argparse.REMAINDER)
    options = parser.parse_args()
    command = options.command or [sys.executable, str(Path(__file__).with_name("links.py"))]
    try:
        network = Network(options.link, options.hosts)
    except (OSError, subprocess.CalledProcessError) as error:
        sys.exit(f"no network of namespaces can be made here (it takes root and /dev/net/tun): {error}")
    with network:
        return subprocess.run(command, env={**os.environ, **network.environment}, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())

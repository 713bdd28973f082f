"""Private set intersection by others: two CSV files, whose rows in common both parties get, aligned.

    python benchmarks/peers/join_tasks.py --system spu-rr22 alice.csv bob.csv

Runs in an environment of its own, which benchmarks/README.md describes, and prints a line for each party.
"""

from __future__ import annotations

import argparse
import csv
import multiprocessing
import resource
import socket
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

TIMEOUT_MS = 1_800_000


def ports() -> list[int]:
    """Two that are free."""
    sockets = [socket.socket() for _ in range(2)]
    for opened in sockets:
        opened.bind(("127.0.0.1", 0))
    found = [opened.getsockname()[1] for opened in sockets]
    for opened in sockets:
        opened.close()
    return found


def say(rows: int, start: float, cpu: float) -> None:
    """Rows, seconds, and what `join.py` reads beside them."""
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    seconds = time.perf_counter() - start
    print("ROW", rows, seconds, 0.0, seconds, 0.0, time.process_time() - cpu, 0.0, most, flush=True)


def party(rank: int, system: str, path: str, chosen: list[int], ready: Any) -> None:
    """One party of SPU's intersection; its clock starts when both are connected."""
    import spu
    from spu import psi

    link_config = spu.link.Desc()
    link_config.recv_timeout_ms = TIMEOUT_MS
    for number, port in enumerate(chosen):
        link_config.add_party(f"p{number}", f"127.0.0.1:{port}")
    link = spu.link.create_brpc(link_config, rank)
    protocol = {"spu-rr22": psi.PsiProtocol.PROTOCOL_RR22, "spu-ecdh": psi.PsiProtocol.PROTOCOL_ECDH}[system]
    with tempfile.TemporaryDirectory() as folder:
        config = psi.PsiExecuteConfig(
            protocol_conf=psi.PsiProtocolConfig(
                protocol=protocol,
                receiver_rank=0,
                broadcast_result=True,
                ecdh_params=psi.EcdhParams(curve=psi.EllipticCurveType.CURVE_25519),
            ),
            input_params=psi.InputParams(path=path, selected_keys=["id"], keys_unique=True),
            output_params=psi.OutputParams(path=str(Path(folder) / "out.csv")),
        )
        ready.wait()
        start, cpu = time.perf_counter(), time.process_time()
        report = psi.psi_execute(config, link)
        say(report.intersection_count, start, cpu)
    link.stop_link()


def openmined(paths: list[str]) -> None:
    """Both parties of openmined's protocol in this process, with a table in place of Bloom filters."""
    import private_set_intersection.python as intersection

    start, cpu = time.perf_counter(), time.process_time()
    keys = []
    for path in paths:
        with Path(path).open(newline="") as file:
            keys.append([row["id"] for row in csv.DictReader(file)])
    client = intersection.client.CreateWithNewKey(True)
    server = intersection.server.CreateWithNewKey(True)
    structure = intersection.DataStructure.RAW
    setup = server.CreateSetupMessage(1e-9, len(keys[0]), keys[1], structure)
    request = client.CreateRequest(keys[0])
    response = server.ProcessRequest(request)
    found = client.GetIntersection(setup, response)
    seconds, spent = time.perf_counter() - start, time.process_time() - cpu
    sent = sum(len(message.SerializeToString()) for message in (setup, request, response)) / 1e6
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    print("ROW", len(found), seconds, 0.0, seconds, 0.0, spent, sent, most, flush=True)


def main() -> None:
    """Run what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--system", choices=["spu-rr22", "spu-ecdh", "openmined-psi"], required=True)
    parser.add_argument("files", nargs=2)
    asked = parser.parse_args()
    if asked.system == "openmined-psi":
        return openmined(asked.files)
    spawn = multiprocessing.get_context("spawn")
    chosen, ready = ports(), spawn.Barrier(2)
    parties = [
        spawn.Process(target=party, args=(rank, asked.system, path, chosen, ready))
        for rank, path in enumerate(asked.files)
    ]
    for one in parties:
        one.start()
    for one in parties:
        one.join()
    sys.exit(any(one.exitcode for one in parties))


if __name__ == "__main__":
    main()

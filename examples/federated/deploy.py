"""A real federation on this machine: a SuperLink, a SuperNode for each site, TLS, and nodes that must be registered.

The sites mask their updates for each other or, with `--parties 2`, share them to computing parties, each a process.
Makes a certificate authority and a certificate for the SuperLink, a node key for each SuperNode and an identity for
each site; starts the processes; registers the node keys; runs the app with `flwr run`; prints what happened in each
round, and the accuracy of the model that the server wrote; and stops everything. On real machines each step is the same
command, each where its key lives.
Each site has its own copy of the app, reads it, and starts `tacit supernode --app` with it: another app is refused.

    python examples/federated/deploy.py --sites 5 --rounds 2 --directory tacit-run/federation
    python examples/federated/deploy.py --sites 5 --rounds 2 --parties 2
"""

from __future__ import annotations

import argparse
import datetime
import ipaddress
import os
import socket
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tacit.federated import Identity, Roster
from tacit.federated.parties.on_this_machine import establish, parties_on_this_machine
from tacit.session.trial import free_ports

HERE = Path(__file__).resolve().parent
BIN = Path(sys.executable).parent
HOST = "127.0.0.1"


def write_private(path: Path, data: bytes) -> Path:
    """Write a file that only its owner may read."""
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(data)
    return path


def certificate(name: str, issuer: x509.Name, key: ec.EllipticCurvePublicKey, by: ec.EllipticCurvePrivateKey) -> bytes:
    """Return a certificate for this machine, or for the authority itself."""
    own, now = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]), datetime.datetime.now(datetime.UTC)
    authority = own == issuer
    addresses: list[x509.GeneralName] = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address(HOST))]
    builder = (
        x509.CertificateBuilder()
        .subject_name(own)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(minutes=5))
        .not_valid_after(now + datetime.timedelta(days=30))
        .add_extension(x509.BasicConstraints(ca=authority, path_length=0 if authority else None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(by.public_key()), critical=False)
    )
    if authority:
        usage = x509.KeyUsage(False, False, False, False, False, True, True, False, False)
        builder = builder.add_extension(usage, critical=True)
    else:
        builder = builder.add_extension(x509.SubjectAlternativeName(addresses), critical=False)
    return builder.sign(by, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def make_files(folder: Path, sites: int) -> None:
    """Write keys, certificates, identities and the roster."""
    authority, server = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "federation")])
    (folder / "ca.crt").write_bytes(certificate("federation", name, authority.public_key(), authority))
    (folder / "server.crt").write_bytes(certificate("superlink", name, server.public_key(), authority))
    pem = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    write_private(folder / "server.key", server.private_bytes(*pem))
    identities = [Identity.generate(f"site-{i}") for i in range(sites)]
    Roster.of(identities).save(folder / "roster.json")
    for i, identity in enumerate(identities):
        identity.save(folder)
        node = ec.generate_private_key(ec.SECP384R1())
        ssh = (serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption())
        write_private(folder / f"node-{i}", node.private_bytes(*ssh))
        public = (serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
        (folder / f"node-{i}.pub").write_bytes(node.public_key().public_bytes(*public) + b"\n")


class Federation:
    """The processes, started and stopped together."""

    def __init__(self, folder: Path, sites: int, parties: int) -> None:
        self.folder, self.sites, self.parties = folder, sites, parties
        self.port, *self.node_ports = free_ports(sites + 1)
        self.running: list[subprocess.Popen[bytes]] = []
        self.environment = os.environ | {
            "FLWR_HOME": str(folder / "flwr"),
            "FLWR_TELEMETRY_ENABLED": "0",
            "OMP_NUM_THREADS": "1",
            "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
        }

    def __enter__(self) -> Federation:
        return self

    def __exit__(self, *_: object) -> None:
        for process in reversed(self.running):
            process.terminate()
        for process in reversed(self.running):
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def start(self, program: str, log: str, *arguments: str) -> None:
        """Start a process that writes to a log in the folder."""
        with (self.folder / log).open("wb") as file:
            self.running.append(
                subprocess.Popen(  # noqa: S603 - the programs are Flower's own
                    [BIN / program, *arguments], stdout=file, stderr=file, env=self.environment, cwd=self.folder
                )
            )

    def start_superlink(self) -> None:
        """Start the server, wait until it listens, and tell the command line of it."""
        self.start(
            "flower-superlink", "superlink.log",
            "--ssl-ca-certfile", "ca.crt", "--ssl-certfile", "server.crt", "--ssl-keyfile", "server.key",
            "--enable-supernode-auth", "--disable-runtime-dependency-installation",
            "--host", HOST, "--port", str(self.port),
        )  # fmt: skip
        self.wait_for(self.port)
        home = self.folder / "flwr"
        home.mkdir(exist_ok=True)
        (home / "config.toml").write_text(
            f'[superlink]\ndefault = "here"\n\n[superlink.here]\naddress = "{HOST}:{self.port}"\n'
            f'root-certificates = "{self.folder / "ca.crt"}"\n'
        )

    def wait_for(self, port: int, seconds: float = 60) -> None:
        """Wait until somebody listens on a port."""
        end = time.monotonic() + seconds
        while time.monotonic() < end and all(process.poll() is None for process in self.running):
            try:
                socket.create_connection((HOST, port), timeout=1).close()
                return
            except OSError:
                time.sleep(0.2)
        raise SystemExit(f"a process did not start; see the logs in {self.folder}")

    def start_nodes(self) -> None:
        """Register each node's key, and start the node."""
        for i in range(self.sites):
            self.flwr("supernode", "register", str(self.folder / f"node-{i}.pub"), "here")
            config = (
                f'partition-id={i} num-partitions={self.sites} '
                f'identity="{self.folder / f"site-{i}.pem"}" roster="{self.folder / "roster.json"}"'
            )  # fmt: skip
            if self.parties:
                config += f' aggregators="{self.folder / "aggregators.json"}"'
            # a SuperNode runs what the SuperLink sends it: this one compares that with the site's own copy of the app
            self.start(
                "tacit", f"node-{i}.log", "supernode", "--app", str(HERE),
                "--superlink", f"{HOST}:{self.port}", "--root-certificates", "ca.crt",
                "--auth-supernode-private-key", f"node-{i}",
                "--host", HOST, "--port", str(self.node_ports[i]), "--node-config", config,
            )  # fmt: skip

    def flwr(self, *arguments: str) -> None:
        """Run a command of Flower's own command line."""
        command = [BIN / "flwr", *arguments]
        subprocess.run(command, env=self.environment, cwd=self.folder, check=True)  # noqa: S603 - Flower's own

    def train(self, data: str, rounds: int, seconds: float = 1800) -> Path:
        """Submit the app and wait for its model."""
        model = self.folder / "model.safetensors"
        config = (
            f'data="{data}" rounds={rounds} sites={self.sites} '
            f'roster="{self.folder / "roster.json"}" model="{model}"'
        )  # fmt: skip
        if self.parties:
            config += f' aggregators="{self.folder / "aggregators.json"}" certs="{self.folder / "certs"}"'
        self.flwr("run", str(HERE), "here", "--run-config", config)
        end = time.monotonic() + seconds
        told = model.with_suffix(".txt")
        while not model.exists():
            if told.exists() and time.time() > told.stat().st_mtime + 10:
                raise SystemExit(f"no round could be aggregated:\n{told.read_text()}")
            if time.monotonic() > end or any(process.poll() is not None for process in self.running):
                raise SystemExit(f"the run did not finish; see the logs in {self.folder}")
            time.sleep(1)
        return model


def main() -> None:
    """Deploy, train, tell the accuracy, and stop."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--sites", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--parties", type=int, default=0, help="share updates to so many computing parties")
    parser.add_argument("--data", choices=["drawn", "real"], default="real")
    parser.add_argument("--directory", type=Path, default=Path("tacit-run") / "federation")
    options = parser.parse_args()
    folder = options.directory.resolve()
    if folder.exists():
        raise SystemExit(f"{folder} is there already: it holds keys, and none is overwritten")
    folder.mkdir(parents=True)
    make_files(folder, options.sites)
    with Federation(folder, options.sites, options.parties) as federation, ExitStack() as stack:
        if options.parties:
            establish(folder, [f"aggregator-{i + 1}" for i in range(options.parties)])
            rules = HERE / "digits" / "parties.py"
            stack.enter_context(parties_on_this_machine(folder, rules, folder / "roster.json"))
        federation.start_superlink()
        federation.start_nodes()
        model = federation.train(options.data, options.rounds)
    sys.path.insert(0, str(HERE))
    from digits.data import load
    from digits.server_app import model_of

    from tacit.federated.parameters import load_arrays

    _, _, x, y = load(options.data)
    print(model.with_suffix(".txt").read_text(), end="")
    print(f"accuracy after {options.rounds} rounds: {model_of(load_arrays(model)).score(x, y):.3f}")


if __name__ == "__main__":
    main()

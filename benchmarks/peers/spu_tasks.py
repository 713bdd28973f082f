"""The tasks in SPU: SEMI2K (two parties, correlated randomness by a trusted first one), ABY3 (three parties) or CHEETAH
(two parties alone).

    python benchmarks/peers/spu_tasks.py --protocol SEMI2K --only op.mul --out rows.jsonl

Parties talk over brpc.

Runs in an environment of its own, which benchmarks/README.md describes. The driver compiles the JAX function, makes the
shares and sends both to the parties before the clock starts; the clock covers `Runtime.run`, from the earliest start to
the latest end.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import socket
import sys
import tempfile
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))
import hosts
import measure
import tasks

PARTIES = {"SEMI2K": 2, "ABY3": 3, "CHEETAH": 2}
TIMEOUT = 600


def runtime_config(protocol: str, threads: int) -> Any:
    """Return SPU's configuration."""
    import spu

    config = spu.RuntimeConfig(protocol=getattr(spu.ProtocolKind, protocol), field=spu.FieldType.FM64)
    config.max_concurrency = threads
    return config


def pack(share: Any) -> tuple[bytes, list[bytes]]:
    """Return a share as bytes that a pipe can carry."""
    return bytes(share.meta), [bytes(chunk) for chunk in share.share_chunks]


def unpack(packed: tuple[bytes, list[bytes]]) -> Any:
    """Return a share from its bytes."""
    from spu import libspu

    share = libspu.Share()
    share.meta, share.share_chunks = packed
    return share


def play(rank: int, ports: list[int], protocol: str, threads: int, driver: Connection, log: str) -> None:
    """Be one party: load programs, run them, and hand back shares of their results, as the driver says."""
    hosts.enter(rank)
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    import spu

    link_config = spu.link.Desc()
    link_config.recv_timeout_ms = link_config.http_timeout_ms = TIMEOUT * 1000
    for party, port in enumerate(ports):
        link_config.add_party(f"p{party}", f"{hosts.address(party)}:{port}")
    link = spu.link.create_brpc(link_config, rank)
    runtime = spu.Runtime(link, runtime_config(protocol, threads))
    program = spu.Executable()
    driver.send("ready")
    while (message := driver.recv())[0] != "stop":
        if message[0] == "load":
            program.ParseFromString(message[1])
            for name, share in zip(program.input_names, message[2], strict=True):
                runtime.set_var(name, unpack(share))
            driver.send("loaded")
        elif message[0] == "run":
            link.barrier()
            start = measure.time.monotonic()
            runtime.run(program)
            driver.send((start, measure.time.monotonic()))
        elif message[0] == "memory":
            driver.send(measure.peak_bytes())
        else:
            driver.send([pack(runtime.get_var(name)) for name in program.output_names])
    os._exit(0)


class Cluster:
    """The parties' processes, driven through pipes."""

    def __init__(self, protocol: str, threads: int) -> None:
        import spu

        context = multiprocessing.get_context("spawn")
        parties = PARTIES[protocol]
        ports = [free_port() for _ in range(parties)]
        self._pipes, self._processes = [], []
        for rank in range(parties):
            mine, theirs = context.Pipe()
            log = str(Path(tempfile.gettempdir()) / f"spu-{os.getpid()}-{rank}.log")
            process = context.Process(target=play, args=(rank, ports, protocol, threads, theirs, log), daemon=True)
            process.start()
            self._pipes.append(mine)
            self._processes.append(process)
        self._answers()
        self._io = spu.Io(parties, runtime_config(protocol, threads))

    def _answers(self) -> list[Any]:
        answers = []
        for pipe, process in zip(self._pipes, self._processes, strict=True):
            for _ in range(TIMEOUT):
                if pipe.poll(1) or not process.is_alive():
                    break
            if not pipe.poll():
                raise RuntimeError(f"a party gave no answer (exit code {process.exitcode})")
            answers.append(pipe.recv())
        return answers

    def _tell(self, *message: object) -> list[Any]:
        for pipe in self._pipes:
            pipe.send(message)
        return self._answers()

    def load(self, function: Callable[..., Any], arrays: list[np.ndarray]) -> None:
        """Compile a JAX function and share its arguments."""
        from spu import Visibility, libspu
        from spu.utils import frontend

        names = [f"in{i}" for i in range(len(arrays))]
        secret = [Visibility.VIS_SECRET] * len(arrays)
        program, _ = frontend.compile(
            frontend.Kind.JAX,
            function,
            arrays,
            {},
            names,
            secret,
            lambda flat: [f"out{i}" for i in range(len(flat))],
            copts=libspu.CompilerOptions(),
        )
        shares = [self._io.make_shares(np.ascontiguousarray(array), Visibility.VIS_SECRET) for array in arrays]
        for rank, pipe in enumerate(self._pipes):
            pipe.send(("load", program.SerializeToString(), [pack(share[rank]) for share in shares]))
        self._answers()

    def run(self) -> float:
        """Run the program once and return its seconds."""
        times = self._tell("run")
        return max(end for _, end in times) - min(start for start, _ in times)

    def peak_bytes(self) -> int:
        """Return the most memory that a party has had at a time."""
        return max(self._tell("memory"))

    def results(self) -> list[np.ndarray]:
        """Open the outputs."""
        outputs = self._tell("get")
        places = range(len(outputs[0]))
        return [np.asarray(self._io.reconstruct([unpack(output[place]) for output in outputs])) for place in places]

    def stop(self) -> None:
        """End the parties' processes."""
        for process in self._processes:
            process.kill()


def free_port() -> int:
    """Return a port of loopback that is free now."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def training(epochs: int) -> Callable[..., Any]:
    """Return logistic regression as a JAX function."""
    import jax
    import jax.numpy as jnp
    from jax import lax

    rate, batches = tasks.LEARNING_RATE / tasks.BATCH, tasks.ROWS // tasks.BATCH

    def train(xa: Any, xb: Any, y: Any) -> Any:
        x = jnp.concatenate([xa, xb], axis=1)
        xs = [x[i * tasks.BATCH : (i + 1) * tasks.BATCH] for i in range(batches)]
        ys = [y[i * tasks.BATCH : (i + 1) * tasks.BATCH] for i in range(batches)]

        def epoch(_: int, state: Any) -> Any:
            w, b = state
            for batch, target in zip(xs, ys, strict=True):
                error = jax.nn.sigmoid(batch @ w + b) - target
                w = w - (batch.T @ error) * rate
                b = b - jnp.sum(error, axis=0, keepdims=True) * rate
            return w, b

        state = jnp.zeros((tasks.FEATURES, 1)), jnp.zeros((1, 1))
        return lax.fori_loop(0, epochs, epoch, state) if epochs > 1 else epoch(0, state)

    return train


def training_network(steps: int) -> Callable[..., Any]:
    """Return steps of training network A as a JAX function.

    The gradient is written out, which is twice as fast in SPU as differentiating the loss.
    """
    import jax

    def train(images: Any, labels: Any, *parameters: Any) -> tuple[Any, ...]:
        for step in range(steps):
            w1, b1, w2, b2, w3, b3 = parameters
            rows = slice(step * tasks.BATCH, (step + 1) * tasks.BATCH)
            x, y = images[rows], labels[rows]
            a1 = x @ w1 + b1
            h1 = a1 * (a1 > 0)
            a2 = h1 @ w2 + b2
            h2 = a2 * (a2 > 0)
            d3 = (jax.nn.softmax(h2 @ w3 + b3, axis=1) - y) / tasks.BATCH
            d2 = (d3 @ w3.T) * (a2 > 0)
            d1 = (d2 @ w2.T) * (a1 > 0)
            gradients = x.T @ d1, d1.sum(0), h1.T @ d2, d2.sum(0), h2.T @ d3, d3.sum(0)
            parameters = tuple(p - tasks.LEARNING_RATE * g for p, g in zip(parameters, gradients, strict=True))
        return parameters

    return train


def lenet(x: Any, c1: Any, e1: Any, c2: Any, e2: Any, w1: Any, b1: Any, w2: Any, b2: Any) -> Any:
    """Return LeNet's scores, of images with the channel last."""
    import jax.numpy as jnp
    from jax import lax

    for weight, bias in ((c1, e1), (c2, e2)):
        x = lax.conv_general_dilated(x, weight, (1, 1), [(0, 0)] * 2, dimension_numbers=("NHWC", "HWIO", "NHWC")) + bias
        x = lax.reduce_window(jnp.maximum(x, 0), -jnp.inf, lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")
    x = jnp.transpose(x, (0, 3, 1, 2)).reshape(x.shape[0], -1)
    return jnp.maximum(x @ w1 + b1, 0) @ w2 + b2


def prepare(task: str) -> tuple[Callable[..., Any], list[np.ndarray], Callable[[list[np.ndarray]], dict[str, float]]]:
    """Return a task as a JAX function, its arguments, and what judges its results."""
    import jax
    import jax.numpy as jnp

    if task in tasks.TRAINING:
        epochs = tasks.TRAINING[task]
        x, y = tasks.training_data()
        rows = tasks.ROWS // tasks.BATCH * tasks.BATCH
        arrays = [x[:rows, : tasks.ALICE_FEATURES], x[:rows, tasks.ALICE_FEATURES :], y[:rows]]
        return training(epochs), arrays, lambda out: tasks.judge_training(out[0], out[1], epochs)
    if task in tasks.INFERENCE:
        plain = tasks.images(tasks.INFERENCE[task])

        def mlp(x: Any, w1: Any, b1: Any, w2: Any, b2: Any) -> Any:
            return jnp.argmax(jnp.maximum(x @ w1 + b1, 0) @ w2 + b2, axis=1)

        expected = tasks.mlp_plain(plain)
        return mlp, [plain, *tasks.mlp_parameters()], lambda out: {"accuracy": float((out[0] == expected).mean())}
    if task in tasks.NETWORKS:
        _, steps = tasks.NETWORKS[task]
        arguments = [*tasks.network_data(steps), *tasks.perceptron_parameters()]
        return (
            training_network(steps),
            arguments,
            lambda out: tasks.judge_parameters(out, tasks.perceptron_trained(steps)),
        )
    if task in tasks.LENET:
        plain = tasks.lenet_images(tasks.LENET[task])
        last = [v.transpose(2, 3, 1, 0) if v.ndim == 4 else v for v in tasks.lenet_parameters()]
        return lenet, [plain.transpose(0, 2, 3, 1), *last], lambda out: tasks.judge_scores(out[0], plain)
    function = {
        "op.matmul.1024": jnp.matmul,
        "op.relu.1e6": lambda x: jnp.maximum(x, 0),
        "op.sigmoid.1e5": jax.nn.sigmoid,
        "op.softmax.1000x100": lambda x: jax.nn.softmax(x, axis=1),
        "op.argmax.1000x100": lambda x: jnp.argmax(x, axis=1),
        "op.mul.1e6": jnp.multiply,
        "op.square.1e6": jnp.square,
    }[task]
    return function, tasks.operands(task), lambda out: tasks.judge_operator(task, out[0])


def main() -> None:
    """Start the parties, run the chosen tasks and write a row for each."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--only", default="", help="regular expression on the name of the task")
    parser.add_argument("--out", help="file to append rows to")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--protocol", choices=PARTIES, default="SEMI2K")
    options = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = str(options.threads)
    rows = measure.Rows(options.out, version="0.9.5", threads=options.threads)
    for task in tasks.chosen(options.only):
        if task in tasks.TACIT_ONLY:
            continue
        if options.protocol == "CHEETAH" and task == "op.matmul.1024":
            print("not run: it took 12 GB of memory in each party, and then there was none left")
            continue
        function, arrays, judge = prepare(task)
        cluster = Cluster(options.protocol, options.threads)
        try:
            base = cluster.peak_bytes()
            cluster.load(function, arrays)
            row = measure.timed(cluster.run)
            memory = {"base_bytes": base, "peak_bytes": cluster.peak_bytes()}
            rows.write(task=task, **row, **memory, **judge(cluster.results()))
        finally:
            cluster.stop()


if __name__ == "__main__":
    main()

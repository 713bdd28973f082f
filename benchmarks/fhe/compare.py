"""Encrypted prediction of one row, Tacit and Concrete ML in turn, on the same data and machine.

    python benchmarks/fhe/compare.py --peer /path/to/concrete/bin/python      # prints a Markdown table

Each side runs in its own interpreter (Concrete ML pins old versions of everything). The parts are the client's
encryption, the server's work and the client's decryption of one row, the fastest of several rows after a warm-up; one
process, one thread each unless the peer takes more. `--side` runs one side alone and prints JSON lines.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from sklearn.datasets import load_breast_cancer, load_digits
from sklearn.model_selection import train_test_split

SEED = 0


def digits784() -> tuple[Any, Any]:
    """scikit-learn's 8x8 digits, each pixel tripled and framed to 28x28, scaled to [0, 1]."""
    x, y = load_digits(return_X_y=True)
    images = np.stack([np.pad(np.kron(image, np.ones((3, 3))), 2) for image in x.reshape(-1, 8, 8)])
    return images.reshape(len(x), -1) / 16.0, y


def breast_cancer() -> tuple[Any, Any]:
    """Thirty scaled columns, two classes."""
    x, y = load_breast_cancer(return_X_y=True)
    return (x - x.mean(axis=0)) / x.std(axis=0), y


# name: (data, rows timed, Tacit's class, Concrete's class, shared arguments)
CASES: dict[str, tuple[Callable[[], tuple[Any, Any]], int, str, str, dict[str, Any]]] = {
    "logistic regression 784 x 10, 8 bits": (
        digits784, 10, "LogisticRegression", "LogisticRegression", {"n_bits": 8, "max_iter": 200}),
    "logistic regression 30, 8 bits": (
        breast_cancer, 10, "LogisticRegression", "LogisticRegression", {"n_bits": 8}),
    "decision tree, depth 6, 6 bits": (
        breast_cancer, 5, "DecisionTreeClassifier", "DecisionTreeClassifier",
        {"n_bits": 6, "max_depth": 6, "random_state": SEED}),
    "random forest 10 x depth 4, 4 bits": (
        breast_cancer, 2, "RandomForestClassifier", "RandomForestClassifier",
        {"n_bits": 4, "n_estimators": 10, "max_depth": 4, "random_state": SEED}),
    "boosted forest 10 x depth 3, 6 bits": (
        breast_cancer, 2, "GradientBoostingClassifier", "XGBClassifier",
        {"n_bits": 6, "n_estimators": 10, "max_depth": 3, "random_state": SEED}),
}  # fmt: skip


def tacit_side(name: str) -> dict[str, Any]:
    """Measure Tacit."""
    from tacit.fhe import ensemble, linear_model, tree

    data, rows, kind, _, arguments = CASES[name]
    x, held_out, y, truth = train_test_split(*data(), test_size=0.3, random_state=SEED)
    module = next(m for m in (linear_model, tree, ensemble) if hasattr(m, kind))
    model = getattr(module, kind)(**arguments).fit(x, y).compile(x)
    start = time.perf_counter()
    client = model.client()
    keygen = time.perf_counter() - start
    server = model.server()
    server.register(client.public_key)
    parts, sizes, exact = [], (0, 0), True
    for row in held_out[: 10 * rows + 2]:  # ten times the peer's: they are short, and the machine is not quiet
        times = [time.perf_counter()]
        query = client.encrypt(row[None])
        times.append(time.perf_counter())
        answer = server.answer(query)
        times.append(time.perf_counter())
        values = client.decrypt(answer, query)
        times.append(time.perf_counter())
        parts.append(np.diff(times))
        sizes = (len(query), len(answer))
        exact &= bool((values == model._values(row[None], "simulate")[0]).all())
    accuracy = float((model.predict(held_out, fhe="simulate") == truth).mean())
    return record("tacit", name, parts[2:], keygen, len(client.public_key), sizes, accuracy, exact)


def concrete_side(name: str) -> dict[str, Any]:
    """Measure Concrete ML."""
    import torch

    export = torch.onnx.export
    torch.onnx.export = lambda *a, **k: export(*a, **{**k, "dynamo": False})  # 1.9 predates torch's new exporter
    import concrete.ml.sklearn as cml

    data, rows, _, kind, arguments = CASES[name]
    x, held_out, y, truth = train_test_split(*data(), test_size=0.3, random_state=SEED)
    model = getattr(cml, kind)(**arguments)
    model.fit(x, y)
    model.compile(x[:100])
    circuit = model.fhe_circuit
    start = time.perf_counter()
    circuit.client.keygen(force=True)
    keygen = time.perf_counter() - start
    parts, sizes, exact = [], (0, 0), True
    for row in held_out[: rows + 1]:
        quantized = model.quantize_input(row[None])
        times = [time.perf_counter()]
        query = circuit.encrypt(quantized)
        times.append(time.perf_counter())
        answer = circuit.run(query)
        times.append(time.perf_counter())
        values = circuit.decrypt(answer)
        times.append(time.perf_counter())
        parts.append(np.diff(times))
        sizes = tuple(len(part.serialize()) for part in (query, answer))
        exact &= bool((values == circuit.simulate(quantized)).all())
    accuracy = float((model.predict(held_out) == truth).mean())
    keys = len(circuit.client.evaluation_keys.serialize())
    return record("concrete-ml", name, parts[1:], keygen, keys, sizes, accuracy, exact)


def record(
    side: str,
    case: str,
    parts: list[Any],
    keygen: float,
    keys: int,
    sizes: tuple[int, ...],
    accuracy: float,
    exact: bool,
) -> dict[str, Any]:
    """Return one line of the results."""
    encrypt, serve, decrypt = (1e3 * float(t) for t in np.min(parts, axis=0))
    return {
        "side": side, "case": case, "total_ms": encrypt + serve + decrypt, "encrypt_ms": encrypt, "server_ms": serve,
        "decrypt_ms": decrypt, "keygen_ms": 1e3 * keygen, "key_bytes": keys, "query_bytes": sizes[0],
        "answer_bytes": sizes[1], "accuracy": accuracy, "exact": exact,
    }  # fmt: skip


def table(lines: list[dict[str, Any]]) -> str:
    """Return the results as Markdown, two lines a case, with the ratio."""
    head = "model | | total ms | encrypt | server | decrypt | keys sent once | query | answer | accuracy"
    out = [f"| {head} |", "|---" * 10 + "|"]
    for case in CASES:
        own = {line["side"]: line for line in lines if line["case"] == case}
        for side, line in own.items():
            ratio = ""
            if side == "tacit" and "concrete-ml" in own:
                ratio = f" (**{own['concrete-ml']['total_ms'] / line['total_ms']:.0f} x**)"
            cells = [
                case, side, f"{line['total_ms']:.1f}{ratio}", f"{line['encrypt_ms']:.1f}", f"{line['server_ms']:.1f}",
                f"{line['decrypt_ms']:.1f}", f"{line['key_bytes']:,}", f"{line['query_bytes']:,}",
                f"{line['answer_bytes']:,}", f"{line['accuracy']:.3f}",
            ]  # fmt: skip
            out.append("| " + " | ".join(cells) + " |")
    return "\n".join(out)


def main() -> None:
    """Run one side, or both in turn, case by case."""
    warnings.filterwarnings("ignore")
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--side", choices=["tacit", "concrete-ml"])
    parser.add_argument("--case", choices=list(CASES))
    parser.add_argument("--peer", help="the Python interpreter that has Concrete ML")
    parser.add_argument("--out", help="append JSON lines to this file")
    options = parser.parse_args()
    sides = {"tacit": tacit_side, "concrete-ml": concrete_side}
    if options.side:
        print(json.dumps(sides[options.side](options.case)), flush=True)
        return
    lines = []
    interpreters = {"tacit": sys.executable} | ({"concrete-ml": options.peer} if options.peer else {})
    for case in [options.case] if options.case else CASES:
        for side, python in interpreters.items():
            command = [python, __file__, "--side", side, "--case", case]
            text = subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip().split("\n")[-1]
            lines.append(json.loads(text))
            if options.out:
                with open(options.out, "a") as file:
                    file.write(text + "\n")
    print(table(lines))


if __name__ == "__main__":
    main()

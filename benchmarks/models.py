"""Models of real size: what a first and a later prediction cost, and how far they are off.

    python benchmarks/models.py                        # or `tacit bench --models`
    tacit bench --models --wan 40ms,350mbit            # the roles on hosts of their own, far apart; see wan.py

Bob's model on Alice's input: three processes with TLS 1.3 on one machine. Architectures are those of transformers, with
random weights; nothing is downloaded. Each model is a run of its own, which is stopped after `SECONDS`.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import re
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import floor
import measure
import side_by_side

HERE = Path(__file__).parent
SECONDS, FAR_SECONDS = 240, 900
"""That one model may take, all its predictions and the making of its weights among them; and over an emulated link."""
REPEATS = 2
"""Later predictions that are timed; the least counts."""

Row = dict[str, Any]


# --- the models: run as each role -------------------------------------------------------------------------------------


def image_net(layers: tuple[int, ...], kind: str) -> Callable[..., Any]:
    """A ResNet."""

    def make(t: Any, tiny: bool) -> Any:
        widths = [8, 16] if tiny else [64, 128, 256, 512]
        wide = widths if kind == "basic" else [4 * w for w in widths]
        sizes = {"embedding_size": widths[0], "hidden_sizes": wide, "depths": list(layers[: len(wide)])}
        return t.ResNetForImageClassification(t.ResNetConfig(layer_type=kind, num_labels=1000, **sizes))

    return make


def vision(t: Any, tiny: bool) -> Any:
    """ViT-B/16."""
    small = {"image_size": 32, "patch_size": 16, "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    return t.ViTForImageClassification(t.ViTConfig(num_labels=1000, **(small if tiny else {})))


def bert(t: Any, tiny: bool) -> Any:
    """BERT-base, with a classifier of two."""
    small = {"vocab_size": 100, "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    return t.BertForSequenceClassification(t.BertConfig(**(small if tiny else {})))


def gpt2(t: Any, tiny: bool) -> Any:
    """GPT-2, 124 million weights."""
    small = {"vocab_size": 100, "n_embd": 32, "n_layer": 1, "n_head": 2}
    return t.GPT2LMHeadModel(t.GPT2Config(**(small if tiny else {})))


def llama(t: Any, tiny: bool) -> Any:
    """A small Llama, 67 million weights."""
    sizes = {"hidden_size": 768, "intermediate_size": 2048, "num_hidden_layers": 6, "num_attention_heads": 12}
    if tiny:
        sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = t.LlamaConfig(vocab_size=100 if tiny else 32_000, num_key_value_heads=2 if tiny else 4, **sizes)
    config.tie_word_embeddings = True
    return t.LlamaForCausalLM(config)


def whisper(t: Any, tiny: bool) -> Any:
    """Whisper-tiny, for ten seconds of speech."""
    small = {"vocab_size": 100, "d_model": 32, "encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 2}
    small |= {"decoder_attention_heads": 2, "max_source_positions": 20, "encoder_ffn_dim": 64, "decoder_ffn_dim": 64}
    small |= {"pad_token_id": 1, "bos_token_id": 1, "eos_token_id": 1, "decoder_start_token_id": 1}
    return t.WhisperForConditionalGeneration(t.WhisperConfig(**(small if tiny else {"max_source_positions": 500})))


MODELS: dict[str, tuple[Callable[..., Any], str, int]] = {
    "resnet-18": (image_net((2, 2, 2, 2), "basic"), "image", 224),
    "resnet-50": (image_net((3, 4, 6, 3), "bottleneck"), "image", 224),
    "vit-b/16": (vision, "image", 224),
    "bert-base": (bert, "words", 128),
    "gpt-2": (gpt2, "words", 32),
    "gpt-2, a cached word": (gpt2, "next", 32),
    "llama, 67 M": (llama, "words", 32),
    "whisper-tiny, 10 s": (whisper, "speech", 1000),
}
"""How a model is made; what it is given, and how much of it."""
AIMS = {"resnet-18": 0.8, "resnet-50": 3.0, "gpt-2": 2.0, "gpt-2, a cached word": 0.4, "bert-base": 4.0}
"""Seconds of a later prediction."""


def inputs(kind: str, size: int, model: Any, tiny: bool) -> dict[str, Any]:
    """Alice's input, fresh at each call; of speech, the words so far beside it."""
    import torch

    if kind == "image":
        return {"pixel_values": torch.randn(1, 3, 32 if tiny else size, 32 if tiny else size)}
    words = model.config.vocab_size
    if kind == "speech":
        frames = torch.randn(1, model.config.num_mel_bins, 2 * model.config.max_source_positions)
        return {"input_features": frames, "decoder_input_ids": torch.randint(words, (1, 4))}
    return {"input_ids": torch.randint(words, (1, min(size, 8) if tiny else size))}


def settled(model: Any, given: dict[str, Any]) -> Any:
    """The model with the statistics of its batch norms as a pass over two inputs leaves them."""
    import torch
    from torch import nn

    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = 1.0
    if norms:
        model.train()(**{name: torch.cat([x, torch.randn_like(x)]) for name, x in given.items()})
    return model.eval()


def play(options: argparse.Namespace) -> None:
    """Predict as this process's role; write a row."""
    import torch
    from tacit_tasks import tell

    import tacit

    warnings.simplefilter("ignore")
    import transformers as t

    t.logging.set_verbosity_error()
    make, kind, size = MODELS[options.model]
    torch.manual_seed(0)
    with tacit.session() as session, torch.no_grad():
        base = forget_peak()
        model = make(t, options.tiny)
        model = settled(model, inputs(kind, size, model, options.tiny))
        weights = 4 * sum(p.numel() for p in model.parameters())
        rounds = REPEATS + 1
        given = [inputs(kind, size, model, options.tiny) for _ in range(1 if kind == "next" else rounds)]
        wanted = [told(model(**each)).flatten() for each in given] if tacit.is_role("bob") else []
        secret = tacit.share(model, owner="bob")
        words = model.config.vocab_size if kind in ("next", "words") else 0
        if kind == "next":
            steps = given[0]["input_ids"]
            wanted = following(model, steps, rounds) if wanted else []
        del model
        forget_peak()  # what a role needs to predict, not to make weights up and share them
        tell(session, "bob")
        seconds, costs, outputs = [], [], []
        cache, upcoming = None, None
        if kind == "next":
            started = secret(input_ids=owned(steps, words), use_cache=True)
            cache, upcoming = started.past_key_values, started.logits[:, -1:].argmax(-1)
        for k in range(rounds):
            each = {"input_ids": upcoming} if kind == "next" else shared(given[k], words)
            tell(session, "bob")
            before = session.meter.cost
            measure.wait_until(float(tell(session, "alice", str(measure.appointment()).encode())))
            start = time.perf_counter()
            if kind == "next":
                out = secret(**each, past_key_values=cache, use_cache=True)
                cache, upcoming = out.past_key_values, out.logits[:, -1:].argmax(-1)
                upcoming.share.settle()
            else:
                out = secret(**each)
            scores = told(out)
            scores.share.settle()
            mine = time.perf_counter() - start
            costs.append(session.meter.cost - before)
            seconds.append(max(float(tell(session, party, str(mine).encode())) for party in session.parties))
            outputs.append(tacit.reveal(scores, to="bob"))
        peaks = {
            role: float(tell(session, role, str(measure.peak_bytes() - base).encode()))
            for role in (*session.parties, *session.helpers)
        }
        off = 0.0
        if wanted:
            off = max(
                float((a.flatten() - b).abs().max() / b.abs().max()) for a, b in zip(outputs, wanted, strict=True)
            )
        off = float(tell(session, "bob", str(off).encode()))
        if tacit.is_role("alice"):
            later = min(range(1, rounds), key=lambda k: seconds[k])
            row = {"model": options.model, "weights_bytes": weights, "error": off, "peak_bytes": peaks}
            for name, k in (("first", 0), ("later", later)):
                row[name] = {
                    "seconds": seconds[k],
                    "rounds": costs[k].rounds,
                    "party_bytes": max(costs[k].online.values()),
                    "producer_bytes": costs[k].producer,
                }
            measure.Rows(options.out).write(**row)


def told(out: Any) -> Any:
    """The scores of an output: of text, those of the last word."""
    return out.logits[:, -1] if out.logits.dim() == 3 else out.logits


def following(model: Any, steps: Any, count: int) -> list[Any]:
    """The scores of the words that follow, one after the other, of the plain model."""
    import torch

    found: list[Any] = []
    for _ in range(count + 1):
        scores = told(model(input_ids=steps))
        found.append(scores.flatten())
        steps = torch.cat([steps, scores.argmax(-1, keepdim=True)], 1)
    return found[1:]


def owned(x: Any, words: int) -> Any:
    """Alice's tensor; of words, which are known to be some."""
    import tacit

    if x.is_floating_point():
        return tacit.share(x, owner="alice", shape=tuple(x.shape))
    return tacit.share(x, owner="alice", shape=tuple(x.shape), classes=words) if words else x


def shared(given: dict[str, Any], words: int) -> dict[str, Any]:
    """All that a model is given, as secrets; the words that a decoder of speech has written so far are public."""
    return {name: owned(x, words) for name, x in given.items()}


def forget_peak() -> int:
    """Begin anew with the most memory that this process has had; what it has now, in bytes."""
    Path("/proc/self/clear_refs").write_text("5")
    return measure.peak_bytes()


# --- all of them ------------------------------------------------------------------------------------------------------


def run(*, folder: Path, threads: int, tiny: bool, only: str = "", wan: str | None = None) -> str:
    """Measure, write models.jsonl and models-table.md, and return the table. `only` names models; others stay.

    Over an emulated link, the files are models-wan.jsonl and models-wan-table.md.

    Raises `ValueError` if the package whose models these are is not there, or for a link that is none.
    """
    if importlib.util.find_spec("transformers") is None:
        raise ValueError(
            "these are models of the package transformers, which is not installed: pip install 'tacit[models]'"
        )
    far = None if wan is None else side_by_side.Far.made(wan)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / ("models.jsonl" if far is None else "models-wan.jsonl")
    before = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    path.write_text("".join(json.dumps(row) + "\n" for row in before if only and not re.search(only, row["model"])))
    for name in MODELS:
        if re.search(only, name):
            measured(name, path, threads, tiny, far)
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    rows.sort(key=lambda row: list(MODELS).index(row["model"]))
    text = f"{described(rows, tiny, far)}\n\n{table(rows)}"
    path.with_name(f"{path.stem}-table.md").write_text(f"# Models of real size\n\n{text}\n")
    return text


def measured(name: str, path: Path, threads: int, tiny: bool, far: side_by_side.Far | None = None) -> None:
    """Run one model; a row that says why, if it does not come to an end."""
    foreign = measure.Foreign()
    prefix, relayed, seconds = ([], [], SECONDS) if far is None else (far.prefix, far.relayed, FAR_SECONDS)
    command = [*prefix, sys.executable, str(HERE / "launch.py"), "--threads", str(threads), *relayed]
    command += [str(HERE / "models.py"), "--", "--model", name, "--out", str(path), *(["--tiny"] if tiny else [])]
    seen = path.read_text().count("\n")
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
        env={**os.environ, "OMP_NUM_THREADS": str(threads)},
    )  # fmt: skip
    why = f"stopped after {seconds} s"
    try:
        said, _ = process.communicate(timeout=seconds)
        why = next((line for line in reversed(said.splitlines()) if "Error" in line or "error" in line), "it ended")
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, 9)
        process.communicate()
    lines = path.read_text().splitlines()
    if len(lines) == seen:
        lines.append(json.dumps({"model": name, "failed": why[:200]}))
    row = json.loads(lines[-1])
    row["foreign_cpus"] = round(foreign.cpus(), 2)
    if far is not None:
        row["wan"] = str(far.conditions)
        for when in ("first", "later") if "failed" not in row else ():
            row[when]["least_seconds"] = least(row[when], far)
    path.write_text("".join(line + "\n" for line in [*lines[:-1], json.dumps(row)]))


def least(cost: Row, far: side_by_side.Far) -> float:
    """Seconds that rounds and bytes take at least over a link: as in floor.py, without what is computed."""
    link = far.conditions
    return floor.travel(cost["rounds"], cost["party_bytes"], cost["producer_bytes"], link.round_trip, link.rate)


def described(rows: list[Row], tiny: bool, far: side_by_side.Far | None) -> str:
    """Say what was measured, and how calm the machine was."""
    others = max((row["foreign_cpus"] for row in rows), default=0.0)
    link = ""
    if far is not None:
        link = (
            f" Over an emulated link of {far.conditions}, {'of hosts of their own' if far.prefix else 'relayed'}; the "
            "least is half a round trip a round, and what one link must carry, at its rate."
        )
    return (
        f"Bob's model on Alice's input: three processes with TLS 1.3 on one machine of {os.cpu_count()} cores, one "
        f"thread each; architectures of transformers{', made tiny' if tiny else ''}, with random weights, "
        "which Bob has sent under masks when he shared them. The first prediction gets the memory that later ones use "
        "again. Memory is the most that a role had while it "
        "predicted, beyond PyTorch itself, beside what plain float32 weights take; "
        f"the error is the largest, as a part of the largest score.{link} Others used {others:.2f} CPUs at most."
    )


def table(rows: list[Row]) -> str:
    """Return the Markdown table, a line a model."""
    far = any("wan" in row for row in rows)
    titles = ["model", "first, s", "later, s", *(["least, later, s", "times the least"] if far else ["aim, s"])]
    titles += ["rounds, first", "rounds, later", "a party, MB, first"]
    titles += ["a party, MB, later", "producer, MB", "input's owner, GB", "model's owner, GB", "producer, GB"]
    titles += ["plain weights, GB", "error"]
    lines = ["| " + " | ".join(titles) + " |", "|---|" + "---:|" * (len(titles) - 1)]
    for row in rows:
        if "failed" in row:
            lines.append(f"| {row['model']} | {row['failed']} " + "| " * (len(titles) - 2) + "|")
            continue
        first, later, peaks = row["first"], row["later"], list(row["peak_bytes"].values())
        cells = [row["model"], f"{first['seconds']:.3g}", f"{later['seconds']:.3g}"]
        if far:
            cells += [f"{later['least_seconds']:.3g}", f"{later['seconds'] / later['least_seconds']:.2f}"]
        else:
            aim = AIMS.get(row["model"])
            cells += [f"{aim:g}" if aim else ""]
        cells += [f"{first['rounds']:,}", f"{later['rounds']:,}", f"{first['party_bytes'] / 1e6:.3g}"]
        cells += [f"{later['party_bytes'] / 1e6:.3g}", f"{later['producer_bytes'] / 1e6:.3g}"]
        cells += [f"{size / 1e9:.2g}" for size in (*peaks, row["weights_bytes"])]
        lines.append("| " + " | ".join([*cells, f"{row['error']:.2g}"]) + " |")
    return "\n".join(lines)


def main() -> None:
    """Play one model as a role; without one, measure all."""
    parser = argparse.ArgumentParser(description="Models of real size.")
    parser.add_argument("--model", choices=list(MODELS))
    parser.add_argument("--out")
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--only", default="")
    parser.add_argument("--wan")
    options = parser.parse_args()
    if options.model:
        return play(options)
    print(run(folder=HERE / "results", threads=1, tiny=options.tiny, only=options.only, wan=options.wan))


if __name__ == "__main__":
    main()

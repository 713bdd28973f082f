"""Write the parts of the documentation that are rendered from the code, between their markers.

python docs/generate.py            # rewrite them in place
python docs/generate.py --check    # only say which pages are out of date

A page holds `<!-- generated: NAME -->` and `<!-- end -->`; everything between is replaced.
"""

from __future__ import annotations

import ast
import dataclasses
import importlib
import inspect
import json
import math
import pkgutil
import re
import sys
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path

import activations
import census
import click
import refused
import support
import yardstick

import tacit.aten
import tacit.functions
from tacit import errors
from tacit.cli.main import COMMANDS, cli
from tacit.products import ClientLimits
from tacit.protocols.additive.protocol import Additive
from tacit.protocols.additive.scheme import PRODUCER
from tacit.protocols.schemes import PROTOCOLS
from tacit.session import config
from tacit.session.meter import Cost
from tacit.session.registered import block_kinds
from tacit.tensor.registry import HANDLERS
from tacit.tensor.signatures import DIFFERENCES, NOT_ASKED
from tacit.watch.claims import CLAIMS

PAGES = Path(__file__).parent
BLOCK = re.compile(r"(<!-- generated: (\S+) -->\n).*?(<!-- end -->)", re.DOTALL)


def table(head: list[str], rows: list[list[str]]) -> str:
    """Return a Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def overloads() -> str:
    """Return every ATen operator with a secret counterpart, a line for each file that has some."""
    families: dict[str, set[str]] = {}
    for overload, handler in HANDLERS.items():
        module = inspect.unwrap(handler).__module__.removeprefix("tacit.").replace(".", "/")
        families.setdefault(module, set()).add(str(overload).removeprefix("aten.").rsplit(".", 1)[0])
    rows = [[f"`{module}.py`", ", ".join(f"`{name}`" for name in sorted(families[module]))] for module in families]
    return f"{len(HANDLERS)} overloads.\n\n" + table(["family", "operators"], sorted(rows))


def operators() -> str:
    """Return what is claimed of each operator, and what it costs; those that cost nothing in one sentence."""
    domains = {name: _facts(inspect.getdoc(function) or "").get("Domain", "") for name, function in _functions()}
    found = support.operators()
    free = [name for name, one in found.items() if one.passes is not None and one.passes.free]
    rows = []
    for name in [name for name in found if name not in free]:
        claim = CLAIMS[name]
        domain = domains[claim.function] if claim.function else ""
        walked = str(claim.between) if claim.between else ""
        rows.append([f"`{name}`", domain, walked, f"2^{math.log2(claim.error):g}", *_cost(found[name])])
    local = f"These {len(free)} are exact and need no other role: " + ", ".join(f"`{name}`" for name in free)
    head = ["operator", "domain", "walked", "error", *COST]
    return f"{local}.\n\nThese {len(rows)} take rounds:\n\n" + table(head, rows)


COST = ["run on", "rounds", "bytes", "producer"]


def _cost(found: support.Support) -> list[str]:
    """Shapes, rounds and bytes for each number; forward, and what the backward pass adds."""
    if found.passes is None:
        return [", ".join(found.shapes), "", "", ""]
    passes, elements = found.passes, found.passes.elements
    costs = [cost for cost in (passes.forward, passes.backward) if cost is not None]

    def cell(read: Callable[[Cost], float]) -> str:
        numbers = [read(cost) for cost in costs]
        return " + ".join(f"{n:.3g}" if n < 100 else f"{n:,.0f}" for n in numbers) if any(numbers) else "0"

    return [
        ", ".join(found.shapes),
        cell(lambda cost: cost.rounds),
        cell(lambda cost: max(cost.online.values()) / elements),
        cell(lambda cost: cost.producer / elements),
    ]


def costs() -> str:
    """Return the declared cost of each primitive; the conformance suite holds them against the meter."""
    rows = []
    for name, cost in Additive.costs.items():
        sent = [f"{cost.online_bits(parties) / 8:g}" for parties in (2, 3, 5)]
        rows.append([f"`{name}`", str(cost.rounds), *sent, f"{cost.helper_bits[PRODUCER] / 8:g}", cost.note])
    head = ["primitive", "rounds", "2 parties", "3 parties", "5 parties", "producer", "note"]
    return table(head, rows)


def roles() -> str:
    """Return what each protocol declares of its roles."""
    rows = []
    for name, kind in PROTOCOLS.items():
        scheme = kind.scheme
        parties = f"{scheme.least} or more" if scheme.most is None else f"{scheme.least} to {scheme.most}"
        helpers = "; ".join(f"`{helper.name}` {helper.does} and holds no data" for helper in scheme.helpers)
        rows.append([f"`{name}`", parties, helpers or "none", scheme.threat])
    return table(["protocol", "parties", "other roles", "promise"], rows)


def functions() -> str:
    """Return what the docstrings of interactive functions say of domain, error and cost."""
    rows = []
    for name, function in _functions():
        facts = _facts(inspect.getdoc(function) or "")
        if "Cost" in facts:
            rows.append([f"`{name}`", *(facts.get(key, "") for key in ("Domain", "Error", "Cost"))])
    return table(["function", "domain", "error", "cost"], sorted(rows))


def _functions() -> Iterator[tuple[str, object]]:
    """The public names of all modules of `tacit.functions`."""
    for info in pkgutil.iter_modules(tacit.functions.__path__):
        module = importlib.import_module(f"tacit.functions.{info.name}")
        yield from ((name, getattr(module, name)) for name in module.__all__)


def forms() -> str:
    """Return what each activation function costs, by running it; its error, from the clear."""
    rows = []
    for name, (module, bound) in activations.FORMS.items():
        there, back = activations.measured(module)
        error = activations.error(module, bound)
        off = {"nn.Sigmoid()": "0.00008, everywhere", "nn.ReLU()": "exact"}.get(name)
        off = off or f"{error:.2g} on [-{bound}, {bound}]"
        pairs = [f"{a:g} + {b:g}" for a, b in zip(there, back, strict=True)]
        rows.append([f"`{name}`", off, *pairs])
    return table(["function", "error", "rounds", "bytes a party", "bytes, producer"], rows)


def modules() -> str:
    """Return which modules and losses work, by running each beside plain PyTorch, and what they cost."""
    parts = []
    for family, found in support.modules().items():
        rows = [[f"`{name}`", one.how, *_cost(one)] for name, one in found.items()]
        parts.append(f"### {family}\n\n" + table(["module", "on secrets", *COST], rows))
    return "\n\n".join(parts)


def _facts(docstring: str) -> dict[str, str]:
    """Read `Key: text.` facts out of a docstring."""
    text = " ".join(docstring.split())
    parts = re.split(r"(?:^|(?<=\.) )(Shape|Domain|Error|Cost|Reveals|Ref): ", text)
    return {key: value.split("   ")[0].strip().rstrip(".") for key, value in zip(parts[1::2], parts[2::2], strict=True)}


def steps() -> str:
    """Return what each phase of a step of training costs, for the networks of the yardstick."""
    rows = []
    for name in yardstick.NETWORKS:
        costs = list(yardstick.costs(name, "SGD").values())
        whole = costs[0] + costs[1] + costs[2]
        sent = [f"{cost.online['each party'] / 1e6:.3g}" for cost in (*costs, whole)]
        rows.append([name, *(str(cost.rounds) for cost in (*costs, whole)), *sent, f"{whole.producer / 1e6:.3g}"])
    parts = ["forward", "backward", "update", "together"]
    head = ["network", *(f"{part}, rounds" for part in parts), *(f"{part}, MB" for part in parts), "producer, MB"]
    return table(head, rows)


def worth() -> str:
    """Return what is computed in how many rounds, by what a round is worth."""
    rows = []
    for name in ("a step of A", *yardstick.LAYERS):
        cells = []
        for worth in yardstick.WORTHS:
            if name in yardstick.LAYERS:
                cost = yardstick.layer(name, worth)
            else:
                first, *rest = yardstick.costs("A", "SGD", worth).values()
                cost = sum(rest, first)
            sizes = (cost.online["each party"] / 1e6, cost.producer / 1e6)
            cells.append(" · ".join([str(cost.rounds), *(f"{size:.3g}" for size in sizes)]))
        rows.append([name, *cells])
    return table(["rounds · a party's MB · the producer's MB", *(f"{worth:,}" for worth in yardstick.WORTHS)], rows)


def optimizers() -> str:
    """Return what a step of each optimizer costs."""
    rows = []
    for name in yardstick.UPDATES:
        rounds, online, producer = yardstick.update(name)
        rows.append([f"`{name}`", str(rounds), f"{online:.3g}", f"{producer:.3g}"])
    return table(["optimizer", "rounds", "bytes", "producer"], rows)


def settings() -> str:
    """Return the settings of a config with their defaults and docstrings."""
    shared = {"protocol", "frac_bits", "round_bytes", "seed", "range_check"}
    rows = []
    for name, default, text in chain.from_iterable(map(_attributes, (config.Config, *block_kinds()))):
        if name in ("parties", "helpers", "addresses", "machines", "rank", "blocks"):
            continue
        kind = "shared" if name in shared else "local"
        rows.append([f"`{name}`", kind, f"`{json.dumps(default)}`", text.removeprefix("Shared. ")])
    return table(["setting", "", "default", "meaning"], rows)


def client_limits() -> str:
    """Return the limits for clients with their defaults and docstrings."""
    rows = [[f"`{name}`", f"`{json.dumps(default)}`", text] for name, default, text in _attributes(ClientLimits)]
    return table(["limit", "default", "meaning"], rows)


def _attributes(cls: type) -> Iterator[tuple[str, object, str]]:
    """The annotated attributes of a class with default and docstring."""
    tree = ast.parse(inspect.getsource(cls)).body[0]
    assert isinstance(tree, ast.ClassDef)
    for place, node in enumerate(tree.body[:-1]):
        after = tree.body[place + 1]
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and isinstance(after, ast.Expr):
            if not isinstance(after.value, ast.Constant):
                continue
            default = cls.__dataclass_fields__[node.target.id].default  # type: ignore[attr-defined]
            default = {} if default is dataclasses.MISSING else default  # an object of settings with a table of its own
            yield node.target.id, default, " ".join(str(after.value.value).split())


def exceptions() -> str:
    """Return the tree of exceptions."""
    drawing = (errors.__doc__ or "").split("::\n\n", 1)[1].rsplit("\n\n", 1)[0]
    return f"```text\n{inspect.cleandoc(drawing)}\n```"


def commands() -> str:
    """Return the help of every command."""
    parts = []
    for name in COMMANDS:
        command = cli.get_command(click.Context(cli), name)
        assert command is not None
        parts.append(_help(f"tacit {name}", command))
        if isinstance(command, click.Group):
            parts += [_help(f"tacit {name} {inner}", command.commands[inner]) for inner in command.commands]
    return "\n\n".join(parts)


def _help(name: str, command: click.Command) -> str:
    context = click.Context(command, info_name=name, terminal_width=100)
    return f"### {name}\n\n```text\n{command.get_help(context)}\n```"


def benchmarks() -> str:
    """Return the newest results of the benchmark that are kept, without their headings and plots."""
    titles = {
        "table": "On one machine",
        "wan-table": "Over an emulated wide-area link",
        "growth-table": "How cost grows",
        "small-table": "One small operator",
        "trees-table": "Boosted trees",
        "join-table": "Joins",
    }
    parts = []
    for name, title in titles.items():
        path = PAGES.parent / "benchmarks" / "results" / f"{name}.md"
        if path.exists():
            lines = path.read_text(encoding="utf-8").splitlines()[1:]
            text = "\n".join(line for line in lines if not line.startswith("![")).strip()
            parts.append(f"## {title}\n\n{text}")
    return "\n\n".join(parts)


def alone() -> str:
    """Return what two parties alone were measured to take, without the heading."""
    path = PAGES.parent / "benchmarks" / "results" / "alone" / "alone-table.md"
    return "\n".join(path.read_text(encoding="utf-8").splitlines()[2:]) if path.exists() else "Not measured yet."


def federated(name: str) -> str:
    """Return what rounds or stages of federations were measured to take."""
    path = PAGES.parent / "benchmarks" / "results" / f"federated-{name}.md"
    return path.read_text(encoding="utf-8").strip() if path.exists() else "Not measured yet."


def differences() -> str:
    """Return what differs from PyTorch on purpose, in shape or dtype, or is not asked about, and why."""
    rows = [[f"`{func}`", f"results after the {count}. differ: {why}"] for func, (count, why) in DIFFERENCES.items()]
    rows += [[f"`{func}`", f"not asked: {why}"] for func, why in NOT_ASKED.items()]
    return table(["operator", "why"], rows)


PARTS: dict[str, Callable[[], str]] = {
    "alone": alone,
    "benchmarks": benchmarks,
    "commands": commands,
    "costs": costs,
    "differences": differences,
    "exceptions": exceptions,
    "federated-rounds": lambda: federated("rounds"),
    "federated-stages": lambda: federated("stages"),
    "forms": forms,
    "functions": functions,
    "modules": modules,
    "operators": operators,
    "optimizers": optimizers,
    "overloads": overloads,
    "census": census.summary,
    "refused": refused.summary,
    "client-limits": client_limits,
    "roles": roles,
    "settings": settings,
    "steps": steps,
    "worth": worth,
}


def render(page: str) -> str:
    """Return the text of a page with its generated parts as they are now."""
    return BLOCK.sub(lambda block: f"{block[1]}\n{PARTS[block[2]]()}\n\n{block[3]}", page)


def main() -> None:
    """Rewrite the pages, or say which are out of date."""
    outdated = []
    for path in sorted(PAGES.rglob("*.md")):
        page = path.read_text(encoding="utf-8")
        fresh = render(page)
        if fresh != page:
            outdated.append(path.name)
            if "--check" not in sys.argv:
                path.write_text(fresh, encoding="utf-8")
    if outdated and "--check" in sys.argv:
        sys.exit(f"out of date: {', '.join(outdated)}; run `make docs`")


if __name__ == "__main__":
    main()

"""Importing Tacit changes nothing about PyTorch, and after a session all of PyTorch is as it was."""

from __future__ import annotations

import gc
import json
import subprocess
import sys
from collections.abc import Iterator

import pytest
import torch

import tacit
from tacit.errors import TacitError
from tacit.session import changes

PROGRAM = '''
import json, sys
import torch

def content(x):
    if isinstance(x, dict):
        return id(x), [(str(k), id(v)) for k, v in x.items()]
    if type(x).__name__ == "DynamoStance":
        return repr(x)
    return (id(x), sorted(map(id, x))) if isinstance(x, (list, set)) else id(x)

def pytorch():
    """All that has a name in PyTorch, in its modules and in the classes of those, and the kernels it has."""
    found = {}
    for place, module in sorted(sys.modules.items()):
        if place.split(".")[0] != "torch" or place.startswith(("torch._ops", "torch.ops", "torch.classes")):
            continue
        for name, value in list(vars(module).items()):
            if isinstance(value, type) and value.__module__ == place:
                found |= {(place, name, part): id(x) for part, x in vars(value).items() if part != "__doc__"}
            if not name.startswith("__"):
                found[place, name, ""] = content(value)
    for key in ("PythonTLSSnapshot", "Python", "CPU", "AutogradCPU"):
        kernels = torch._C._dispatch_get_registrations_for_dispatch_key(key)
        found["kernels", key, ""] = sorted(name for name in kernels if "tacit::" not in name)
    return found

def different(before, after):
    changed = [k for k, value in before.items() if after.get(k) != value]
    changed += [k for k in after.keys() - before if k[1] == "Tensor"]
    return sorted(".".join(filter(None, k)) for k in changed)

def work(share):
    model = share(torch.nn.Linear(3, 2))
    optimizer = torch.optim.Adam(model.parameters(), foreach=True)
    model(share(torch.ones(4, 3))).square().sum().backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()

work(lambda x: x)  # by then PyTorch has loaded what it loads when it is used
clean, told = pytorch(), {}
import tacit, tacit.nn
tacit.share  # with the first name that is used comes all the rest
told["imported"] = different(clean, clean := pytorch())
with tacit.session(seed=1):
    with tacit.session(seed=1):
        work(tacit.share)
    told["open"] = different(clean, pytorch())
told["ended"] = different(clean, pytorch())
try:
    with tacit.session(seed=1):
        raise ValueError
except ValueError:
    told["failed"] = different(clean, pytorch())
print(json.dumps(told))
'''

OWN = {
    "torch._library.custom_ops.OPDEF_TO_LIB",
    "torch.jit._builtins._builtin_table",
    "torch.library._defs",
    "torch.library._impls",
}
"""PyTorch's tables of what others define: those of `torch.ops.tacit` are there after the import."""
LAZY = {"torch._opaque_base._FakeScriptObject_cls", "torch.utils.hooks.RemovableHandle.next_id"}
"""What PyTorch itself remembers, and counts."""
STAYS = {"torch.Tensor.data"}
"""What would end the process, with a secret that has outlived its session."""
OPEN = {
    "kernels.PythonTLSSnapshot",
    "torch.Tensor.data",
    "torch._dynamo.eval_frame._stance",
    "torch.compile",
    "torch.optim.optimizer._global_optimizer_post_hooks",
    "torch.optim.optimizer._global_optimizer_pre_hooks",
    "torch.utils._foreach_utils._foreach_supported_types",
}


def test_only_an_open_session_changes_anything_about_pytorch() -> None:
    run = [sys.executable, "-W", "ignore", "-c", PROGRAM]
    told = json.loads(subprocess.run(run, check=True, capture_output=True, text=True).stdout)

    assert set(told["imported"]) <= OWN
    assert set(told["open"]) >= OPEN
    assert set(told["ended"]) <= LAZY | STAYS
    assert set(told["failed"]) <= LAZY | STAYS


def test_a_secret_is_no_data_of_a_plain_tensor_after_its_session_either() -> None:
    with tacit.session():
        secret = tacit.share(torch.ones(2))
    plain = torch.zeros(2)

    with pytest.raises(TacitError, match="without memory"):
        plain.data = secret
    assert torch.equal(plain, torch.zeros(2))


def test_a_change_that_fails_takes_back_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    log = []

    def one() -> Iterator[None]:
        log.append("made")
        yield
        log.append("taken back")

    def failing() -> Iterator[None]:
        raise RuntimeError("no")
        yield

    monkeypatch.setattr(changes, "_changes", [one, failing])
    monkeypatch.setattr(changes, "_open", 0)
    monkeypatch.setattr(changes, "_made", None)

    with pytest.raises(RuntimeError, match="no"):
        changes.begin()
    assert log == ["made", "taken back"]

    changes._changes.pop()
    changes.begin()
    log.clear()
    changes.while_open(one)
    assert log == ["made"]
    changes.end()
    assert log == ["made", "taken back", "taken back"]


def test_the_first_session_makes_the_changes_and_the_last_takes_them_back(monkeypatch: pytest.MonkeyPatch) -> None:
    log = []

    def one() -> Iterator[None]:
        log.append("made")
        yield
        log.append("taken back")

    monkeypatch.setattr(changes, "_changes", [one])
    monkeypatch.setattr(changes, "_open", 0)
    monkeypatch.setattr(changes, "_made", None)

    for _ in range(2):
        changes.begin()
    changes.end()
    assert log == ["made"]
    changes.end()
    assert log == ["made", "taken back"]


@pytest.mark.usefixtures("no_other_session")
@pytest.mark.parametrize(("before", "during"), [(700, 10_000), (50_000, 50_000), (0, 0)])
def test_circles_are_looked_for_less_often_while_a_session_is_open(before: int, during: int) -> None:
    kept = gc.get_threshold()
    try:
        gc.set_threshold(before, 10, 10)
        with tacit.session(seed=1):
            with tacit.session(seed=1):
                pass
            assert gc.get_threshold() == (during, 10, 10)
        assert gc.get_threshold() == (before, 10, 10)
    finally:
        gc.set_threshold(*kept)


@pytest.mark.usefixtures("no_other_session")
def test_a_session_whose_ledger_fails_takes_back_the_changes_too(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: object, how: str) -> None:
        raise OSError("no space left")

    session = tacit.session(seed=1)
    monkeypatch.setattr(type(session.ledger), "end", full)
    with pytest.raises(OSError, match="no space left"), session:
        pass

    assert changes._open == 0
    assert changes._made is None

"""What a step reads is known before it runs, and read again before each call: whatever else is refused, by its line."""

from __future__ import annotations

import collections
import functools
import math
import random
import types
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import tacit
from tacit.errors import NotReplayed
from tacit.replay import Compiled
from tacit.replay.program import world_of

RATE = 0.5
last: Any = None


class Rates(dict):  # type: ignore[type-arg]
    __getattr__ = dict.__getitem__  # type: ignore[assignment]


class Base:
    pass


class Derived(Base):
    pass


class Settings:
    rate = 0.5


def by_subclass() -> tuple[Any, Callable[[], None]]:
    rates = Rates(lr=0.5)
    return lambda x: x * rates.lr, lambda: rates.update(lr=0.0)


def by_counter() -> tuple[Any, Callable[[], None]]:
    rates = collections.Counter(lr=1)
    return lambda x: x * rates["lr"], lambda: rates.update(lr=-1)


def by_import() -> tuple[Any, Callable[[], None]]:
    import tests.replay.test_world as here

    def step(x: Tensor) -> Tensor:
        from tests.replay import test_world

        return x * test_world.RATE

    return step, lambda: setattr(here, "RATE", 0.0)


def by_getattr() -> tuple[Any, Callable[[], None]]:
    settings = Settings()
    return lambda x: x * getattr(settings, "ra" + "te"), lambda: setattr(settings, "rate", 0.0)


def by_attribute() -> tuple[Any, Callable[[], None]]:
    settings = Settings()
    return lambda x: x * settings.rate, lambda: setattr(settings, "rate", 0.0)


def by_bound_method() -> tuple[Any, Callable[[], None]]:
    rates = {"lr": 0.5}
    get = rates.get
    return lambda x: x * get("lr"), lambda: rates.update(lr=0.0)


def by_absence() -> tuple[Any, Callable[[], None]]:
    return lambda x: x * getattr(Derived(), "rate", 0.5), lambda: setattr(Base, "rate", 0.0)


def by_partial() -> tuple[Any, Callable[[], None]]:
    part = functools.partial(lambda x, rate: x * rate, rate=0.5)
    return part, lambda: part.keywords.update(rate=0.0)


def by_partial_inside() -> tuple[Any, Callable[[], None]]:
    part = functools.partial(lambda x, rate: x * rate, rate=0.5)
    return lambda x: part(x), lambda: part.keywords.update(rate=0.0)


def by_numpy() -> tuple[Any, Callable[[], None]]:
    values = iter([0.5] * 4 + [0.0] * 9)
    np_random = types.SimpleNamespace(rand=lambda: next(values))
    return lambda x: x * np_random.rand(), lambda: None


def by_attribute_of_a_tensor() -> tuple[Any, Callable[[], None]]:
    p = tacit.share(torch.ones(3), owner="alice")
    p.mult = 0.5  # type: ignore[attr-defined]
    return lambda x: x * p.mult, lambda: setattr(p, "mult", 0.0)  # type: ignore[attr-defined]


def by_list() -> tuple[Any, Callable[[], None]]:
    rates = [0.5]
    return lambda x: x * rates[0], lambda: rates.__setitem__(0, 0.0)


def by_random() -> tuple[Any, Callable[[], None]]:
    draws = random.Random(1)
    return lambda x: x * draws.random() * 0, lambda: None


def by_property() -> tuple[Any, Callable[[], None]]:
    hidden = [0.5]

    class Net(nn.Module):
        @property
        def rate(self) -> float:
            return hidden[0]

        def forward(self, x: Tensor) -> Tensor:
            return x * self.rate

    net = Net()
    return lambda x: net(x), lambda: hidden.__setitem__(0, 0.0)


def by_getattribute() -> tuple[Any, Callable[[], None]]:
    hidden = [0.5]

    class Net(nn.Module):
        def __getattr__(self, name: str) -> Any:
            return hidden[0] if name == "rate" else super().__getattr__(name)

        def forward(self, x: Tensor) -> Tensor:
            return x * self.rate

    net = Net()
    return lambda x: net(x), lambda: hidden.__setitem__(0, 0.0)


def by_public_tensor() -> tuple[Any, Callable[[], None]]:
    rate = torch.tensor([0.5])
    return lambda x: x * rate, lambda: rate.zero_()


def by_hook() -> tuple[Any, Callable[[], None]]:
    rates = [0.5]
    net = nn.Identity()
    net.register_forward_hook(lambda module, args, out: out * rates[0])
    return lambda x: net(x), lambda: rates.__setitem__(0, 0.0)


def by_forward_of_its_own() -> tuple[Any, Callable[[], None]]:
    rates = [0.5]
    net = nn.Identity()
    net.forward = lambda x: x * rates[0]  # type: ignore[method-assign]
    return lambda x: net(x), lambda: rates.__setitem__(0, 0.0)


def by_comprehension() -> tuple[Any, Callable[[], None]]:
    rates = {"lr": 0.5}
    return lambda x: x * sum([2 * v for v in rates.values()]), lambda: rates.update(lr=0.0)


def by_default() -> tuple[Any, Callable[[], None]]:
    rates = [0.5]

    def step(x: Tensor, rates: list[float] = rates) -> Tensor:
        return x * rates[0]

    return step, lambda: rates.__setitem__(0, 0.0)


def by_generator() -> tuple[Any, Callable[[], None]]:
    def rates() -> Iterator[float]:
        yield from [0.5] * 4
        yield 0.0

    found = rates()
    return lambda x: x * next(found, 0.0), lambda: None


def by_math() -> tuple[Any, Callable[[], None]]:
    return lambda x: x * math.floor(0.5), lambda: None


REFUSED = [
    *(by_subclass, by_counter, by_import, by_getattr, by_attribute, by_bound_method, by_absence, by_partial),
    *(by_partial_inside, by_numpy, by_attribute_of_a_tensor, by_list, by_random, by_property, by_getattribute),
    *(by_public_tensor, by_hook, by_forward_of_its_own, by_comprehension, by_default, by_generator, by_math),
]


@pytest.fixture(autouse=True)
def nothing_stays(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr("tests.replay.test_world.RATE", 0.5)
    yield
    vars(Base).get("rate") is None or delattr(Base, "rate")


@pytest.fixture(scope="module")
def x() -> Iterator[Tensor]:
    with tacit.session():
        yield tacit.share(torch.tensor([2.0, 4.0, 8.0]), owner="alice")


@pytest.mark.parametrize("make", REFUSED, ids=lambda f: f.__name__)
def test_what_cannot_be_watched_runs_as_it_is_written(make: Any, x: Tensor) -> None:
    step, change = make()
    compiled = tacit.compile(step)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = [compiled(x[k : k + 1]) for k in (0, 1)]
        change()
        found.append(compiled(x[2:]))

    assert compiled.why_not
    assert compiled.replayed == 0
    with pytest.raises(NotReplayed):
        tacit.compile(step, strict=True)(x)


def storing_in_a_global() -> Any:
    def step(x: Tensor) -> Tensor:
        global last
        last = x * 2
        return x * 3

    return step


def storing_in_an_attribute() -> Any:
    settings = Settings()

    def step(x: Tensor) -> Tensor:
        settings.last = x * 2  # type: ignore[attr-defined]
        return x * 3

    return step


def storing_in_an_item() -> Any:
    kept: dict[str, Any] = {}

    def step(x: Tensor) -> Tensor:
        kept["last"] = x * 2
        return x * 3

    return step


def storing_in_a_closure() -> Any:
    total = 0

    def step(x: Tensor) -> Tensor:
        nonlocal total
        total += 1
        return x * 3

    return step


def appending_by_a_bound_method() -> Any:
    losses: list[int] = []
    append = losses.append

    def step(x: Tensor) -> Tensor:
        append(1)
        return x * 3

    return step


def taking_the_next() -> Any:
    following = iter(range(99)).__next__
    return lambda x: x * following()


def printing() -> Any:
    def step(x: Tensor) -> Tensor:
        print("a step")
        return x * 3

    return step


def appending_to_an_argument() -> Any:
    def step(x: Tensor, kept: Any = None) -> Tensor:
        return x * 3 if kept is None else kept.append(x)

    return step


@pytest.mark.parametrize(
    "make",
    [
        *(storing_in_a_global, storing_in_an_attribute, storing_in_an_item, storing_in_a_closure),
        *(appending_by_a_bound_method, taking_the_next, printing, appending_to_an_argument),
    ],
    ids=lambda f: f.__name__,
)
def test_what_leaves_something_else_behind_is_refused(make: Any) -> None:
    with pytest.raises(NotReplayed, match="line"):
        world_of(make())


def test_a_refusal_names_what_and_where(x: Tensor) -> None:
    settings = Settings()
    compiled = tacit.compile(lambda x: x * settings.rate)

    with pytest.warns(UserWarning, match=r"line \d+: settings.rate: what a Settings holds is not replayed"):
        compiled(x)


class Net(nn.Module):
    """A module whose program can be read."""

    gain = 1.0

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(3, 2), nn.Linear(2, 2)])
        self.head = nn.Sequential(nn.ReLU(), nn.Linear(2, 1))
        self.factor = 1.0
        self.activation = torch.tanh

    def scaled(self, x: Tensor) -> Tensor:
        return x * self.factor * self.gain

    def forward(self, x: Tensor) -> Tensor:
        for k, layer in enumerate(self.layers):
            if k > 0:
                x = self.activation(x)
            x = layer(x)
        with torch.no_grad():
            shift = x.sum() * 0.0
        return self.scaled(self.head(x)) + shift


@pytest.fixture(scope="module")
def net(x: Tensor) -> nn.Module:
    return tacit.share(Net(), owner="alice")


CHANGES: dict[str, Callable[[Any, Any], None]] = {
    "factor": lambda net, opt: setattr(net, "factor", 2.0),
    "factor of the class": lambda net, opt: setattr(Net, "gain", 2.0),
    "attribute over that of the class": lambda net, opt: setattr(net, "gain", 2.0),
    "activation": lambda net, opt: setattr(net, "activation", torch.relu),
    "method": lambda net, opt: setattr(Net, "scaled", lambda self, x: x),
    "method of the object": lambda net, opt: setattr(net, "scaled", lambda x: x),
    "forward": lambda net, opt: setattr(Net, "forward", lambda self, x: x),
    "forward of the object": lambda net, opt: setattr(net, "forward", lambda x: x),
    "layer": lambda net, opt: net.layers.__setitem__(1, nn.Identity()),
    "one more layer": lambda net, opt: net.layers.append(nn.Identity()),
    "hook": lambda net, opt: net.head.register_forward_hook(lambda *_: None) and None,
    "hook of a layer": lambda net, opt: net.head[1].register_forward_pre_hook(lambda *_: None) and None,
    "gradient's hook": lambda net, opt: net.head[1].weight.register_hook(lambda g: g) and None,
    "frozen": lambda net, opt: net.head[1].weight.requires_grad_(False) is None,
    "mode": lambda net, opt: net.eval() and None,
    "kind of rate": lambda net, opt: opt.param_groups[0].__setitem__("lr", torch.tensor(0.2)),
    "decay": lambda net, opt: opt.param_groups[0].__setitem__("weight_decay", 0.2),
    "momentum": lambda net, opt: opt.param_groups[0].__setitem__("momentum", 0.9),
    "group": lambda net, opt: opt.add_param_group({"params": [nn.Parameter(tacit.share(torch.ones(1), owner="bob"))]}),
    "step of the object": lambda net, opt: setattr(opt, "step", lambda: None),
    "hook of the optimizer": lambda net, opt: opt.register_step_pre_hook(lambda *_: None) and None,
    "class's step": lambda net, opt: setattr(torch.optim.SGD, "step", lambda self: None),
    "PyTorch's layer": lambda net, opt: setattr(nn.Linear, "forward", lambda self, x: x),
    "PyTorch's function": lambda net, opt: setattr(nn.functional, "linear", lambda x, *_: x),
}


@pytest.mark.parametrize("what", CHANGES)
def test_what_a_step_reads_is_read_again(what: str, x: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    for owner, name in ((Net, "gain"), (Net, "scaled"), (Net, "forward"), (torch.optim.SGD, "step")):
        monkeypatch.setattr(owner, name, vars(owner)[name])  # which puts them back
    monkeypatch.setattr(nn.Linear, "forward", nn.Linear.forward)
    monkeypatch.setattr(nn.functional, "linear", nn.functional.linear)
    net = tacit.share(Net(), owner="alice")
    opt = torch.optim.SGD(net.parameters(), lr=0.1)

    def step(x: Tensor) -> None:
        opt.zero_grad()
        net(x).sum().backward()
        opt.step()

    world = world_of(step)
    assert len(world.secrets) == 6
    assert not world.changed()

    CHANGES[what](net, opt)

    assert world.changed(), what


def shadowed(x: Tensor) -> Tensor:
    return x * RATE


def test_names_are_read_where_they_stand(monkeypatch: pytest.MonkeyPatch) -> None:
    rate, shift = 0.5, (1, 2.0)
    functions = types.SimpleNamespace(step=lambda x: x * rate + shift[1] * abs(-1.0))
    for step, change in (
        (functions.step, lambda: None),
        (shadowed, lambda: monkeypatch.setitem(globals(), "RATE", 1.5)),
    ):
        world = world_of(step)
        assert not world.changed()
        change()
        assert bool(world.changed()) == (step is shadowed)
    world = world_of(functions.step)
    rate = 0.25
    assert world.changed() == "rate"
    rate, shift = 0.5, (1, 3.0)
    assert world.changed() == "shift"
    shift = (1, 2.0)
    assert not world.changed()
    monkeypatch.setitem(globals(), "abs", lambda x: x)
    assert world.changed() == "abs"


def test_zeros_of_two_signs_and_kinds_of_numbers_are_told_apart() -> None:
    rate: Any = 0.0
    world = world_of(lambda x: x * rate)
    for other in (-0.0, 0, False):
        rate = other
        assert world.changed() == "rate"
    rate = 0.0
    assert not world.changed()


def test_functions_without_a_source_are_refused() -> None:
    space: dict[str, Any] = {}
    exec("def step(x):\n    return x * 2\n", space)

    with pytest.raises(NotReplayed, match="source"):
        world_of(space["step"])


def test_a_swapped_code_is_refused_or_seen() -> None:
    def step(x: Tensor) -> Tensor:
        return x * 2

    world = world_of(step)
    step.__code__ = (lambda x: x * 3).__code__

    assert world.changed()


def test_two_lambdas_of_one_line_are_told_apart() -> None:
    rate, hidden = 2.0, [1]
    row = [lambda x: x * rate, lambda x: x * hidden[0], lambda x: (lambda: x)()]

    assert not world_of(row[0]).changed()
    for function in row[1:]:
        with pytest.raises(NotReplayed):
            world_of(function)


def recursive(x: Tensor) -> Tensor:
    return recursive(x)


def of_rows(*rows: Tensor) -> Tensor:
    return torch.cat(rows)


def unset(x: Tensor, flag: bool = True) -> Tensor:
    if flag:
        y = x
    return y


def one_of_two(x: Tensor, flag: bool = True) -> Tensor:
    f = torch.relu if flag else torch.tanh
    return f(x)


def truth_of_a_module(x: Tensor) -> Tensor:
    return x if nn.Linear else x * 2


def reading_a_gradient(x: Tensor) -> Any:
    return x.grad


def leaving_a_loop(x: Tensor) -> Tensor:
    for _ in range(3):
        break
    return x * 2


def spreading(x: Tensor) -> Tensor:
    return of_rows(*[x, x])


@pytest.mark.parametrize(
    "function",
    [recursive, unset, one_of_two, truth_of_a_module, reading_a_gradient, leaving_a_loop, spreading],
    ids=lambda f: f.__name__,
)
def test_programs_that_are_not_straight_are_refused(function: Any) -> None:
    with pytest.raises(NotReplayed):
        world_of(function)


def test_compiled_functions_are_told_apart() -> None:
    assert isinstance(tacit.compile(strict=True)(lambda x: x), Compiled)
    assert tacit.compile(fullgraph=True)(lambda x: x).strict


def same_list(x: Tensor, a: Any, b: Any) -> Tensor:
    return x * 2 if a is b else x * 3


class Private(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.__rate = 0.5

    def forward(self, x: Tensor) -> Tensor:
        return x * self.__rate


def test_identities_and_private_names_are_refused() -> None:
    net = Private()
    for function in (same_list, lambda x: net(x)):
        with pytest.raises(NotReplayed, match="line"):
            world_of(function)

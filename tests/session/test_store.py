"""Stores: what a crypto-producer makes ahead of a run, used once, by the program that it is for, or not at all."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

import tacit
from tacit import private_files
from tacit.errors import ConfigError, DataError, DivergenceError, RevealError, TacitError
from tacit.net.transcript import Transcript
from tacit.protocols.additive.scheme import PRODUCER
from tacit.session.config import Config
from tacit.session.launch import Launch, start
from tacit.session.preparation import Preparation
from tacit.session.session import Session
from tacit.session.store import Store, records_of

pytestmark = pytest.mark.unchecked

Program = Callable[[Session], object]


@pytest.fixture(autouse=True)
def _in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Begun stores are noted under `data`, in the working directory of an embedded run."""
    monkeypatch.chdir(tmp_path)
    yield
    start(None)


def relus(session: Session) -> Tensor:
    x = tacit.share(torch.arange(-6.0, 6.0).reshape(4, 3), owner="alice", shape=(4, 3))
    w = tacit.share(torch.eye(3) * 3, owner="bob", shape=(3, 3))
    y = torch.relu(x @ w)
    return tacit.reveal(y * y, to="bob", name="y")


def every_kind(session: Session) -> Tensor:
    """All correlations there are."""
    x = tacit.share(torch.linspace(-2, 2, 12).reshape(4, 3), owner="alice", shape=(4, 3))
    w = tacit.share(torch.randn(3, 2), owner="bob", shape=(3, 2))
    y = (x @ w) * (x[:, :2] * 0.5) / 3
    bits = (x > 0) & (x < 1)
    z = torch.where(bits, x, x * x).sigmoid().sin() + x.exp() + torch.nn.functional.gelu(x) + x.softmax(1)
    z = z * x.max() + bits.all() + x.argmax() + torch.dropout(x, 0.5, True)
    return tacit.reveal(torch.cat([y.flatten(), z.flatten()]), to="alice", name="z")


def prepared(program: Program, folder: str = "store", **settings: object) -> Preparation:
    """Run a program as the crypto-producer alone."""
    preparation = Preparation(Path(folder))
    start(Launch(Config.embedded(**settings), PRODUCER, preparation=preparation))
    try:
        with tacit.session() as session:
            program(session)
    finally:
        start(None)
    return preparation


def run(program: Program, folder: str | None = None, **arguments: object) -> tuple[object, object]:
    """Run a program embedded, from a store where there is one, and return its result and its cost."""
    with tacit.session(prepared=folder, **arguments) as session:
        return program(session), session.meter.cost


@pytest.mark.parametrize("parties", [("alice", "bob"), ("alice", "bob", "carol")])
def test_a_prepared_run_is_a_produced_one_without_the_producer(parties: tuple[str, ...]) -> None:
    expected, cost = run(relus, parties=parties)
    Preparation(Path("store")).abandon()
    preparation = Preparation(Path("store"))
    start(Launch(Config.embedded(parties), PRODUCER, preparation=preparation))
    with tacit.session() as session:
        relus(session)
        assert session.meter.cost.producer == cost.producer
    start(None)

    result, online = run(relus, "store", parties=parties)

    assert torch.equal(result, expected)
    assert (online.rounds, online.online, online.producer) == (cost.rounds, cost.online, 0)
    assert cost.producer < sum(preparation.sizes.values()) < cost.producer + 5000


def test_every_correlation_can_be_stored() -> None:
    def seeded(session: Session) -> Tensor:
        torch.manual_seed(3)
        return every_kind(session)

    expected, cost = run(seeded)
    prepared(seeded)

    result, online = run(seeded, "store")

    assert (result - expected).abs().max() < 2e-2
    assert (online.rounds, online.online, online.producer) == (cost.rounds, cost.online, 0)


def test_a_store_serves_one_run(tmp_path: Path) -> None:
    prepared(relus)
    shutil.copytree("store", "copy")
    run(relus, "store")

    for folder in ("store", "copy"):
        with pytest.raises(ConfigError, match="has been begun, and a store serves one run"):
            tacit.session(prepared=folder)
    records = records_of(Config.embedded(), "alice")
    shutil.rmtree(records)
    with pytest.raises(ConfigError, match="has been begun"):
        tacit.session(prepared="store")
    assert not any(bytes(32) not in path.read_bytes() for path in Path("store").iterdir())  # the keys are wiped


def test_a_store_whose_run_broke_off_is_used_up() -> None:
    prepared(relus)

    with pytest.raises(KeyError), tacit.session(prepared="store"):
        raise KeyError
    with pytest.raises(ConfigError, match="has been begun"):
        tacit.session(prepared="store")


@pytest.mark.parametrize("moment", ["pwrite", "fsync"])
def test_a_store_that_was_hardly_begun_is_used_up(moment: str, monkeypatch: pytest.MonkeyPatch) -> None:
    prepared(relus)
    records_of(Config.embedded(), "alice").mkdir(parents=True)

    def crash(*arguments: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(os, moment, crash)
        with pytest.raises(KeyboardInterrupt):
            tacit.session(prepared="store")

    with pytest.raises(ConfigError, match="has been begun"):
        tacit.session(prepared="store")


def test_nothing_is_taken_before_the_store_is_marked(monkeypatch: pytest.MonkeyPatch) -> None:
    prepared(relus)
    done: list[str] = []
    for name in ("pwrite", "fsync"):
        real = getattr(os, name)
        monkeypatch.setattr(os, name, lambda *a, name=name, real=real: (done.append(name), real(*a))[1])
    for name in ("stream", "take"):
        real = getattr(Store, name)
        monkeypatch.setattr(Store, name, lambda *a, name=name, real=real: (done.append(name), real(*a))[1])

    run(relus, "store")

    first = done.index("stream")
    assert set(done[:first]) == {"pwrite", "fsync"}
    assert set(done[first:]) == {"stream", "take"}


# --- other programs ---------------------------------------------------------------------------------------------------


def rows(count: int) -> Program:
    def program(session: Session) -> object:
        x = tacit.share(torch.ones(count), owner="alice", shape=(count,))
        return tacit.reveal(torch.relu(x), to="bob")

    return program


def products(count: int) -> Program:
    def program(session: Session) -> None:
        x = tacit.share(torch.ones(5), owner="alice", shape=(5,))
        for _ in range(count):
            x = x * x
            (x + 0).relu()

    return program


@pytest.mark.parametrize(
    ("there", "here", "operator"),
    [
        (rows(4), rows(5), r"tacit.share\(a tensor: \(5,\)|relu"),
        (products(2), products(3), "mul|relu"),
        (products(3), products(2), "ends its program at operator"),
        (rows(5), relus, "matmul|mm|relu"),
    ],
)
def test_another_program_is_told_which_operator_differs(there: Program, here: Program, operator: str) -> None:
    prepared(there)

    with pytest.raises(DivergenceError, match=f"was prepared for another program: .*({operator})"):
        run(here, "store")


def test_another_piece_of_the_same_size_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    prepared(lambda session: tacit.share(torch.ones(5), owner="alice", shape=(5,)).sin())

    with pytest.raises(DivergenceError, match=r"sin.*exp|exp.*sin"):
        run(lambda session: tacit.share(torch.ones(5), owner="alice", shape=(5,)).exp(), "store")


def test_public_values_are_those_that_were_prepared() -> None:
    def program(value: float) -> Program:
        return lambda session: (tacit.share(torch.ones(5), owner="alice", shape=(5,)) * torch.tensor(value)).relu()

    prepared(program(2.0))

    with pytest.raises(DivergenceError, match="another program"):
        run(program(3.0), "store")


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        ({"frac_bits": 20}, r"'tacit.frac_bits' 16, and this run has 20"),
        ({"range_check": True}, r"'tacit.range_check' False"),
        ({"round_bytes": 10**6}, r"'tacit.round_bytes' 200000, and this run has 1000000"),
        ({"parties": ("alice", "bob", "carol")}, "the parties"),
        ({"seed": 4}, "another seed than 4"),
    ],
)
def test_other_settings_are_refused(arguments: dict[str, object], what: str) -> None:
    prepared(relus, seed=3)
    shutil.copy("store/alice.store", "store/carol.store")

    with pytest.raises(ConfigError, match=what):
        tacit.session(prepared="store", **arguments)
    if "seed" not in arguments:
        run(relus, "store", seed=3)


def test_a_run_has_the_seed_that_its_preparation_had() -> None:
    drawn = []
    prepared(lambda session: drawn.append(torch.rand(3)))

    run(lambda session: drawn.append(torch.rand(3)), "store")

    assert torch.equal(*drawn)


def test_ranges_are_checked_in_a_prepared_run() -> None:
    def program(scale: float) -> Program:
        def check(session: Session) -> None:
            layer = torch.nn.Linear(3, 2)
            torch.nn.init.ones_(layer.weight)
            layer = tacit.share(layer, owner="alice")
            with torch.no_grad():
                layer(tacit.share(torch.full((4, 3), scale), owner="bob", shape=(4, 3)))

        return check

    prepared(program(0.0), range_check=True)
    prepared(program(0.0), "other", range_check=True)

    run(program(1.0), "store", range_check=True)

    with pytest.raises(TacitError, match="have left the range"):
        run(program(3e4), "other", range_check=True)


# --- damaged and wrong files ------------------------------------------------------------------------------------------


def asked() -> Iterator[tuple[str, int, Transcript]]:
    """What a program asks for: correlations, their sizes, and where it is then."""
    transcript = Transcript()
    for name, size in (("digits", 9), ("truncation", 16), ("", 0)):
        transcript.record(f"operator for {name}")
        yield name, size, transcript


def taken(path: Path, config: Config) -> list[bytes]:
    """All that a party takes of its file."""
    store, out = Store(path, config, "alice"), []
    try:
        for name, size, transcript in asked():
            if name:
                out.append(store.take(name, size, transcript).numpy().tobytes())
        store.finish(transcript)
    finally:
        store.abandon()
    return out


def test_a_flipped_byte_is_found_wherever_it_is() -> None:
    config, preparation = Config.embedded(), Preparation(Path("store"))
    preparation.begin(3, config, "5" * 32)
    for name, size, transcript in asked():
        if name:
            preparation.add(0, name, torch.arange(size, dtype=torch.uint8), transcript)
    preparation.finish(transcript)
    path = Path("store/alice.store")
    whole = path.read_bytes()
    assert taken(path, config) == [bytes(range(9)), bytes(range(16))]

    with path.open("rb+", buffering=0) as file:
        for at, byte in enumerate(whole):
            os.pwrite(file.fileno(), bytes([byte ^ 1 << random.randrange(8)]), at)
            with pytest.raises((DataError, ConfigError)):
                taken(path, config)
            os.pwrite(file.fileno(), bytes([byte]), at)


@pytest.mark.parametrize("left", [0, 5, 20, 300, -1])
def test_a_truncated_file_is_refused_before_it_is_begun(left: int) -> None:
    prepared(relus)
    path = Path("store/bob.store")
    whole = path.read_bytes()
    path.write_bytes(whole[:left])

    with pytest.raises(DataError, match=r"is not a whole store|is no store"):
        tacit.session(prepared="store")
    path.write_bytes(whole)
    run(relus, "store")


def test_a_flipped_byte_ends_the_run() -> None:
    prepared(relus)
    path = Path("store/alice.store")
    data = bytearray(path.read_bytes())
    data[-200] ^= 4
    path.write_bytes(data)

    with pytest.raises(DataError, match=r"alice.store is damaged"):
        run(relus, "store")


def test_files_of_others_are_refused() -> None:
    prepared(relus)
    prepared(relus, "other")
    shutil.copytree("store", "mixed")
    shutil.copy("other/bob.store", "mixed/bob.store")
    shutil.copytree("store", "swapped")
    shutil.copy("store/alice.store", "swapped/bob.store")
    Path("open").mkdir()
    shutil.copy("store/alice.store", "open/alice.store")
    Path("open/alice.store").chmod(0o640)
    private_files.write(Path("junk"), b"tacit " * 100)

    for folder, what in {
        "mixed": "files of two stores",
        "swapped": "is the store of 'alice', and this is bob",
        "open": "can be read by others",
        "nowhere": "there is no store nowhere",
        "data": "there is no store data/alice.store",
        "junk": "is no store",
    }.items():
        Path("data").mkdir(exist_ok=True)
        with pytest.raises((ConfigError, DataError), match=what):
            tacit.session(prepared=folder)
    run(relus, "store")


def test_a_store_in_use_is_refused() -> None:
    prepared(relus)

    with tacit.session(prepared="store") as session:
        with pytest.raises(ConfigError, match=r"in use by another process|has been begun"):
            tacit.session(prepared="store")
        relus(session)


# --- preparing --------------------------------------------------------------------------------------------------------


def test_files_are_private_and_nothing_is_left_of_a_preparation_that_fails() -> None:
    prepared(relus)

    with pytest.raises(KeyError):
        prepared(lambda session: relus(session) or {}["x"], "other")

    assert sorted(os.listdir()) == ["store"]
    assert Path("store").stat().st_mode & 0o777 == 0o700
    assert {path.name: path.stat().st_mode & 0o777 for path in Path("store").iterdir()} == {
        "alice.store": 0o600,
        "bob.store": 0o600,
    }
    with pytest.raises(ConfigError, match="there is something at store already"):
        Preparation(Path("store"))


def test_a_store_is_for_one_session() -> None:
    preparation = Preparation(Path("store"))
    start(Launch(Config.embedded(), PRODUCER, preparation=preparation))
    tacit.session().close()

    with pytest.raises(ConfigError, match="a second session, and a store is for one"):
        tacit.session()


def test_what_needs_an_owner_is_refused_while_preparing() -> None:
    def shape(session: Session) -> None:
        tacit.share(None, owner="alice")

    def read(session: Session) -> None:
        tacit.read_csv("x.csv", owner="alice")

    with pytest.raises(ConfigError, match=r"write tacit.share\(…, owner='alice', shape=…, dtype=…\)"):
        prepared(shape)
    with pytest.raises(ConfigError, match="alice tells the others something"):
        prepared(read)


def test_what_no_value_is_needed_for_goes_on_while_preparing() -> None:
    def program(session: Session) -> None:
        x = tacit.share(torch.ones(2, 3), owner="alice", shape=(2, 3))
        value = tacit.reveal(x * 2, name="x")
        assert value.shape == (2, 3)
        assert (value + 1).T[0].shape == (2,)
        total = value.sum().item()
        assert f"{total:.3f} {value} {round(total, 2) / 2 + 1} {value.tolist()[0][0]}".count("unknown") == 4
        assert tacit.reveal(x, to="bob") is None
        assert not tacit.is_role("alice")
        assert tacit.is_role("crypto-producer")
        layer = tacit.share(torch.nn.Linear(2, 2), owner="bob")
        assert tacit.reveal({"x": x, "layer": layer})["layer"].weight.shape == (2, 2)

    prepared(program)


@pytest.mark.parametrize(
    "decide",
    [
        lambda x, value: bool(value.sum() > 3),
        lambda x, value: value.sum().item() > 3,
        lambda x, value: int(value.sum()),
        lambda x, value: value.numpy(),
        lambda x, value: value[value > 0],
        lambda x, value: torch.equal(value, torch.ones(2, 3)),
        lambda x, value: x * value,
        lambda x, value: value - x,
        lambda x, value: torch.cat([x, value]),
        lambda x, value: x.add_(value.mean()),
        lambda x, value: tacit.share(value),
        lambda x, value: x * value.mean().item(),
        lambda x, value: value.mean().item() - x,
        lambda x, value: f"{float(value[0, 0]):.2f}",
        lambda x, value: x[int(value[0, 0])],
        lambda x, value: value[0, 0].item() in (1.0, 2.0),
        lambda x, value: range(value.long().sum()),
    ],
)
def test_what_a_revealed_value_decides_is_refused_while_preparing(decide: Callable[[object, Tensor], object]) -> None:
    def program(session: Session) -> None:
        x = tacit.share(torch.ones(2, 3), owner="alice", shape=(2, 3))
        decide(x, tacit.reveal(x * 2, name="the sum"))

    with pytest.raises(RevealError, match="depends on the value of 'the sum'"):
        prepared(program)
    assert not os.listdir()

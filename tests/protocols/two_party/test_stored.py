"""Transfers on disk: made together before a run, each end in its party's own store, used by one run or by none."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

import tacit
from tacit.errors import ConfigError, DataError, DivergenceError, TacitError
from tacit.net.rehearsal import Rehearsal
from tacit.net.transcript import Transcript
from tacit.protocols.two_party.transfers import Pair, Tables, Transfers
from tacit.session.config import Config
from tacit.session.launch import Launch, start
from tacit.session.preparation import Preparation
from tacit.session.session import Session
from tacit.session.store import Shelf

from .apart import apart
from .test_privacy import CHI_SQUARE, chi_square

pytestmark = pytest.mark.unchecked

Program = Callable[[Session], object]
ROLES = ["alice", "bob"]


@pytest.fixture(autouse=True)
def _in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    yield
    start(None)


def prepared(program: Program, folder: str = "store", seed: int | None = None) -> Preparation:
    """Make the stores of both parties in this process."""
    preparation = Preparation(Path(folder))
    start(Launch(Config.embedded(roles=ROLES, seed=seed), "alice", preparation=preparation))
    try:
        with tacit.session() as session:
            assert not any(tacit.is_role(role) for role in ROLES)
            program(session)
    finally:
        start(None)
    return preparation


def run(program: Program, folder: str | None = None) -> tuple[object, object]:
    with tacit.session(roles=ROLES, prepared=folder) as session:
        return program(session), session.meter.cost


def joined(session: Session) -> Tensor:
    """Columns of two owners, so that nobody is alone with what follows; many elements, and few."""
    x = tacit.share(torch.linspace(-2, 2, 2400), owner="alice", shape=(2400,))
    y = tacit.share(torch.linspace(3, -1, 2400), owner="bob", shape=(2400,))
    z = (x + y).relu() * (x - y)
    return tacit.reveal((z.view(60, 40) * 50).softmax(1).argmax(1) + (z[:5] * z[5:10]).sigmoid().sum(), to="alice")


def every_kind(session: Session) -> Tensor:
    """All primitives there are."""
    x = tacit.share(torch.linspace(-2, 2, 12).reshape(4, 3), owner="alice", shape=(4, 3))
    w = tacit.share(torch.randn(3, 2), owner="bob", shape=(3, 2))
    y = (x @ w) * (x[:, :2] * 0.5) / 3
    bits = (x > 0) & (x < 1)
    z = torch.where(bits, x, x * x).sigmoid().sin() + x.exp() + torch.nn.functional.gelu(x) + x.softmax(1)
    z = z * x.max() + bits.all() + x.argmax() + torch.dropout(x, 0.5, True)
    y = y * z[:, :2] + (y @ w.T).exp()[:, :2]
    return tacit.reveal(torch.cat([y.flatten(), z.flatten()]), to="alice", name="z")


def few(session: Session) -> Tensor:
    x = tacit.share(torch.arange(-6.0, 6.0).reshape(4, 3), owner="alice", shape=(4, 3))
    w = tacit.share(torch.eye(3) * 3, owner="bob", shape=(3, 3))
    y = torch.relu(x @ w)
    return tacit.reveal(y * y, to="bob", name="y")


def steps(count: int) -> Program:
    def program(session: Session) -> None:
        x = tacit.share(torch.ones(5), owner="alice", shape=(5,)) + tacit.share(torch.ones(5), owner="bob", shape=(5,))
        for _ in range(count):
            x = x * x
            (x + 0).relu()

    return program


@pytest.mark.parametrize("program", [every_kind, joined])
def test_a_prepared_run_is_one_that_makes_nothing(program: Program) -> None:
    def seeded(session: Session) -> object:
        torch.manual_seed(3)
        return program(session)

    expected, cost = run(seeded)
    preparation = prepared(seeded)

    result, online = run(seeded, "store")

    assert isinstance(result, Tensor)
    assert (result - expected).abs().max() < 2e-2
    assert (online.rounds, online.online) == (cost.rounds, cost.online)
    assert online.ahead_seconds == 0
    assert sum(online.prepared.values()) < 400_000  # of ciphertexts, the public keys
    assert set(preparation.sizes) == set(ROLES)


def test_a_store_serves_one_run_and_its_rest_is_random() -> None:
    prepared(joined)
    shutil.copytree("store", "copy")
    run(joined, "store")

    for folder in ("store", "copy"):
        with pytest.raises(ConfigError, match="has been begun, and a store serves one run"):
            tacit.session(roles=ROLES, prepared=folder)
    for path in Path("store").iterdir():
        data = path.read_bytes()
        assert bytes(32) in data  # the key is wiped
        middle = torch.frombuffer(bytearray(data[len(data) // 3 :][:8192]), dtype=torch.uint8)
        assert chi_square(middle) < CHI_SQUARE


def test_a_store_whose_run_broke_off_is_used_up() -> None:
    prepared(few)

    with pytest.raises(KeyError), tacit.session(roles=ROLES, prepared="store"):
        raise KeyError
    with pytest.raises(ConfigError, match="has been begun"):
        tacit.session(roles=ROLES, prepared="store")


@pytest.mark.parametrize(
    ("there", "here", "operator"),
    [
        (joined, few, "relu"),
        (steps(2), steps(3), "mul|relu"),
        (steps(3), steps(2), "ends its program at operator"),
    ],
)
def test_another_program_is_told_which_operator_differs(there: Program, here: Program, operator: str) -> None:
    prepared(there)

    with pytest.raises(DivergenceError, match=f"was prepared for another program: .*({operator})"):
        run(here, "store")


def test_stores_of_another_protocol_or_seed_are_refused() -> None:
    prepared(few, seed=3)

    with pytest.raises(ConfigError, match=r"'tacit.protocol' two-party, and this run has additive"):
        tacit.session(prepared="store")
    with pytest.raises(ConfigError, match="another seed than 4"):
        tacit.session(roles=ROLES, prepared="store", seed=4)
    run(few, "store")


def test_a_flipped_byte_ends_the_run() -> None:
    prepared(joined)
    path = Path("store/bob.store")
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 4
    path.write_bytes(data)

    with pytest.raises(DataError, match=r"bob.store is damaged"):
        run(joined, "store")


def test_what_an_owner_would_tell_and_what_values_decide_is_refused() -> None:
    def told(session: Session) -> None:
        tacit.share(torch.ones(3), owner="alice")
        tacit.read_table("people.csv", owner="alice", key="id")

    def decided(session: Session) -> None:
        x = tacit.share(torch.ones(3), owner="alice", shape=(3,))
        if tacit.reveal(x.sum(), to="all", name="sum") > 2:
            x.relu()

    for program, message in ((told, "tacit.read"), (decided, "depends on the value of 'sum'")):
        with pytest.raises(TacitError, match=message):
            prepared(program)
    assert not list(Path().iterdir())


def test_no_data_is_in_a_preparation_even_if_an_owner_gives_some() -> None:
    seen: list[Tensor] = []

    def program(session: Session) -> None:
        x = tacit.share(torch.full((4,), 77.0), owner="alice", shape=(4,))
        seen.extend(x.share.content.parts())
        assert session.prepare_ahead(3) is False

    prepared(program)

    assert len(seen) == 2
    assert not any(t.any() for t in seen)


@pytest.mark.parametrize("links", [True, False])
def test_a_party_puts_its_file_beside_the_others_and_overwrites_nothing(
    links: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, transcript = Config.embedded(roles=ROLES), Transcript()

    def no_links(*arguments: object) -> None:
        raise PermissionError

    if not links:
        monkeypatch.setattr(Path, "hardlink_to", no_links)
    for name in ROLES:
        preparation = Preparation(Path("store"), "", name)
        preparation.begin(3, config, "5" * 32)
        preparation.finish(transcript)
        preparation.abandon()

    assert sorted(path.name for path in Path("store").iterdir()) == ["alice.store", "bob.store"]
    assert [path.name for path in Path().iterdir()] == ["store"]
    if links:
        first, second = (Preparation(Path("other"), "", "alice") for _ in range(2))
        for preparation in (first, second):
            preparation.begin(3, config, "5" * 32)
        first.finish(transcript)
        with pytest.raises(DataError, match="cannot be written"):
            second.finish(transcript)
        second.abandon()
        assert sorted(path.name for path in Path().iterdir()) == ["other", "store"]


# --- apart ------------------------------------------------------------------------------------------------------------


def orders(transfers: Transfers) -> list[object]:
    made = [transfers.order_words(0, 100), transfers.order_bits(1, 24, 3), transfers.order_digits(0, 33, 2)]
    transfers.make([*made, transfers.order_words(1, 0)])
    return [entry for order in made for entry in order.entries]


def test_each_party_writes_its_own_ends_and_they_fit() -> None:
    config = Config.embedded(roles=ROLES)

    def prepare(session: Session, index: int) -> None:
        name = ROLES[index]
        preparation = Preparation(Path("store"), "", name)
        with Session(Rehearsal(session.transport), config, preparation) as rehearsal:
            rehearsal.agree_seed()
            assert (rehearsal.party_indices, rehearsal.role) == ((index,), "nobody")
            orders(Transfers(rehearsal))
        assert list(preparation.sizes) == [name]

    def use(session: Session, index: int) -> list[object]:
        store = Shelf("store", config, [ROLES[index]])
        with Session(session.transport, config, store) as run:
            store.begin(config)
            run.agree_seed()
            return orders(Transfers(run))

    apart(prepare)
    assert sorted(path.name for path in Path("store").iterdir()) == ["alice.store", "bob.store"]
    alice, bob = apart(use)

    (words, bits, tables), (got_words, had_bits, got_tables) = alice, bob
    assert isinstance(words, Pair)
    assert torch.equal(got_words.pad, torch.where(got_words.choice == 1, words.one, words.zero))
    assert isinstance(had_bits, Pair)
    assert torch.equal(bits.pad, had_bits.zero ^ bits.choice & (had_bits.zero ^ had_bits.one))
    assert isinstance(tables, Tables)
    assert torch.equal(got_tables.pad, (tables.pads >> 2 * got_tables.choice & 3).to(torch.uint8))
    with pytest.raises(ConfigError, match=r"alice.store already"):
        Preparation(Path("store"), "", "alice")

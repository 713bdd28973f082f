"""Services of owners who have the columns themselves: a client says who it is about, and alone gets the score."""

from __future__ import annotations

import datetime
import json
import threading
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas
import pytest
import torch
from torch import nn

import tacit
from tacit.api import embedded
from tacit.errors import ConfigError, DataError, Overloaded, Refused, UnusableTable
from tacit.predictions import columns
from tacit.predictions.columns import Asked, Cases, Named
from tacit.serve import Client, Service
from tacit.session.config import Config
from tacit.session.trial import write_trial

from .conftest import Deploy

pytest.importorskip("duckdb")

BANK = {"no": ["DE-1", "DE-2", "de-3 "], "income": [1.0, 2.0, None], "job": ["clerk", None, "smith"]}
BORN = np.array(["1975-01-01", "1980-02-03", "1990-05-05"], dtype="datetime64[D]")
BUREAU = {"last": ["Ann", "Ben", "Cem"], "born": BORN, "late": [0, 3, 1]}
MODEL = nn.Linear(4, 1).requires_grad_(False)
ANN, BEN = ("ann", datetime.date(1975, 1, 1)), ("Ben ", "1980-02-03")


def preparation() -> tacit.prepare.Table:
    return tacit.prepare.Table(impute="zero", categories="one-hot").fit({k: BANK[k] for k in ("income", "job")})


def expected(income: float, job: str | None, late: float) -> torch.Tensor:
    return MODEL(torch.tensor([[income, float(job == "clerk"), float(job == "smith"), late]]))[0]


class Serving:
    """A service in a thread, of a bank and a bureau whose keys differ."""

    def __init__(self, config: Config, **settings: Any) -> None:
        self.config, self.settings = config, settings
        self.error: BaseException | None = None
        self.started = threading.Event()
        self.thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        try:
            with embedded(self.config):
                bank = tacit.read_table(BANK, "server0", key="no").prepared(preparation())
                bureau = tacit.read_table(BUREAU, "server1", key=["last", "born"])
                self.service = Service(tacit.share(MODEL), tables=[bank, bureau], **self.settings)
                self.service.run(self.started.set)
        except BaseException as error:
            self.error = error
        self.started.set()

    def __enter__(self) -> Serving:
        self.thread.start()
        assert self.started.wait(60)
        assert self.error is None, self.error
        return self

    def __exit__(self, *_: object) -> None:
        self.service.stop()
        self.thread.join(30)
        assert not self.thread.is_alive()
        assert self.error is None, self.error

    @property
    def desks(self) -> list[Named]:
        """What takes requests at the bank, and at the bureau."""
        return [h for door in self.service._doors.each for h in door.handlers if isinstance(h, Named)]

    @property
    def desk(self) -> Named:
        """The bank's."""
        return self.desks[0]


@pytest.fixture(scope="module")
def serving(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    settings = {"timeout": 20, "connect_timeout": 20}
    config = Config.load(write_trial(tmp_path_factory.mktemp("scores"), ["server0", "server1"], settings))
    with Serving(config, batch=2, places=4, given=["server0", "server1"]) as serving:
        yield serving


@pytest.fixture
def client(serving: Serving) -> Iterator[Client]:
    with Client(serving.config) as client:
        yield client


def test_a_client_names_people_by_keys_and_gets_their_scores(client: Client) -> None:
    one = client.score({"server0": " de-1", "server1": ANN})
    many = client.score({"server0": ["DE-2", "DE-1", "DE-3"], "server1": [BEN, ANN, ("CEM", "1990-05-05")]})

    assert (one - expected(1, "clerk", 0)).abs().max() < 1e-3
    assert one.shape == (1,)
    wanted = torch.stack([expected(2, None, 3), expected(1, "clerk", 0), expected(0, "smith", 1)])
    assert (many - wanted).abs().max() < 1e-3


def test_who_is_not_everywhere_has_no_score_and_nobody_is_told_where(client: Client, serving: Serving) -> None:
    both = client.score({"server0": ["DE-9", "DE-1", "DE-1"], "server1": [BEN, ANN, ("Dia", "1990-05-05")]})

    assert both.isnan().flatten().tolist() == [True, False, True]
    assert (both[1] - expected(1, "clerk", 0)).abs().max() < 1e-3
    for about in ({"server0": "DE-9", "server1": BEN}, {"server0": "DE-1", "server1": ("Dia", "1990-05-05")}):
        with pytest.raises(DataError, match=r"^not all owners have somebody of this key in their tables$"):
            client.score(about)


def test_one_owner_is_given_columns_of_somebody_new_and_prepares_them_as_in_training(client: Client) -> None:
    rows = [{"job": "smith", "income": np.float64(2.5)}, {"income": None, "job": "baker"}]

    found = client.score({"server0": pandas.DataFrame(rows), "server1": [ANN, BEN]})
    alone = client.score({"server0": rows[0], "server1": {"late": 2}})

    assert (found - torch.stack([expected(2.5, "smith", 0), expected(0, None, 3)])).abs().max() < 1e-3
    assert (alone - expected(2.5, "smith", 2)).abs().max() < 1e-3


def test_owners_push_their_columns_for_a_case_which_is_asked_for_once(client: Client, serving: Serving) -> None:
    case = client.case()
    with Client(serving.config) as bank, Client(serving.config) as bureau:
        bank.push({"income": 4, "job": "clerk"}, "server0", case)
        bureau.push({"late": 1}, "server1", case)
        with pytest.raises(Refused, match="pushed for this case already"):
            bureau.push({"late": 2}, "server1", case)

    found = client.score(case=case)

    assert (found - expected(4, "clerk", 1)).abs().max() < 1e-3
    with pytest.raises(Refused, match="nobody has pushed columns for this case"):
        client.score(case=case)
    other = client.case()
    client.push({"late": 2}, "server1", other)
    assert (client.score({"server0": "DE-1"}, case=other) - expected(1, "clerk", 2)).abs().max() < 1e-3


def test_a_case_that_was_not_answered_can_be_asked_for_again(
    client: Client, serving: Serving, monkeypatch: pytest.MonkeyPatch
) -> None:
    case, desks = client.case(), serving.desks
    client.push({"income": 4, "job": "clerk"}, "server0", case)
    client.push({"late": 1}, "server1", case)

    def full(request: Asked) -> None:
        raise Overloaded("all places are taken", after=1.0)

    for desk in desks:
        with monkeypatch.context() as patch:
            patch.setattr(desk._queue, "hold", full)
            with pytest.raises(Overloaded):
                client.score(case=case)
        deadline = time.monotonic() + 20
        while any(len(other.cases) == 0 for other in desks) and time.monotonic() < deadline:
            time.sleep(0.01)  # the other server sees that the client has gone

    assert (client.score(case=case) - expected(4, "clerk", 1)).abs().max() < 1e-3
    with pytest.raises(Refused, match="nobody has pushed columns for this case"):
        client.score(case=case)


@pytest.mark.parametrize(
    ("about", "message"),
    [
        ("DE-1", "a key of server1 is made of 2 columns, not 1"),
        ({"server0": "DE-1"}, "server1 has columns, too"),
        ({"server0": "DE-1", "server1": [ANN, BEN]}, r"different numbers of people: \[1, 2\]"),
        ({"server0": "DE-1", "server1": ANN, "carol": 1}, "carol has no columns in this service"),
        ({"server0": "  ", "server1": ANN}, "a key that is empty is nobody's"),
        ({"server0": None, "server1": ANN}, "a key is a text, a whole number or a date, not a NoneType"),
        ({"server0": [], "server1": []}, "nobody is asked about"),
        ([{"server0": "DE-1", "server1": ANN}], "of several people say for each owner"),
        ({"server0": {"income": float("inf"), "job": "x"}, "server1": ANN}, "'income' holds infinity"),
        ({"server0": {"income": [1], "job": "x"}, "server1": ANN}, "'income' holds a list"),
        ({"server0": {}, "server1": ANN}, "one dict a person"),
        ({"server0": [{"income": 1.0, "job": "x"}, "DE-1"], "server1": [ANN, BEN]}, "one dict a person"),
    ],
)
def test_what_cannot_be_asked_is_said_before_anything_is_sent(client: Client, about: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        client.score(about)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"income": 1.0}, "server0.*column 'job' is missing"),
        ({"income": "much", "job": "clerk"}, "'income' holds words, and was fitted on numbers"),
        ({"income": 1.0, "job": "clerk", "age": 3}, "'age' is not one that it was fitted on"),
        ({"income": 1e30, "job": "clerk"}, "fixed point with 16 fractional bits"),
        ({"income": 1 << 70, "job": "clerk"}, "texts, finite numbers and truth values"),
    ],
)
def test_columns_that_an_owner_cannot_prepare_are_refused_and_no_value_is_told(
    client: Client, row: dict[str, Any], message: str
) -> None:
    with pytest.raises(Refused, match=message) as caught:
        client.score({"server0": row, "server1": ANN})

    assert "much" not in str(caught.value)


def test_a_table_without_preparation_takes_its_own_columns_only(client: Client) -> None:
    for row, message in (
        ({"late": 1, "early": 2}, "there is no column 'early'"),
        ({"early": 2}, "column 'late' is missing; there is no column 'early'"),
        ({"late": "x"}, "column 'late' holds words"),
        ({"late": None}, "column 'late' has no value"),
    ):
        with pytest.raises(Refused, match=message):
            client.score({"server0": "DE-1", "server1": row})


def test_what_strangers_send_is_checked(client: Client, serving: Serving) -> None:
    request: dict[str, Any] = {"do": "score", "id": "0" * 32, "rows": 1}
    push: dict[str, Any] = {"do": "push", "case": "0" * 32}
    heads: list[dict[str, Any]] = [
        {"do": "score", "id": "x"},
        {**request, "rows": 3, "by": "key"},
        {**request, "rows": True, "by": "key"},
        {**request, "by": "guess"},
        {**request, "by": "row", "bytes": 1 << 40},
        {**request, "by": "row", "bytes": -1},
        {**request, "rows": 2, "by": "case", "case": "0" * 32},
        {"do": "push", "case": "../../x", "bytes": 2},
        *({**push, "body": body} for body in (b"[1]", b"[]", b"[{}]", b'[{"a": NaN}]', b'[{"a": [1]}]', b"[" * 12)),
    ]

    async def send(head: dict[str, Any]) -> None:
        connection = (await client._connected())[0]
        body = head.pop("body", None)
        await connection.send(**head, **({} if body is None else {"bytes": len(body)}))
        if body is not None:
            await connection.send_body([memoryview(body)])
        await connection.receive()

    for head in heads:
        with pytest.raises(Refused):
            client._run(lambda head=head: send(dict(head)))

    assert len(serving.desk.cases) == 0
    assert client.score({"server0": "DE-1", "server1": ANN}).shape == (1,)


def test_a_service_says_how_it_is_to_be_asked(client: Client) -> None:
    with pytest.raises(Refused, match=r"ask with score\("):
        client.predict(torch.zeros(4))
    with pytest.raises(ConfigError, match="'alice' is none of the servers"):
        client.push({"late": 1}, "alice", client.case())


def test_the_ledgers_of_owners_hold_no_key(client: Client, serving: Serving) -> None:
    client.score({"server0": "DE-1", "server1": ANN})

    entries = serving.service._session.ledger.entries

    assert entries[-1].name == "prediction"
    assert "DE-1" not in json.dumps([str(entry) for entry in entries]).upper()


def test_cases_are_forgotten_and_nobody_takes_all_places(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(columns, "MOST_CASES", 8)
    now, row = [0.0], torch.zeros(1, 2, dtype=torch.int64)
    cases = Cases(lambda: now[0])
    for k in range(2):
        cases.put(f"a{k}", row, "a")

    with pytest.raises(Overloaded):
        cases.put("a2", row, "a")
    for guest in "bcd":
        cases.put(guest + "0", row, guest)
        cases.put(guest + "1", row, guest)
    with pytest.raises(Overloaded):
        cases.put("e", row, "e")
    now[0] = columns.CASE_SECONDS

    assert len(cases) == 0
    with pytest.raises(Refused, match="nobody has pushed"):
        cases.take("a0")


def test_a_case_that_is_given_back_waits_no_longer_and_gives_way_to_a_newer_one() -> None:
    now, old, new = [0.0], torch.zeros(1, 2, dtype=torch.int64), torch.ones(1, 2, dtype=torch.int64)
    cases = Cases(lambda: now[0])
    cases.put("a", old, "one")
    taken = cases.take("a")
    now[0] = columns.CASE_SECONDS - 1

    cases.give_back("a", taken)
    assert cases.take("a").row is old
    cases.put("a", new, "one")
    cases.give_back("a", taken)
    assert cases.take("a").row is new
    now[0] = columns.CASE_SECONDS
    cases.give_back("a", taken)

    assert len(cases) == 0


def test_tables_that_cannot_be_served_are_told_before_anybody_asks() -> None:
    with tacit.session(parties=["server0", "server1"]):
        gaps = tacit.read_table({"k": [1, 2], "x": [1.0, None]}, "server0", key="k")
        twice = tacit.read_table({"k": [1, 1], "x": [1.0, 2.0]}, "server0", key="k")
        bare = tacit.read_table({"k": [1, 2]}, "server0", key="k")
        for tables, error, message in (
            ([gaps], UnusableTable, "column 'x' has no value in row 2"),
            ([twice], UnusableTable, "1 row whose key an earlier one has"),
            ([bare], ConfigError, "no columns but keys"),
            ([gaps, gaps], ConfigError, "one table of each owner"),
            ([], ConfigError, "takes tables"),
        ):
            with pytest.raises(error, match=message):
                Service(MODEL, tables=tables)
        named = tacit.read_table({"k": [1, 2], "x": [1.0, 2.0]}, "server0", key="k")
        for given in (["server1"], "server0", [""]):
            with pytest.raises(ConfigError, match="given= lists owners of tables, who are server0"):
                Service(MODEL, tables=[named], given=given)
        with pytest.raises(ConfigError, match="goes with tables"):
            Service(MODEL, (4,), given=["server0"])
        with pytest.raises(ConfigError, match="one of the two"):
            Service(MODEL)


def test_owners_alone_serve_without_a_producer(deploy: Deploy) -> None:
    settings = {"batch": 2, "given": ["server0"]}
    with Serving(deploy(protocol="two-party"), **settings) as serving, Client(serving.config) as client:
        found = client.score({"server0": ["DE-1", "DE-9"], "server1": [ANN, BEN]})
        with pytest.raises(Refused, match="takes no columns from clients"):
            client.score({"server0": "DE-1", "server1": {"late": 2}})
        with pytest.raises(Refused, match="takes no columns from clients"):
            client.push({"late": 2}, "server1", client.case())
        new = client.score({"server0": {"income": 2.5, "job": "smith"}, "server1": ANN})

    assert (found[0] - expected(1, "clerk", 0)).abs().max() < 1e-3
    assert bool(found[1].isnan())
    assert (new - expected(2.5, "smith", 0)).abs().max() < 1e-3


def test_a_server_without_columns_takes_part(deploy: Deploy) -> None:
    with Serving(deploy(3), batch=1) as serving, Client(serving.config) as client:
        found = client.score({"server0": "DE-2", "server1": BEN})

    assert (found - expected(2, None, 3)).abs().max() < 1e-3


@pytest.mark.parametrize(
    ("trained", "problem"),
    [
        (["income", "job=clerk", "job=smith", "late"], None),
        (["late", "income", "job=clerk", "job=smith"], "in another order: the first ones were 'late', 'income'"),
        (["income", "age", "late"], "lack 'age' and have 'job=clerk', 'job=smith', unlike those"),
    ],
)
def test_a_model_is_served_with_the_columns_that_it_was_trained_with(
    deploy: Deploy, trained: list[str], problem: str | None
) -> None:
    with embedded(deploy()):
        tables = [
            tacit.read_table(BANK, "server0", key="no").prepared(preparation()),
            tacit.read_table(BUREAU, "server1", key=["last", "born"]),
        ]
        if problem is None:
            Service(tacit.share(MODEL), tables=tables, columns=trained)
        else:
            with pytest.raises(ConfigError, match=problem):
                Service(tacit.share(MODEL), tables=tables, columns=trained)
        with pytest.raises(ConfigError, match=r"it goes with tables=\["):
            Service(tacit.share(MODEL), (4,), columns=trained)

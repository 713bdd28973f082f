"""The prediction service: right answers, for their clients alone, and nothing left behind by those who go away."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import tacit
from tacit.api import embedded
from tacit.errors import DataError, Overloaded, Refused, RevealError, TacitError
from tacit.outside.sharing import cut
from tacit.outside.wire import Connection
from tacit.predictions import questions
from tacit.predictions.service import MOST_ROWS, STOP
from tacit.serve import Client, Doors, Service
from tacit.session.config import Config
from tacit.session.session import Session

from .conftest import Deploy
from .test_submit import by_hand, uniform, wait_until


class Served:
    """A service whose roles all live in a thread of this process."""

    def __init__(self, config: Config, model: Any, shape: tuple[int, ...], **settings: Any) -> None:
        self.config, self.ended = config, None
        self.session: Session | None = None
        self.service: Service | None = None
        self._arguments = (model, shape, settings)
        self._started = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        model, shape, settings = self._arguments
        try:
            with embedded(self.config) as self.session:
                shared = tacit.share(model, owner="server0") if isinstance(model, nn.Module) else model
                self.service = Service(shared, shape, **settings)
                self.service.run(self._started.set)
        except BaseException as error:
            self.ended = error
        finally:
            self._started.set()

    def __enter__(self) -> Served:
        self._thread.start()
        assert self._started.wait(30)
        return self

    def __exit__(self, *_: object) -> None:
        if self.service is not None:
            self.service.stop()
        self._thread.join(30)
        assert not self._thread.is_alive()

    @property
    def held(self) -> list[int]:
        """Requests that have a place, at each party."""
        assert self.service is not None
        return [len(desk) for desk in self.service._queues]


@pytest.fixture
def network() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(12, 8), nn.ReLU(), nn.Linear(8, 3)).requires_grad_(False)


class Slow:
    """Doubles its input, after the first time only when it may."""

    def __init__(self) -> None:
        self.calls = 0
        self.busy, self.may = threading.Event(), threading.Event()

    def __call__(self, x: Tensor) -> Tensor:
        self.calls += 1
        if self.calls > 1:
            self.busy.set()
            assert self.may.wait(20)
        return x * 2


@pytest.fixture
def slow() -> Iterator[Slow]:
    model = Slow()
    yield model
    model.may.set()


def predict(config: Config, inputs: Tensor) -> Tensor:
    with Client(config, timeout=20) as client:
        return client.predict(inputs)


# --- answers ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("parties", [2, 3])
def test_clients_get_what_the_model_says(deploy: Deploy, network: nn.Module, parties: int) -> None:
    config = deploy(parties)
    x = torch.randn(11, 3, 4)

    with Served(config, network, (3, 4), batch=4) as served, Client(config) as client:
        many, one = client.predict(x), client.predict(x[0])

    assert (many - network(x)).abs().max() < 1e-3
    assert (one - network(x[:1])[0]).abs().max() < 1e-3
    assert many.dtype == torch.float32
    assert served.service is not None
    assert (served.service.answered, served.service.batches) == (4, 4)
    assert served.held == [0] * parties
    assert served.ended is None


@pytest.mark.parametrize(
    ("model", "dtype", "expected"),
    [
        (lambda x: x.argmax(1), torch.float32, torch.tensor([2, 0])),
        (lambda x: x > 0.5, torch.float32, torch.tensor([[0, 0, 1], [1, 0, 0]])),
        (lambda x: x.sum(1) * 3, torch.int64, torch.tensor([3, 3])),
        (lambda x: x[:, 0], torch.float32, torch.tensor([0.0, 1.0])),
    ],
    ids=["classes", "bits", "integers", "scalars"],
)
def test_results_of_all_kinds(deploy: Deploy, model: Any, dtype: torch.dtype, expected: Tensor) -> None:
    config = deploy()
    x = torch.tensor([[0, 0, 1], [1, 0, 0]]).to(dtype)

    with Served(config, model, (3,), dtype=dtype):
        result = predict(config, x)

    assert torch.equal(result, expected)
    assert result.dtype == expected.dtype


def test_numbers_at_the_ends_of_the_range_come_through(deploy: Deploy) -> None:
    config = deploy()
    x = torch.tensor([[2.0**44, -(2.0**44), 2.0**-16]])

    with Served(config, lambda x: x + 0.5, (3,)):
        result = predict(config, x)
        with pytest.raises(DataError, match="too large"):
            predict(config, x * 4)

    assert torch.equal(result, x + 0.5)


def test_modules_are_served_in_evaluation_mode(deploy: Deploy) -> None:
    config = deploy()
    model = nn.Sequential(nn.BatchNorm1d(3), nn.Dropout(0.5)).requires_grad_(False)
    model(3 * torch.randn(100, 3) + 1)
    x = torch.randn(5, 3)

    with Served(config, model, (3,), batch=4):
        result = predict(config, x)

    assert (result - model.eval()(x)).abs().max() < 1e-3


def test_the_largest_batch_of_requests_is_no_order_to_stop(deploy: Deploy) -> None:
    config = deploy()

    with Served(config, lambda x: x * 2, (1,), batch=MOST_ROWS) as served:
        assert served.service is not None
        requests = [(f"{i:032x}", 1) for i in range(MOST_ROWS)]
        message = served.service._message(requests)
        result = predict(config, torch.arange(3.0)[:, None])

    assert message[0] == MOST_ROWS != STOP
    assert len(message) == 1 + MOST_ROWS * 17
    assert result.tolist() == [[0], [2], [4]]


def test_many_clients_at_once_each_get_their_own(deploy: Deploy, network: nn.Module) -> None:
    config = deploy()
    inputs = torch.randn(12, 5, 3, 4)

    def ask(rows: Tensor) -> Tensor:
        with Client(config) as client:
            return torch.stack([client.predict(row) for row in rows])

    with Served(config, network, (3, 4), batch=6, wait=0.05) as served, ThreadPoolExecutor(12) as pool:
        results = torch.stack(list(pool.map(ask, inputs)))

    assert (results.flatten(0, 1) - network(inputs.flatten(0, 1))).abs().max() < 1e-3
    assert served.service is not None
    assert served.service.answered == 60
    assert served.service.batches < 60


def test_all_batches_cost_the_same_and_weights_are_opened_once(deploy: Deploy) -> None:
    config = deploy()
    costs = []

    with Served(config, nn.Linear(50, 40, bias=False), (50,), batch=2) as served:
        assert served.session is not None
        for rows in (1, 2, 1):
            before = served.session.meter.cost
            predict(config, torch.randn(rows, 50))
            costs.append(served.session.meter.cost - before)

    truncated, compared = 8 * 80, (8 + 2 * (16 + 1) / 8) * 80  # the second, of few, makes a rounding of a truncation
    assert {cost.online["server0"] for cost in costs} == {8 * 2 * 50 + truncated + compared}
    assert len({(cost.rounds, cost.producer) for cost in costs}) == 1


# --- faults -----------------------------------------------------------------------------------------------------------


def test_overload_is_refused_and_what_was_accepted_is_answered(deploy: Deploy, slow: Slow) -> None:
    config = deploy()

    with Served(config, slow, (2,), batch=1, places=2) as served, ThreadPoolExecutor(3) as pool:
        computed = pool.submit(predict, config, torch.tensor([0.0, 1]))
        assert slow.busy.wait(10)
        waiting = [pool.submit(predict, config, torch.tensor([float(i), 2])) for i in (1, 2)]
        wait_until(lambda: served.held == [2, 2])
        with pytest.raises(Overloaded, match="all 2 places are taken: ask again later"):
            predict(config, torch.zeros(2))
        slow.may.set()
        results = [future.result(20) for future in (computed, *waiting)]
        assert torch.equal(predict(config, torch.ones(2)), torch.full((2,), 2.0))

    assert torch.equal(torch.stack(results), torch.tensor([[0.0, 2], [2, 4], [4, 4]]))
    assert served.service is not None
    assert served.service.refused >= 1


REQUEST = {"do": "predict", "id": "ab" * 16, "schema": {"rows": 1, "fields": [["x", "float32", [2]]]}, "form": "share"}


async def hold(connection: Connection, **other: Any) -> None:
    await connection.send(**{**REQUEST, **other})
    await connection.send_body([memoryview(bytes(16))])
    assert await connection.receive() == {"ok": "held"}


@pytest.mark.parametrize("step", ["held", "ready", "computed"])
def test_a_client_that_goes_away_leaves_nothing_behind(deploy: Deploy, slow: Slow, step: str) -> None:
    config = deploy()

    with Served(config, slow, (2,), batch=1) as served, ThreadPoolExecutor(1) as pool:
        if step == "ready":
            first = pool.submit(predict, config, torch.ones(2))
            assert slow.busy.wait(10)

        async def leave(servers: list[Connection]) -> None:
            for server in servers:
                await hold(server)
            assert served.held == [1, 1]
            if step != "held":
                for server in servers:
                    await server.send(do="go")
            if step == "computed":
                slow.busy.wait(10)
            for server in servers:
                server.drop()

        by_hand(config, leave)
        wait_until(lambda: served.held == [0, 0])
        slow.may.set()
        if step == "ready":
            assert torch.equal(first.result(20), torch.full((2,), 2.0))
        assert torch.equal(predict(config, torch.ones(2)), torch.full((2,), 2.0))

    assert served.ended is None
    assert served.service is not None
    assert served.service.answered == {"held": 1, "ready": 2, "computed": 2}[step]


def test_a_client_that_goes_to_one_server_only_is_sent_away(
    deploy: Deploy, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    monkeypatch.setattr(questions, "HOLD_SECONDS", 0.2)
    config = deploy()

    async def one_sided(servers: list[Connection]) -> None:
        await hold(servers[1])
        with pytest.raises(Refused, match="other servers have not held this request"):
            await servers[1].receive()

    with Served(config, lambda x: x, (2,)) as served:
        by_hand(config, one_sided)
        assert served.held == [0, 0]
        assert torch.equal(predict(config, torch.ones(2)), torch.ones(2))


def test_a_request_that_another_server_lacks_is_refused_and_delays_nobody(deploy: Deploy) -> None:
    config = deploy()

    async def ahead(servers: list[Connection]) -> None:
        await hold(servers[0])
        await servers[0].send(do="go")
        with pytest.raises(Refused, match="another server does not hold this request"):
            await servers[0].receive(5)

    with Served(config, lambda x: x, (2,)) as served:
        by_hand(config, ahead)
        assert torch.equal(predict(config, torch.ones(2)), torch.ones(2))

    assert served.service is not None
    assert served.service.answered == 1


def test_rows_that_differ_between_servers_are_refused(deploy: Deploy) -> None:
    config = deploy()
    two_rows = {"rows": 2, "fields": [["x", "float32", [2]]]}

    async def two_faced(servers: list[Connection]) -> None:
        await hold(servers[0])
        await servers[1].send(**{**REQUEST, "schema": two_rows})
        await servers[1].send_body([memoryview(bytes(32))])
        assert await servers[1].receive() == {"ok": "held"}
        await servers[0].send(do="go")
        with pytest.raises(Refused, match="another server does not hold this request"):
            await servers[0].receive(5)

    with Served(config, lambda x: x, (2,)):
        by_hand(config, two_faced)
        assert torch.equal(predict(config, torch.ones(2)), torch.ones(2))


@pytest.mark.parametrize(
    ("other", "why"),
    [
        ({"schema": {"rows": 1, "fields": [["x", "float32", [3]]]}}, r"takes x: float32 of shape \(rows, 2\)"),
        ({"schema": {"rows": 1, "fields": [["x", "int64", [2]]]}}, "takes x: float32"),
        ({"schema": {"rows": 9, "fields": [["x", "float32", [2]]]}}, "up to 8 rows at once, not 9"),
        ({"schema": None}, "a schema needs"),
        ({"id": "x"}, "32 hexadecimal digits"),
        ({"id": None}, "32 hexadecimal digits"),
    ],
)
def test_requests_that_do_not_fit_are_refused(deploy: Deploy, other: dict[str, Any], why: str) -> None:
    config = deploy()

    async def talk(servers: list[Connection]) -> None:
        await servers[0].send(**{**REQUEST, **other})
        with pytest.raises(Refused, match=why):
            await servers[0].receive()

    with Served(config, lambda x: x, (2,)) as served:
        by_hand(config, talk)
        assert served.held == [0, 0]


def test_inputs_of_another_shape_are_refused_at_the_client(deploy: Deploy) -> None:
    config = deploy()

    with Served(config, lambda x: x, (2,)), Client(config) as client:
        for wrong in (torch.zeros(3), torch.zeros(2, 3), torch.zeros(0, 2)):
            with pytest.raises(DataError, match=r"takes inputs of shape \(2,\)"):
                client.predict(wrong)
        for wrong, why in (("abc", "not a str"), (torch.tensor([1j, 2]), "real numbers")):
            with pytest.raises(DataError, match=why):
                client.predict(wrong)
        assert client.predict([1, 2]).tolist() == [1, 2]


def test_a_stopping_service_answers_what_it_has_accepted(deploy: Deploy, slow: Slow) -> None:
    config = deploy()

    with Served(config, slow, (2,), batch=1) as served, ThreadPoolExecutor(3) as pool:
        accepted = [pool.submit(predict, config, torch.tensor([float(i), 2])) for i in range(3)]
        assert slow.busy.wait(10)
        wait_until(lambda: served.held == [2, 2] and len(served.service._queues[0]._ready) == 2)  # type: ignore[union-attr]
        assert served.service is not None
        served.service.stop()
        with pytest.raises(Refused, match="the service has been stopped"):
            predict(config, torch.zeros(2))
        slow.may.set()
        results = torch.stack([future.result(20) for future in accepted])

    assert torch.equal(results, torch.tensor([[0.0, 4], [2, 4], [4, 4]]))
    assert served.ended is None


def test_clients_of_a_service_that_fails_are_told(deploy: Deploy) -> None:
    config = deploy()
    calls = []

    def fails(x: Tensor) -> Tensor:
        calls.append(x)
        if len(calls) > 1:
            raise ValueError("the secret is 42")
        return x

    with Served(config, fails, (2,)) as served, pytest.raises(Refused, match="the service has been stopped") as told:
        predict(config, torch.ones(2))

    assert isinstance(served.ended, ValueError)
    assert "42" not in str(told.value)


def test_models_that_cannot_be_served_are_refused_before_anybody_comes(deploy: Deploy) -> None:
    config = deploy()

    with Served(config, lambda x: x[0], (2,)) as summed, Served(config, lambda x: torch.ones(8), (2,)) as public:
        pass

    assert isinstance(summed.ended, DataError)
    assert isinstance(public.ended, DataError)


def test_a_party_that_takes_data_only_says_so(deploy: Deploy) -> None:
    config = deploy()

    with Doors(config, *config.parties), pytest.raises(Refused, match="takes data in but answers no requests"):
        predict(config, torch.ones(2))


def test_a_service_takes_submissions_too(deploy: Deploy) -> None:
    config = deploy()

    with Served(config, lambda x: x, (2,)), Client(config) as client:
        receipt = client.submit(torch.ones(3, 2), "d")

    assert receipt.rows == 3


# --- what is revealed, and to whom ------------------------------------------------------------------------------------


def test_results_pass_the_ledger_and_its_policy(deploy: Deploy) -> None:
    allowed = deploy(reveal=[{"name": "pred*", "to": ["clients"]}])
    with Served(allowed, lambda x: x, (2,)) as served:
        predict(allowed, torch.ones(2))
    assert served.session is not None
    (entry,) = served.session.ledger.entries

    assert (entry.name, entry.shape) == ("prediction", (8, 2))
    assert len(entry.receivers) == 1
    assert entry.receivers[0].startswith("client ")


@pytest.mark.parametrize("policy", [[], [{"name": "*", "to": ["all"]}]])
def test_a_policy_that_names_no_clients_ends_a_service_before_it_begins(
    deploy: Deploy, policy: list[Any]
) -> None:  # fmt: skip
    with Served(deploy(reveal=policy), lambda x: x, (2,)) as served:
        pass

    assert isinstance(served.ended, RevealError)
    assert "\"to\": ['clients']" in str(served.ended)


@pytest.mark.parametrize("value", [0.0, -77.0])
def test_shares_of_inputs_and_results_are_uniform_and_fresh(
    deploy: Deploy, monkeypatch: pytest.MonkeyPatch, value: float
) -> None:  # fmt: skip
    config = deploy(3)
    inputs: list[list[Tensor]] = [[], [], []]
    results: list[list[Tensor]] = [[], [], []]
    answer = Service._answer

    def watch(self: Service, requests: Any, share: Tensor) -> None:
        place = min(range(3), key=lambda i: len(inputs[i]))
        inputs[place] += [request.content for request in requests]
        results[place].append(share)
        answer(self, requests, share)

    monkeypatch.setattr(Service, "_answer", watch)
    with Served(config, lambda x: x * 2, (3000,), batch=1), Client(config) as client:
        for _ in range(3):
            assert torch.equal(client.predict(torch.full((3000,), value)), torch.full((3000,), 2 * value))

    for shares in (*inputs, *results):
        assert all(uniform(share.contiguous().numpy().tobytes()) for share in shares)
        assert uniform((shares[0] - shares[1]).numpy().tobytes())
    for x, y in zip(inputs, results, strict=True):
        assert uniform((y[0] - 2 * x[0]).contiguous().numpy().tobytes())  # no function of what came in
    for held in (inputs, results):
        assert uniform((held[0][0] + held[1][0]).contiguous().numpy().tobytes())


def test_nothing_secret_is_logged_or_shown(deploy: Deploy, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    config = deploy()

    with Served(config, lambda x: x * 2, (2,)) as served:
        predict(config, torch.full((2,), 424242.0))
    shown = caplog.text + repr(served.session) + repr(cut([torch.full((2,), 424242 << 16)], 2, "a test"))

    assert not any(number in shown for number in ("424242", "848484", str(424242 << 16)))
    assert "hidden" in shown


# --- a process a role -------------------------------------------------------------------------------------------------

MODEL = """
import tacit
from torch import nn
INPUT = (4,)
def load():
    model = nn.Linear(4, 2)
    model.load_state_dict(tacit.load("checkpoint"), assign=True)
    return model
"""


@pytest.fixture
def processes(deploy: Deploy, tmp_path: Path) -> Iterator[tuple[Config, dict[str, subprocess.Popen[str]], nn.Module]]:
    """A service of three processes over TLS, of a model from a checkpoint."""
    config = deploy()
    plain = nn.Linear(4, 2).requires_grad_(False)
    with tacit.session(parties=config.parties):
        tacit.save(tacit.share(plain).state_dict(), tmp_path / "checkpoint")
    (tmp_path / "model.py").write_text(MODEL)
    command = [sys.executable, "-m", "tacit", "serve", str(tmp_path / "model.py")]
    command += ["--config", str(tmp_path / "config.json"), "--batch", "2", "--as"]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    running = {
        role: subprocess.Popen(
            [*command, role], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=env
        )
        for role in config.roles
    }  # fmt: skip
    try:
        for role, process in running.items():
            assert process.stdout is not None
            line = process.stdout.readline()
            assert ("answers at" if role in config.parties else "ahead") in line
        yield config, running, plain
    finally:
        for process in running.values():
            process.kill()
            process.communicate()


def endings(running: dict[str, subprocess.Popen[str]]) -> dict[str, tuple[int, str]]:
    return {role: (p.communicate(timeout=40)[0], p.returncode)[::-1] for role, p in running.items()}


def test_three_processes_answer_and_end_in_order(processes: Any) -> None:
    config, running, plain = processes
    x = torch.randn(5, 4)

    result = predict(config, x)
    time.sleep(0.3)  # idle, while the producer goes ahead
    again = predict(config, x)
    running["server0"].send_signal(signal.SIGTERM)
    ended = endings(running)

    assert (result - plain(x)).abs().max() < 1e-3
    assert (again - plain(x)).abs().max() < 1e-3
    assert [code for code, _ in ended.values()] == [0, 0, 0]
    assert "server0 answered 6 requests in 6 batches, and refused 0" in ended["server0"][1]


def test_a_party_that_dies_ends_the_service_everywhere_and_clients_are_told(processes: Any) -> None:
    config, running, _ = processes

    with Client(config) as client:
        client.predict(torch.ones(4))
        running["server1"].kill()
        with pytest.raises(TacitError):
            client.predict(torch.ones(10, 4))
    ended = endings(running)

    assert ended["server0"][0] == 1
    assert ended["crypto-producer"][0] == 1
    assert "error: server1" in ended["server0"][1]

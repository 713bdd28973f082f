"""Metrics and counters have a range of their own: 128 bits, with carries, under masks of 128 bits."""

from __future__ import annotations

import logging

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp.strategy import FedAvg

from tacit.federated import LocalGrid, PairwiseMasks, SecureAggregation, SecureAggregationMod, Settings, enroll
from tacit.federated.masks import wide
from tacit.federated.masks.wide import LARGEST, Wide
from tacit.federated.update import Layout

from .rounds import run

CLIENTS = 5
DTYPES = {32: np.uint32, 64: np.uint64}


def signed(total, bits):
    """The ring elements that `rounds.run` gives as integers of its ring."""
    return total.astype(DTYPES[bits])


@pytest.mark.parametrize("bits", DTYPES)
@pytest.mark.parametrize("vanish", [{}, {2: {3}}, {1: {0}, 3: {4}}])
def test_sums_have_all_bits_whatever_the_carries_and_whoever_vanishes(bits, vanish):
    rng, encoded = np.random.default_rng(), Wide(6)
    values = [rng.normal(size=4) * 2.0 ** rng.integers(-20, 63, 4) for _ in range(6)]
    exact = [[round(x * 2**encoded.frac_bits) for x in v.tolist()] for v in values]
    words = {i: encoded.encode(v, DTYPES[bits]) for i, v in enumerate(values)}
    head = np.arange(3, dtype=DTYPES[bits])  # words of 32 bits stand at any place
    inputs = {i: np.concatenate([head, w]).view(f"i{bits // 8}").astype(np.int64) for i, w in words.items()}
    gone = set().union(*(clients for stage, clients in vanish.items() if stage < 3))

    round_ = run(inputs, Settings(bits=bits, minimum=3, threshold=0.5), vanish, words=len(words[0]))

    left = [i for i in range(6) if i not in gone]
    total = signed(round_.total, bits)
    assert total[:3].tolist() == [len(left) * x for x in range(3)]
    assert encoded.decode(total[3:]) == [sum(exact[i][k] for i in left) for k in range(4)]


def test_what_is_added_is_taken_off_again():
    rng = np.random.default_rng()
    y, x = (rng.integers(0, 2**64, 12, dtype=np.uint64) for _ in range(2))
    x[5], x[7] = 2**64 - 1, 0  # carries out of every place
    before = y.copy()

    wide.add(y, x, 8)
    after = [int.from_bytes(v.tobytes(), "little") for v in y[4:].reshape(-1, 2)]
    wide.add(y, x, 8, -1)

    pairs = zip(before[4:].reshape(-1, 2), x[4:].reshape(-1, 2), strict=True)
    assert after == [sum(int.from_bytes(v.tobytes(), "little") for v in pair) % 2**128 for pair in pairs]
    assert (y == before).all()


def test_a_layout_splits_and_joins():
    layout = Layout(("acc", "loss"), (("w", (2, 2)), ("n", ()), ("b", (3,)), ("m", (2,))), ("n", "m"))
    values = np.arange(12.0)

    other, own = layout.split(values)

    assert own.tolist() == [0, 1, 6, 10, 11]
    assert other.tolist() == [2, 3, 4, 5, 7, 8, 9]
    assert layout.wide == 5
    assert layout.join(other, own).tolist() == values.tolist()
    assert Layout.unpack(layout.pack()) == layout


def both(metrics, arrays, settings):
    """One round of plain Flower and of secure aggregation."""

    def app(mods):
        app = ClientApp(mods=mods)

        @app.train()
        def train(message, context):
            i = int(context.node_config["partition-id"])
            record = ArrayRecord({name: Array(np.asarray(x)) for name, x in arrays(i).items()})
            return Message(RecordDict({"arrays": record, "metrics": MetricRecord(metrics(i))}), reply_to=message)

        return app

    form, (roster, people) = PairwiseMasks(settings), enroll(f"site-{i}" for i in range(CLIENTS))
    mod = SecureAggregationMod(form, lambda c: (people[f"site-{c.node_config['partition-id']}"], roster))
    start = ArrayRecord({name: Array(np.zeros_like(x)) for name, x in arrays(0).items()})
    plain = FedAvg(fraction_evaluate=0).start(LocalGrid(app([]), CLIENTS), start, num_rounds=1)
    strategy = SecureAggregation(FedAvg(fraction_evaluate=0), roster, form)
    return plain, strategy.start(LocalGrid(app([mod]), CLIENTS), start, num_rounds=1), strategy.report[0]


@pytest.mark.parametrize("bits", DTYPES)
def test_large_metrics_and_counters_are_exact_where_arrays_have_a_narrow_range(bits):
    """The update is within 1; tokens, seconds since 1970 and batches are not, and nothing is cut."""

    def metrics(i):
        known = {"tokens": 10**12 + i, "time": 1.7e9 + i / 7, "loss": 1e-7 * i, "x": [-1e15, 3.0]}
        return {"num-examples": 100 + i, **known}

    def arrays(i):
        counters = {"batches": np.array(5_000_000), "seen": np.array([2**40, -7])}
        return {"w": np.full(3, i / 10), **counters, "b": np.ones(1)}

    plain, got, line = both(metrics, arrays, Settings(minimum=3, bits=bits, limit=1.0, max_examples=500))

    for name, expected in plain.train_metrics_clientapp[1].items():  # Flower's own sums are rounded
        assert got.train_metrics_clientapp[1][name] == pytest.approx(expected, rel=1e-14, abs=1e-12), name
    assert got.arrays["batches"].numpy() == 5_000_000
    assert got.arrays["seen"].numpy().tolist() == [2**40, -7]
    assert got.arrays["w"].numpy() == pytest.approx(plain.arrays["w"].numpy(), abs=1e-5 if bits == 32 else 1e-12)
    assert not line.cut


def test_a_table_of_whole_numbers_is_no_counter():
    def arrays(i):
        return {"table": np.full(5000, 3 + i), "n": np.array(7)}

    plain, got, line = both(lambda i: {"num-examples": 100}, arrays, Settings(minimum=3))

    assert (got.arrays["table"].numpy() == np.rint(plain.arrays["table"].numpy())).all()
    assert not line.cut


def test_what_is_larger_than_anything_is_cut_counted_and_warned_of(caplog):
    log = logging.getLogger("flwr.tacit")
    log.addHandler(caplog.handler)
    try:
        with caplog.at_level(logging.WARNING, logger="flwr.tacit"):
            _, got, line = both(
                lambda i: {"num-examples": 100, "big": 1e30, "list": [1e30, -1e30, 1.0]},
                lambda i: {"w": np.ones(1)},
                Settings(minimum=3),
            )
    finally:
        log.removeHandler(caplog.handler)

    assert line.cut == {"big": CLIENTS, "list": 2 * CLIENTS}
    assert got.train_metrics_clientapp[1]["big"] == LARGEST
    assert "big 5, list 10" in caplog.text


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_metric_that_is_no_number_never_leaves_its_client(value):
    _, _, line = both(
        lambda i: {"num-examples": 100, "loss": value if i == 2 else 1.0},
        lambda i: {"w": np.ones(1)},
        Settings(minimum=3),
    )

    (reason,) = line.failures.values()
    assert "metrics holds a number that is" in reason

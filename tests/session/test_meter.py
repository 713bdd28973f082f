"""The meter counts bytes by role, and costs add up and take away."""

from __future__ import annotations

import dataclasses

import pytest

from tacit.session.meter import Cost, Meter, readable
from tacit.session.roles import Helper

DICE, CLOCK = Helper("dice-thrower", "dice", "throws dice"), Helper("timekeeper", "clock", "looks at the clock")


def test_a_meter_counts_rounds_and_the_bytes_of_each_role() -> None:
    meter = Meter(("a", "b", "c"), (DICE, CLOCK))

    meter.round({"a": 3, "c": 4})
    meter.opening(10)
    meter.dealt("timekeeper", 5)
    meter.dealt("timekeeper", 6)

    cost = meter.cost
    assert cost.rounds == 2
    assert cost.sent == {"a": 23, "b": 20, "c": 24, "dice-thrower": 0, "timekeeper": 11}
    assert cost.online == {"a": 23, "b": 20, "c": 24}
    assert cost.helped == {"dice": 0, "clock": 11}
    assert cost.producer == 11
    assert cost.seconds >= 0
    assert cost.ahead_seconds == 0


def test_what_is_sent_ahead_is_counted_apart_and_takes_no_round() -> None:
    meter = Meter(("a", "b"), (DICE,))
    before = meter.cost

    meter.ahead({"a": 3, "b": 4})
    meter.ahead({"b": 5})

    cost = meter.cost
    assert before.prepared == {}
    assert cost.prepared == {"a": 3, "b": 9}
    assert (cost.rounds, cost.online, cost.producer) == (0, {"a": 0, "b": 0}, 0)
    assert str(cost).startswith("0 rounds, a sent 0 B, b sent 0 B, dice sent 0 B, a prepared 3 B, b prepared 9 B, ")


def test_a_meter_counts_nothing_for_who_is_not_there() -> None:
    meter = Meter(("a", "b"), (DICE,))

    for count in (
        lambda: meter.round({"dice-thrower": 1}),
        lambda: meter.ahead({"dice-thrower": 1}),
        lambda: meter.dealt("a", 1),
        lambda: meter.dealt("eve", 1),
    ):
        with pytest.raises(KeyError):
            count()


def test_a_cost_is_what_it_was_when_it_was_read() -> None:
    meter = Meter(("a", "b"), (DICE,))
    before = meter.cost

    meter.opening(8)
    meter.dealt("dice-thrower", 2)

    assert (before.rounds, before.online, before.helped) == (0, {"a": 0, "b": 0}, {"dice": 0})
    with pytest.raises(dataclasses.FrozenInstanceError):
        before.rounds = 1  # type: ignore[misc]


def test_costs_are_subtracted_for_a_part_and_added_for_a_whole() -> None:
    first = Cost(1, {"a": 5, "b": 7, "dice-thrower": 9}, (DICE,), 0.5)
    last = Cost(4, {"a": 6, "b": 9, "dice-thrower": 19}, (DICE,), 2.0)

    part = last - first

    assert part == Cost(3, {"a": 1, "b": 2, "dice-thrower": 10}, (DICE,), 1.5)
    assert part + first == last
    assert Cost() + last == last
    assert last + Cost() == last
    assert last - Cost() == last


def test_what_was_prepared_is_subtracted_and_added_too() -> None:
    first = Cost(prepared={"a": 5}, seconds=1.0, ahead_seconds=0.5)
    last = Cost(prepared={"a": 7, "b": 2}, seconds=2.0, ahead_seconds=0.75)

    part = last - first

    assert part.prepared == {"a": 2, "b": 2}
    assert part.ahead_seconds == 0.25
    assert (first + part) == last
    assert (last - Cost()).prepared == (Cost() + last).prepared == last.prepared


def test_costs_of_different_roles_add_up_with_all_of_them() -> None:
    one, other = Cost(1, {"a": 5, "dice-thrower": 1}, (DICE,)), Cost(1, {"b": 7, "timekeeper": 2}, (CLOCK,))

    both = one + other

    assert (both.rounds, both.online) == (2, {"a": 5, "b": 7})
    assert both.helped == {"dice": 1, "clock": 2}
    assert both.helpers == (DICE, CLOCK)


def test_costs_print_what_each_role_sent() -> None:
    cost = Cost(12, {"a": 999, "b": 1000, "dice-thrower": 1_234_567}, (DICE,), 0.12345)

    assert str(cost) == "12 rounds, a sent 999 B, b sent 1 kB, dice sent 1.23 MB, 0.123 s"
    assert str(Cost()) == "0 rounds, 0 s"
    assert str(Cost(1, {"a": 5}, (), 0.5, {"a": 7}, 0.25)) == (
        "1 rounds, a sent 5 B, a prepared 7 B, 0.5 s, 0.25 s of them to prepare"
    )


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1 kB"),
        (1234, "1.23 kB"),
        (999_499, "999 kB"),
        (999_500, "1 MB"),
        (10**6, "1 MB"),
        (999_500_000, "1 GB"),
        (25 * 10**11, "2.5 TB"),
    ],
)
def test_bytes_have_a_unit(count: int, text: str) -> None:
    assert readable(count) == text

"""Joins find exactly the rows with equal keys, in the form in which keys are compared, and reveal what they say."""

from __future__ import annotations

import datetime
from decimal import Decimal

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import tacit
from tacit.api import embedded
from tacit.errors import ConfigError, DataError, RevealError, UnusableTable
from tacit.protocols.matching import ascending, partners
from tacit.session.config import Config

KEYS = st.sets(st.integers(0, 60), min_size=1, max_size=40)


def table(owner, keys, **options):
    """A table whose only column is ten times the key, in the order of the keys."""
    keys = list(keys)
    return tacit.read_table(
        {"k": [f"p{key}" for key in keys], owner: [10.0 * key for key in keys]}, owner, key="k", **options
    )


def revealed(people):
    """All rows, as every role could reveal them."""
    return [tuple(row) for row in tacit.reveal(people.x).tolist()]


def seen(people):
    """The rows that are no zeros."""
    return {row for row in revealed(people) if any(row)}


HELPED = [("additive", "members"), ("additive", "size"), ("additive", "nothing"), ("two-party", "members")]
FORMS = [*HELPED, ("two-party", "size"), ("two-party", "nothing")]


@settings(deadline=None, max_examples=16)
@given(KEYS, KEYS, st.sampled_from(FORMS), st.sampled_from(["inner", "left"]))
def test_a_join_is_the_intersection_of_sets(mine, theirs, form, how):
    protocol, reveal = form
    with tacit.session(protocol=protocol):
        a, b = table("alice", mine), table("bob", theirs)
        common = mine & theirs
        if how == "inner" and not common and reveal != "nothing":
            with pytest.raises(DataError, match="no key of alice is one of bob"):
                tacit.join(a, b, reveal=reveal)
            return

        people = tacit.join(a, b, reveal=reveal, how=how)

        kept = mine if how == "left" else common
        hidden = reveal == "nothing" and how == "inner"
        assert len(people) == (min(len(mine), len(theirs)) if hidden else len(kept))
        assert people.common == (None if hidden else len(kept))
        rows = [(w, *row) for w, row in zip(tacit.reveal(people.weight).tolist(), revealed(people), strict=True)]
        assert sorted(tuple(row) for w, *row in rows if w == 1) == sorted(
            (10.0 * key, 10.0 * key if key in common else 0.0) for key in kept
        )
        assert all((w, *row) == (0.0, 0.0, 0.0) for w, *row in rows if w != 1)
        assert int(tacit.reveal(people.matched["bob"]).sum()) == len(common)


@settings(deadline=None, max_examples=6)
@given(KEYS, KEYS, KEYS, st.sampled_from(["members", "size", "nothing"]))
def test_three_owners_join_whom_all_of_them_have(first, second, third, reveal):
    everybody = {61, 62}
    with tacit.session(parties=("alice", "bob", "carol")):
        tables = [
            table(o, keys | everybody)
            for o, keys in zip(("bob", "carol", "alice"), (first, second, third), strict=True)
        ]

        people = tacit.join(*tables, reveal=reveal)

        assert people.columns == ("bob", "carol", "alice")
        assert seen(people) == {(10.0 * k,) * 3 for k in ((first & second & third) | everybody) - {0}}


@settings(deadline=None)
@given(st.lists(st.sets(st.integers(0, 12)), min_size=2, max_size=4), st.booleans())
def test_places_of_partners_point_to_equal_digests(tables, left):
    words = [
        torch.tensor([[key // 4, key % 4] for key in sorted(keys)], dtype=torch.int64).view(-1, 2) for keys in tables
    ]

    found = partners(words, left=left)

    base = tables[0] if left else set.intersection(*tables)
    assert len(found) == len(base)
    for row in found.tolist():
        digests = [w[place].tolist() for w, place in zip(words, row, strict=True) if place >= 0]
        assert all(digest == digests[0] for digest in digests)
        key = 4 * digests[0][0] + digests[0][1]
        assert [place >= 0 for place in row] == [key in keys for keys in tables]


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 2), st.integers(-2, 2)), max_size=12))
def test_digests_that_begin_alike_are_put_in_order_too(words):
    digests = torch.tensor(words, dtype=torch.int64).view(-1, 2)

    assert [tuple(row) for row in digests[ascending(digests)].tolist()] == sorted(words)


def test_each_owner_learns_its_own_rows_and_in_the_other_form_nobody_does():
    with tacit.session() as session:
        a, b = table("alice", [5, 1, 7, 3]), table("bob", [3, 9, 5])

        people = tacit.join(a, b)

        rows = tacit.reveal(people.x)[:, 0] / 10
        assert [[5, 1, 7, 3][place] for place in people.rows_of("alice").tolist()] == rows.tolist()
        assert [[3, 9, 5][place] for place in people.rows_of("bob").tolist()] == rows.tolist()
        assert [(entry.name, entry.shape, entry.receivers) for entry in session.ledger.entries[:3]] == [
            ("rows in common", (), session.transport.roles),
            ("members of alice", (4,), ("alice",)),
            ("members of bob", (3,), ("bob",)),
        ]
        with pytest.raises(ConfigError, match="no owner knows"):
            tacit.join(a, b, reveal="size").rows_of("alice")
        with pytest.raises(ConfigError, match="has no table here"):
            people.rows_of("carol")


@pytest.mark.parametrize(("reveal", "lines"), [("members", ["members of bob"]), ("size", []), ("nothing", [])])
@pytest.mark.parametrize("protocol", ["additive", "two-party"])
def test_nobody_is_told_how_many_of_the_first_table_others_have(protocol, reveal, lines):
    with tacit.session(protocol=protocol) as session:
        tacit.join(table("alice", [5, 1, 7]), table("bob", [3, 9, 5]), reveal=reveal, how="left")

        assert [entry.name for entry in session.ledger.entries] == lines


def test_labels_of_every_kind_come_along_in_both_forms():
    for protocol, reveal in (("additive", "members"), ("additive", "size"), ("two-party", "size")):
        with tacit.session(protocol=protocol):
            columns = {"k": [1, 2, 3], "kind": ["b", "a", "c"], "x": [1.0, 2.0, 3.0]}
            a = tacit.read_table({"k": [3, 1, 4], "z": [30.0, 10.0, 40.0]}, "alice", key="k")
            words = tacit.join(a, tacit.read_table(columns, "bob", key="k", label="kind"), reveal=reveal)
            numbers = tacit.join(a, tacit.read_table(columns, "bob", key="k", label="x", columns=[]), reveal=reveal)

            of_words = dict(zip(tacit.reveal(words.x)[:, 0].tolist(), tacit.reveal(words.y).tolist(), strict=True))
            of_numbers = dict(
                zip(tacit.reveal(numbers.x)[:, 0].tolist(), tacit.reveal(numbers.y).tolist(), strict=True)
            )

            assert (words.columns, words.y.dtype) == (("z", "x"), torch.int64)
            assert of_words == {30.0: 2, 10.0: 1}
            assert of_numbers == {30.0: [3.0], 10.0: [1.0]}
            with pytest.raises(ConfigError, match="make the table with the label the first one"):
                _ = tacit.join(a, tacit.read_table(columns, "bob", key="k", label="x"), reveal=reveal, how="left").y
            with pytest.raises(ConfigError, match="must have a label, and nobody has"):
                _ = tacit.join(a, tacit.read_table(columns, "bob", key="k", columns=["x"]), reveal=reveal).y


SAME = {
    "white space and case": (["Anna ", "\tBEN"], ["anna", "ben\n"]),
    "forms of unicode": (["Stra\u00dfe", "\uff21da", "e\u0301"], ["STRASSE", "ada", "\u00c9"]),
    "numbers and their digits": ([7, 12], ["7", "12.0"]),
    "whole numbers beside gaps": ([7.0, 12.0, None], [7, 12, 13]),
    "dates": ([datetime.date(1980, 1, 31), datetime.date(2000, 2, 29)], ["1980-01-31", "2000-02-29"]),
    "midnights": (
        [datetime.datetime(1980, 1, 31), datetime.datetime(2000, 2, 29, 1, 2, 3)],
        ["1980-01-31", "2000-02-29 01:02:03"],
    ),
    "fractions": ([1.5, 2.0, float("nan")], ["1.5", "2"]),
    "decimals": ([Decimal("1.50"), Decimal("20.00")], [1.5, 20.0]),
    "more than 64 bits": ([2**63 + 5, 7], [str(2**63 + 5), "7"]),
    "truth": ([True, False], ["TRUE", "false"]),
}


@pytest.mark.parametrize("name", SAME)
def test_keys_are_compared_in_one_form(name):
    mine, theirs = SAME[name]
    with tacit.session():
        a = tacit.read_table({"k": mine, "x": [1.0] * len(mine)}, "alice", key="k")
        b = tacit.read_table({"key": theirs, "y": [2.0] * len(theirs)}, "bob", key="key")

        assert len(tacit.join(a, b)) == len([key for key in mine if key is not None and key == key])


def test_keys_of_several_columns_are_not_confused_with_one_another():
    with tacit.session():
        a = tacit.read_table({"last": ["ab", "a", "x"], "first": ["c", "bc", None]}, "alice", key=["last", "first"])
        b = tacit.read_table({"l": ["ab", "x", "a:1"], "f": ["C", None, "bc"]}, "bob", key=["l", "f"])
        c = tacit.read_table({"name": ["abc"]}, "bob", key="name")

        assert len(tacit.join(a, b)) == 1
        with pytest.raises(ConfigError, match="keys of 2 and 1 columns can never be the same"):
            tacit.join(a, c)


def test_leading_zeros_of_text_count(write):
    with tacit.session():
        a = tacit.read_table(write("id,x\n007,1\n8,2\n", "a.csv"), "alice", key="id")
        b = tacit.read_table({"id": [7, 8], "y": [1.0, 2.0]}, "bob", key="id")

        assert len(tacit.join(a, b)) == 1


def test_duplicates_are_counted_or_the_first_of_them_stays():
    with tacit.session():
        a = tacit.read_table({"k": ["a", "b", "A", "c", "a "], "x": [1.0, 2.0, 3.0, 4.0, 5.0]}, "alice", key="k")
        b = tacit.read_table({"k": ["a", "c", "d"], "y": [10.0, 30.0, 40.0]}, "bob", key="k")

        with pytest.raises(UnusableTable, match="has 2 rows whose key an earlier one has"):
            tacit.join(a, b)
        people = tacit.join(a, b, duplicates="first")

        assert seen(people) == {(1.0, 10.0), (4.0, 30.0)}
        assert sorted(people.rows_of("alice").tolist()) == [0, 3]
        assert len(tacit.join(a, b, duplicates="first", how="left")) == 3


PHONES = {"phone": ["1", "2", None, "4", "5"], "email": ["a", "b", "c", None, "z"], "x": [1.0, 2.0, 3.0, 4.0, 5.0]}
OTHERS = {"tel": ["2", None, "9", "4", "1"], "mail": ["z", "c", "q", "a", "w"], "y": [20.0, 30.0, 90.0, 40.0, 10.0]}


@pytest.mark.parametrize(("protocol", "reveal"), [*FORMS, ("plain", "members")])
def test_keys_are_tried_one_after_the_other(protocol, reveal):
    with tacit.session(protocol=protocol):
        a = tacit.read_table(PHONES, "alice", key=tacit.either("phone", "email"))
        b = tacit.read_table(OTHERS, "bob", key=tacit.either("tel", "mail"))

        people = tacit.join(a, b, reveal=reveal)

        assert people.columns == ("x", "y")
        assert seen(people) == {(1.0, 10.0), (2.0, 20.0), (3.0, 30.0), (4.0, 40.0)}  # "z" and "a" are of people found
        left = tacit.join(a, b, reveal=reveal, how="left")
        assert seen(left) == seen(people) | {(5.0, 0.0)}


SOME = st.lists(st.tuples(*[st.none() | st.integers(0, 9)] * 3), min_size=1, max_size=12)


def matched_by_any(mine, theirs):
    """The pairs of rows that the first, the second or the third key brings together, those of the first first."""
    pairs, taken = set(), (set(), set())
    for k in range(3):
        places = {row[k]: place for place, row in enumerate(theirs) if row[k] is not None}
        for i, row in enumerate(mine):
            j = places.get(row[k])
            if j is not None and i not in taken[0] and j not in taken[1]:
                pairs.add((i, j))
        for side in (0, 1):
            taken[side].update(pair[side] for pair in pairs)
    return pairs


@settings(deadline=None, max_examples=12)
@given(SOME, SOME, st.sampled_from(FORMS), st.sampled_from(["inner", "left"]))
def test_several_keys_bring_together_what_they_do_in_the_open(mine, theirs, form, how):
    protocol, reveal = form
    mine, theirs = (
        [
            row
            for at, row in enumerate(rows)
            if not any(k is not None and k in [r[c] for r in rows[:at]] for c, k in enumerate(row))
        ]
        for rows in (mine, theirs)
    )
    pairs = matched_by_any(mine, theirs)
    if not pairs and how == "inner" and reveal != "nothing":
        return
    with tacit.session(protocol=protocol):
        tables = [
            tacit.read_table(
                {
                    **{n: [None if r[c] is None else f"{n}{r[c]}" for r in rows] for c, n in enumerate("pqr")},
                    o: [i + 1.0 for i in range(len(rows))],
                },
                o,
                key=tacit.either("p", "q", "r"),
                dtype=dict.fromkeys("pqr", "str"),
            )
            for o, rows in (("alice", mine), ("bob", theirs))
        ]

        people = tacit.join(*tables, reveal=reveal, how=how)

        wanted = {(i + 1.0, j + 1.0) for i, j in pairs}
        if how == "left":
            wanted |= {(i + 1.0, 0.0) for i in range(len(mine)) if i not in {i for i, _ in pairs}}
        assert seen(people) == wanted
        assert int(tacit.reveal(people.weight).sum()) == len(wanted)
        assert int(tacit.reveal(people.matched["bob"]).sum()) == len(pairs)
        assert len(people) == (min(len(mine), len(theirs)) if reveal == "nothing" and how == "inner" else len(wanted))


def test_alternative_keys_that_cannot_be_used():
    with tacit.session():
        a = tacit.read_table(PHONES, "alice", key=tacit.either("phone", "email"))
        one = tacit.read_table(OTHERS, "bob", key="tel", columns=["y"])
        both = tacit.read_table(OTHERS, "bob", key=tacit.either(["tel", "mail"], "mail"))
        again = {"tel": ["1", "2", "1"], "mail": ["c", "c", "d"], "y": [1.0, 2.0, 3.0]}
        twice = tacit.read_table(again, "bob", key=tacit.either("tel", "mail"))

        with pytest.raises(ConfigError, match="as many keys of each"):
            tacit.join(a, one)
        with pytest.raises(ConfigError, match="can never be the same"):
            tacit.join(a, both)
        with pytest.raises(UnusableTable, match="has 2 rows whose key an earlier one has"):
            tacit.join(a, twice)
        assert seen(tacit.join(a, twice, duplicates="first")) == {(1.0, 1.0)}
        for keys in (["phone"], ["phone", "phone"], ["phone", ["x", "x"]], ["phone", []], ["phone", 3]):
            with pytest.raises((ConfigError, TypeError), match=r"tacit\.either|not iterable"):
                tacit.either(*keys)


def test_aligned_tables_are_checked_to_be_so():
    with tacit.session() as session:
        a, b = table("alice", [5, 1, 7]), table("bob", [5, 1, 7])

        people = tacit.join(a, b, aligned=True)

        assert tacit.reveal(people.x).tolist() == [[50, 50], [10, 10], [70, 70]]
        assert session.ledger.entries[0].name == "rows in the same order"
        with pytest.raises(DataError, match="not in the same order"):
            tacit.join(a, table("bob", [1, 5, 7]), aligned=True)
        with pytest.raises(DataError, match="same number of rows, not 3 and 2"):
            tacit.join(a, table("bob", [5, 1]), aligned=True)


def test_a_policy_is_asked_before_anything_leaves():
    rules = [{"name": "rows in common", "to": "all"}, {"name": "members of alice", "to": ["alice"]}]
    with embedded(Config.embedded(reveal=rules)) as session:
        a, b = table("alice", [5, 1, 7]), table("bob", [5, 1, 8])
        before = session.meter.cost.sent

        with pytest.raises(RevealError, match="refuses to reveal 'members of bob' to bob"):
            tacit.join(a, b)

        assert session.meter.cost.sent == before
        assert session.ledger.entries == []
        assert len(tacit.join(a, b, reveal="size")) == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"reveal": "all"}, r'reveal=…\) takes "members" or "size" or "nothing", not .all.'),
        ({"how": "outer"}, r'how=…\) takes "inner" or "left"'),
        ({"duplicates": "last"}, r'duplicates=…\) takes "error" or "first"'),
    ],
)
def test_what_a_join_does_not_do_is_said(arguments, message):
    with tacit.session():
        a, b = table("alice", [1]), table("bob", [1])

        with pytest.raises(ConfigError, match=message):
            tacit.join(a, b, **arguments)


@pytest.mark.parametrize("reveal", ["size", "nothing"])
def test_parties_alone_leave_out_what_comes_twice(reveal):
    with tacit.session(protocol="two-party"):
        a = tacit.read_table({"k": ["a", "b", "A", "c", "a "], "x": [1.0, 2.0, 3.0, 4.0, 5.0]}, "alice", key="k")
        b = tacit.read_table({"k": ["a", "c", "d"], "y": [10.0, 30.0, 40.0]}, "bob", key="k")

        people = tacit.join(a, b, duplicates="first", reveal=reveal)

        assert seen(people) == {(1.0, 10.0), (4.0, 30.0)}
        assert len(people) == (2 if reveal == "size" else 3)


def test_tables_that_cannot_be_joined():
    with tacit.session():
        a = table("alice", [1])

        with pytest.raises(ConfigError, match="two tables or more"):
            tacit.join(a)
        with pytest.raises(ConfigError, match="different owners"):
            tacit.join(a, table("alice", [2]))
        with pytest.raises(ConfigError, match=r"as tacit\.read_table returns them"):
            tacit.join(a, tacit.share(torch.ones(3), owner="bob"))
        with pytest.raises(ConfigError, match="the table of bob has no key"):
            tacit.join(a, tacit.read_table({"x": [1.0]}, "bob"))

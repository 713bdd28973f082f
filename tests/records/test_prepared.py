"""Columns that owners prepare: fitted on training rows alone, at the owner, of whom nobody learns more than names."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.preprocessing import StandardScaler

import tacit
from tacit.errors import ConfigError, DataError, UnusableTable
from tacit.prepare import Table


class Centred:
    """Less the mean of the training rows; gaps become 0."""

    def __init__(self):
        self.mean = None

    @property
    def columns(self):
        return ["centred"]

    def fit(self, table, rows=None):
        self.mean = np.nanmean(table["x"] if rows is None else table["x"][rows])

    def transform(self, table):
        if self.mean is None:
            raise DataError("this preparation is not fitted")
        return np.nan_to_num(table["x"] - self.mean)[:, None]


X = {"k": [4, 3, 2, 1, 9], "x": [40.0, None, 20.0, 10.0, 1000.0]}
Y = {"k": [1, 2, 3, 4, 5], "z": [1.0, 2.0, 3.0, 4.0, 5.0]}


def tables():
    return tacit.read_table(X, "alice", key="k"), tacit.read_table(Y, "bob", key="k")


def test_a_preparation_is_fitted_on_the_training_rows_of_a_join():
    with tacit.session():
        people, mine = tacit.join(*tables()), Centred()
        z = tacit.reveal(people.x_of("bob"))[:, 0]
        train = torch.isin(z, torch.tensor([1.0, 4.0]))

        prepared = people.prepared({"alice": mine}, train=train)

        assert mine.mean == 25.0
        assert prepared.columns == ("centred", "z")
        assert {tuple(row) for row in tacit.reveal(prepared.x).tolist()} == {(-15, 1), (-5, 2), (0, 3), (15, 4)}
        assert sorted(prepared.rows_of("alice").tolist()) == [0, 1, 2, 3]
        again = people.prepared({"alice": mine})
        assert tacit.reveal(again.x).tolist() == tacit.reveal(prepared.x).tolist()


def test_where_nobody_knows_the_members_all_rows_of_the_owner_are_fitted_on():
    with tacit.session():
        people, mine = tacit.join(*tables(), reveal="size"), Centred()

        with pytest.raises(ConfigError, match="nobody knows which of its rows are held out"):
            people.prepared({"alice": mine}, train=[0, 1])
        prepared = people.prepared({"alice": mine}, train="own")

        assert mine.mean == 267.5
        assert {tuple(row) for row in tacit.reveal(prepared.x).tolist()} == {
            (-257.5, 1),
            (-247.5, 2),
            (0, 3),
            (-227.5, 4),
        }


def test_rows_that_an_owner_does_not_have_stay_zero():
    with tacit.session():
        a, b = tables()
        people, mine = tacit.join(b, a, how="left"), Centred()

        prepared = people.prepared({"alice": mine}, train=slice(None))

        assert mine.mean == pytest.approx(70 / 3)
        rows = dict(tacit.reveal(prepared.x).tolist())
        assert rows[5.0] == rows[3.0] == 0.0
        assert rows[4.0] == pytest.approx(40 - 70 / 3, abs=1e-4)
        matched = dict(
            zip(tacit.reveal(prepared.x)[:, 0].tolist(), tacit.reveal(prepared.matched["alice"]).tolist(), strict=True)
        )
        assert matched == {1.0: 1, 2.0: 1, 3.0: 1, 4.0: 1, 5.0: 0}


def test_a_table_can_be_prepared_by_itself_and_what_cannot_is_told_to_its_owner():
    with tacit.session():
        a, mine = tables()[0], Centred()

        with pytest.raises(UnusableTable, match="cannot be prepared: this preparation is not fitted"):
            a.prepared(mine)
        prepared = a.prepared(mine, train=[True, False, True, True, False])

        assert tacit.reveal(prepared.x)[:, 0].tolist() == pytest.approx(
            [40 - 70 / 3, 0, 20 - 70 / 3, 10 - 70 / 3, 1000 - 70 / 3], abs=1e-3
        )
        with pytest.raises(DataError, match="a mask of 5 rows"):
            a.prepared(mine, train=[True, False])
        with pytest.raises(DataError, match="one row at least"):
            a.prepared(mine, train=[])
        with pytest.raises(ConfigError, match="'carol' has no table here"):
            tacit.join(*tables()).prepared({"carol": mine})


def test_what_is_no_preparation_is_refused_at_all_roles(session):
    table = tacit.read_table({"k": ["a", "b"], "x": [1, 2]}, "alice", key="k")
    people = tacit.join(table, tacit.read_table({"k": ["a", "b"], "z": [1, 2]}, "bob", key="k"))

    for given, said in (
        (Table, "not the class Table"),
        ({"scale": "standard"}, "not a dict"),
        (StandardScaler(), r"a StandardScaler prepares columns inside of a tacit.prepare.Table\(transform=…\)"),
    ):
        with pytest.raises(ConfigError, match=said):
            people.prepared({"alice": given}, train="own")
        with pytest.raises(ConfigError, match=said):
            table.prepared(given, train="own")

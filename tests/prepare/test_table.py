"""Preparing an owner's table: what comes of each kind of column, kept and applied again, and all that is wrong."""

from __future__ import annotations

import datetime
import json
import os
import stat
from decimal import Decimal

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.compose import make_column_transformer
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler

import tacit
import tacit.data.read
from tacit import prepare
from tacit.ensemble import MISSING
from tacit.errors import DataError

ALL = {"impute": "median", "categories": "one-hot", "dates": "days", "scale": "standard", "clip": 5}


@pytest.fixture
def random() -> np.random.Generator:
    seed = int(os.environ.get("TACIT_TEST_SEED", int.from_bytes(os.urandom(4), "little")))
    print(f"TACIT_TEST_SEED={seed}")
    return np.random.default_rng(seed)


def frame(random: np.random.Generator, rows: int = 50) -> pd.DataFrame:
    """A table as people have them: gaps, words, dates, truths."""
    amount = random.normal(100, 20, rows)
    amount[::7] = np.nan
    job = random.choice(["clerk", "smith", "none"], rows).astype(object)
    job[3] = None
    since = pd.Timestamp("2020-01-01") + pd.to_timedelta(random.integers(0, 2000, rows), unit="D")
    return pd.DataFrame(
        {
            "amount": amount,
            "job": job,
            "since": pd.Series(since).where(random.random(rows) < 0.9),
            "married": random.random(rows) < 0.5,
            "children": random.integers(0, 5, rows),
        }
    )


def test_columns_become_numbers(random):
    table = frame(random)
    train = random.random(50) < 0.6
    train[:5] = True

    prepared = prepare.Table(**ALL)
    out = prepared.fit(table, rows=train).transform(table)

    amount = table.amount.fillna(table.amount[train].median())
    scaled = (amount - amount[train].mean()) / amount[train].std(ddof=0)
    assert prepared.columns == ["amount", "job=clerk", "job=none", "job=smith", "since", "married", "children"]
    assert out[:, 0] == pytest.approx(scaled.clip(-5, 5).to_numpy(), abs=1e-9)
    for place, word in enumerate(["clerk", "none", "smith"], start=1):
        assert (out[:, place] == (table.job == word)).all()
    assert out[3, 1:4].tolist() == [0, 0, 0]
    assert np.isfinite(out).all()
    assert abs(out[train][:, 4].mean()) < 1e-9


def test_held_out_rows_leave_no_trace(random):
    table = frame(random)
    other = table.copy()
    other.loc[30:, "amount"] = 1e6
    other.loc[30:, "job"] = "rare"
    train = np.arange(30)

    one, two = (prepare.Table(**ALL).fit(t, rows=train) for t in (table, other))

    assert one.columns == two.columns
    assert (one.transform(table) == two.transform(table)).all()
    assert (two.transform(other)[30:, 1:4] == 0).all()


@pytest.mark.parametrize("settings", [ALL, {**ALL, "categories": "ordinal", "dates": "parts", "scale": "min-max"}])
def test_what_is_kept_does_the_same_to_one_row(settings, random, tmp_path):
    table = frame(random)
    prepared = prepare.Table(**settings).fit(table)
    whole = prepared.transform(table)

    prepared.save(tmp_path / "alice.prep")
    again = prepare.load(tmp_path / "alice.prep")

    assert again.columns == prepared.columns
    assert (again.transform(table) == whole).all()
    for row in (0, 3, 7):
        one = {name: table[name][row] for name in reversed(table.columns)}
        assert (again.transform(one)[0] == whole[row]).all()
        as_json = {k: None if pd.isna(v) else str(v.date()) if k == "since" else v for k, v in one.items()}
        assert (again.transform(as_json)[0] == whole[row]).all()
    assert stat.S_IMODE((tmp_path / "alice.prep").stat().st_mode) == 0o600


def test_tables_of_every_kind_are_the_same(random):
    table = frame(random).drop(columns="since")
    expected = prepare.Table(**ALL).fit_transform(table)
    rows = table.astype(object).where(table.notna(), None).to_dict("records")
    columns = {name: [row[name] for row in rows] for name in table}
    tensors = {**columns, "children": torch.tensor(table.children.tolist())}

    for given in (rows, columns, tensors, table.astype({"job": "category"}), table.convert_dtypes()):
        assert prepare.Table(**ALL).fit_transform(given) == pytest.approx(expected, abs=1e-12)


def test_an_arrow_table_is_a_table(random):
    arrow = pytest.importorskip("pyarrow")
    table = frame(random)

    given = arrow.Table.from_pandas(table)

    assert prepare.Table(**ALL).fit_transform(given) == pytest.approx(prepare.Table(**ALL).fit_transform(table))


def test_dates_become_days_or_parts():
    dates = [datetime.date(1969, 12, 31), datetime.date(2024, 2, 29), datetime.datetime(2024, 12, 1, 12)]
    parts = prepare.Table(dates="parts")

    assert prepare.Table(dates="days").fit_transform({"d": dates}).T.tolist() == [[-1, 19782, 20058.5]]
    assert parts.fit_transform({"d": dates}).tolist() == [[1969, 12, 2], [2024, 2, 3], [2024, 12, 6]]
    assert parts.columns == ["d (year)", "d (month)", "d (weekday)"]
    zoned = datetime.datetime(2024, 12, 1, 1, tzinfo=datetime.timezone(datetime.timedelta(hours=2)))
    assert parts.transform({"d": zoned}).tolist() == [[2024, 11, 5]]


def test_constants_become_zero_and_decimals_are_numbers():
    table = {"price": [Decimal("1.5"), Decimal("2.5"), None], "same": [0.1, 0.1, 0.1]}

    out = prepare.Table(scale="standard", impute="mean").fit_transform(table)

    assert out[:, 0] == pytest.approx([-1.224744871, 1.224744871, 0])
    assert out[:, 1].tolist() == [0, 0, 0]
    assert prepare.Table(impute=-1).fit_transform(table)[2, 0] == -1


def test_settings_are_read_from_a_file(tmp_path, random):
    path = tmp_path / "prepare.toml"
    path.write_text('impute = "median"\ncategories = "one-hot"\ndates = "days"\nscale = "standard"\nclip = 5\n')
    table = frame(random)

    assert (prepare.Table.from_toml(path).fit_transform(table) == prepare.Table(**ALL).fit_transform(table)).all()
    path.write_text('imput = "median"\n')
    with pytest.raises(DataError, match="settings that there are not: imput; there are categories, clip"):
        prepare.Table.from_toml(path)
    path.write_text("[")
    with pytest.raises(DataError, match="no TOML file"):
        prepare.Table.from_toml(path)
    with pytest.raises(DataError, match="cannot be read"):
        prepare.Table.from_toml(tmp_path / "nothing")


def test_all_that_is_wrong_is_said_at_once_and_no_value(random):
    table = {
        "person_id": [5701, 5702, 5703],
        "iban": ["DE1", "DE2", "DE3"],
        "born": [datetime.date(2000, 1, 1)] * 3,
        "income": [1.0, None, 3.0],
        "empty": [None, None, None],
        "mixed": ["1357", 2, 3],
    }

    with pytest.raises(DataError) as caught:
        prepare.Table(categories="one-hot", most_categories=2).fit(table)

    said = str(caught.value)
    for part in (
        "column 'mixed' mixes numbers and words",
        "column 'person_id' looks like a key",
        "column 'iban' has 3 different words",
        "column 'born' holds dates",
        "column 'income' has no value in 1 rows",
        "column 'empty' has no value",
    ):
        assert part in said
    assert not any(value in said for value in ("5701", "DE1", "2000", "1357"))
    assert prepare.Table(columns=["person_id"], keep=["person_id"]).fit_transform(table).shape == (3, 1)


def test_columns_must_be_those_it_was_fitted_on(random):
    table = frame(random)
    prepared = prepare.Table(**ALL).fit(table)

    for wrong, message in (
        (table.drop(columns="job"), "column 'job' is missing"),
        (table.assign(more=1), "column 'more' is not one that it was fitted on"),
        (table[["job", "amount", "since", "married", "children"]], "column 'job' stands where 'amount' stood"),
        (table.assign(amount="x"), "column 'amount' holds words, and was fitted on numbers"),
        (table.assign(since="soon"), "column 'since' holds texts that are no dates"),
        (table[:0], "no rows"),
        (pd.concat([table, table[["job"]]], axis=1), "two columns are named 'job'"),
        ({"amount": [1, 2], "job": ["x"]}, "differ in their number of rows"),
        ([{"amount": 1}, {"job": 2}], "the same names"),
        (table.assign(amount=np.inf), "column 'amount' holds infinity, in row 1"),
        (table.assign(children=2**60), "2\\^53"),
        (7, "not a int"),
    ):
        with pytest.raises(DataError, match=message):
            prepared.transform(wrong)
    with pytest.raises(DataError, match=r"'amount' has no value in 1 rows, the first of them row 2"):
        prepare.Table().fit({"amount": [1.0, 2.0]}).transform({"amount": [1.0, None]})
    with pytest.raises(DataError, match="not fitted"):
        prepare.Table().transform(table)


@pytest.mark.parametrize(
    "wrong",
    [
        {"impute": "mode"}, {"impute": float("nan")}, {"impute": True}, {"categories": "onehot"}, {"dates": 1},
        {"scale": "robust"}, {"clip": 0}, {"clip": "5"}, {"drop": "id"}, {"columns": ["a", "a"]},
        {"most_categories": 0}, {"impute": "mean", "transform": StandardScaler()},
        *({"impute": MISSING, **further} for further in ({"scale": "standard"}, {"clip": 5}, {"dates": "parts"})),
    ],
)  # fmt: skip
def test_settings_are_checked(wrong):
    with pytest.raises(DataError):
        prepare.Table(**wrong)


@pytest.mark.parametrize("rows", [[True], [5], [-1], [], [0.5], [[0]], np.zeros(3, dtype=bool)])
def test_training_rows_are_checked(rows):
    with pytest.raises(DataError):
        prepare.Table().fit({"a": [1.0, 2.0, 4.0]}, rows=rows)


def test_a_damaged_file_is_refused(tmp_path, random):
    path = tmp_path / "alice.prep"
    prepare.Table(**ALL).fit(frame(random)).save(path)
    good = json.loads(path.read_text())

    def change(**parts):
        return {**good, **parts}

    first = good["inputs"][0]
    for bad in (
        [], {}, "x", None, change(version=2), change(format="x"), change(inputs=[]), change(inputs=[{}]),
        change(outputs=["a"]), change(settings={}), change(settings={**good["settings"], "scale": "x"}),
        change(inputs=[{**first, "spread": ["x"]}, *good["inputs"][1:]]),
        change(inputs=[{**first, "centre": []}, *good["inputs"][1:]]),
        change(inputs=[{**first, "kind": "code"}, *good["inputs"][1:]]),
        change(transform="!"), change(transform="aGVsbG8="), change(inputs=3), change(outputs=None),
    ):  # fmt: skip
        path.write_text(json.dumps(bad))
        with pytest.raises(DataError):
            prepare.load(path)
    path.write_bytes(b"\x80\x04}")
    with pytest.raises(DataError, match="no preparation"):
        prepare.load(path)
    path.write_text("[" * 100_000)
    with pytest.raises(DataError, match="no preparation"):
        prepare.load(path)


def transformer():
    return make_column_transformer(
        (make_pipeline(SimpleImputer(strategy="median"), StandardScaler()), ["amount", "children"]),
        (OneHotEncoder(handle_unknown="ignore"), ["job"]),
    )


def test_a_transformer_of_scikit_learn_does_it_instead(tmp_path, random):
    table = frame(random).drop(columns="since")
    train = random.random(50) < 0.6
    train[:5] = True
    expected = transformer().fit(table[train]).transform(table)

    prepared = prepare.Table(transform=transformer()).fit(table, rows=train)
    prepared.save(tmp_path / "alice.prep")
    again = prepare.load(tmp_path / "alice.prep")

    assert prepared.transform(table) == pytest.approx(np.asarray(expected))
    assert (again.transform(table) == prepared.transform(table)).all()
    assert again.columns[0] == "pipeline__amount"
    row = {name: table[name][7] for name in table}
    assert (again.transform(row)[0] == prepared.transform(table)[7]).all()
    with pytest.raises(DataError, match="'amount' is missing"):
        again.transform(table.drop(columns="amount"))
    with pytest.raises(DataError, match="'amount' holds words"):
        again.transform(table.assign(amount="x"))


def test_a_transformers_own_messages_are_not_told(random):
    table = frame(random).drop(columns="since")
    strict = make_column_transformer((OneHotEncoder(), ["job"]))
    prepared = prepare.Table(transform=strict).fit(table)

    with pytest.raises(DataError, match="its own message may hold values") as caught:
        prepared.transform(table.assign(job="secret job"))
    assert "secret job" not in str(caught.value)
    with pytest.raises(DataError, match="without a finite number in"):
        prepare.Table(transform=make_column_transformer(("passthrough", ["amount"]))).fit_transform(table)


def test_code_is_neither_kept_nor_loaded(tmp_path, random):
    table = frame(random)[["children"]]
    prepared = prepare.Table(transform=FunctionTransformer(os.path.abspath)).fit
    with pytest.raises(DataError):
        prepared(table)
    mine = prepare.Table(transform=FunctionTransformer(_own)).fit(table)

    with pytest.raises(DataError, match="types that are not scikit-learn's own"):
        mine.save(tmp_path / "alice.prep")


def _own(x):
    return x


@pytest.mark.parametrize("names", ["shown", "hidden"])
def test_an_owner_shares_what_comes_of_its_table(names, random):
    table = frame(random)
    prepared = prepare.Table(**ALL)

    with tacit.session():
        secret = prepared.share(table, "alice", rows=np.arange(40), names=names)
        told = tacit.data.read.columns(secret)
        seen = tacit.reveal(secret)

    assert seen.numpy() == pytest.approx(prepared.transform(table), abs=2**-16)
    assert told == (tuple(prepared.columns) if names == "shown" else tuple(f"column {k}" for k in range(1, 8)))


def test_words_that_would_command_a_terminal_are_spelt_in_the_names_that_others_learn():
    words = ["\x1b[2Jred", "Krak\x96w", "plain"]
    table = {"k": [1, 2, 3], "city": words}

    with tacit.session():
        prepared = prepare.Table(categories="one-hot", columns=["city"])
        told = tacit.data.read.columns(prepared.share(table, "alice"))
        records = tacit.read_table(table, "alice", key="k").prepared(prepared)

        assert tacit.reveal(records.x).tolist() == torch.eye(3).tolist()
    assert told == records.columns == ("city=\\x1b[2Jred", "city=Krak\\x96w", "city=plain")
    assert prepared.columns == [f"city={word}" for word in words]


def test_sharing_needs_a_table_at_its_owner():
    with tacit.session():
        with pytest.raises(DataError, match="alice owns the table"):
            prepare.Table().share(None, "alice")
        with pytest.raises(DataError, match="names are"):
            prepare.Table().share({"a": [1.0]}, "alice", names="secret")


def test_a_table_is_read_prepared_and_joined(random):
    left = frame(random).assign(person=[f"p{k}" for k in range(50)])
    right = pd.DataFrame({"person": [f"p{k}" for k in range(20, 60)], "debt": random.normal(0, 1, 40)})
    settings = {**ALL, "most_categories": 8}
    whole = left.drop(columns="person")

    with tacit.session():
        a = tacit.read_table(left, "alice", key="person")
        b = tacit.read_table(right, "bob", key="person")
        prepared = prepare.Table(**settings)
        x = tacit.reveal(tacit.join(a.prepared(prepared, train=np.arange(30)), b).x)
        people = tacit.join(a, b)
        own = people.rows_of("alice").numpy()
        late = prepare.Table(**settings)
        y = tacit.reveal(people.prepared({"alice": late}, train=torch.arange(10)).x)

    assert x.shape == (30, 8)
    far = np.abs(prepared.transform(whole)[20:, None] - x[None, :, :7].double().numpy()).max(2)
    assert far.min(0).max() < 2**-14
    assert far.min(1).max() < 2**-14
    again = prepare.Table(**settings).fit(whole, rows=np.unique(own[:10]))
    assert y[:, :-1].numpy() == pytest.approx(again.transform(whole)[own], abs=2**-14)


@pytest.mark.parametrize("how", [{"scale": "standard"}, {"scale": "min-max"}, {"impute": "mean"}])
def test_numbers_whose_scale_overflows_are_refused(how):
    with pytest.raises(DataError, match="column 'a' holds numbers that are too large"):
        prepare.Table(**how).fit({"a": np.array([1.7e308, 1.6e308, -1.7e308 if "scale" in how else 1.5e308])})


def test_a_row_of_texts_is_read_as_what_was_fitted(tmp_path):
    days = np.array(["2020-01-01", "2021-06-30", "2022-02-02"], dtype="M8[us]")
    table = {"since": days, "married": np.array([True, False, True]), "amount": np.array([1.0, 2.0, 4.0])}
    steps = make_column_transformer(
        (FunctionTransformer(lambda frame: frame.astype("int64"), feature_names_out="one-to-one"), ["since"]),
        (StandardScaler(), ["amount"]),
        remainder="passthrough",
    )

    for prepared in (prepare.Table(**ALL).fit(table), prepare.Table(transform=steps).fit(table)):
        row = prepared.transform({"married": "No", "since": "2021-06-30", "amount": 2})
        assert np.array_equal(row, prepared.transform(table)[1:2])
        with pytest.raises(DataError, match="'since' holds texts that are no dates"):
            prepared.transform({"married": "no", "since": "30.06.2021", "amount": 2})
        with pytest.raises(DataError, match="'married' holds words that are no truth values"):
            prepared.transform({"married": "perhaps", "since": "2021-06-30", "amount": 2})


@pytest.mark.parametrize("text", ["NaT", "now", "today"])
def test_words_are_no_dates(text):
    prepared = prepare.Table(dates="days").fit({"since": np.array(["2020-01-01", "2021-01-01"], dtype="M8[us]")})

    with pytest.raises(DataError, match="'since' holds texts that are no dates"):
        prepared.transform({"since": text})

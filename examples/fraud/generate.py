"""Make up 7,000 people whom a bank (Alice) and a tax office (Bob) both know, and who of them committed fraud.

Each person is a row, the same row in both files. A person has hidden traits, one standard normal number per feature;
wealthy people are wealthy in both files. A file never shows the trait itself but something that an institution would
have on record: an amount, a count, a share, a yes or no. Fraud is drawn with log-odds that are linear in the traits of
*both* owners, plus luck that no column explains; about one person in ten commits it. So each owner alone can do better
than guessing, and both together clearly better than each alone.

    python examples/fraud/generate.py --directory tacit-run --seed 7
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path
from typing import NamedTuple

import numpy as np

ROWS = 7_000
ALICE_FILE = "aliceTrainFile.csv"
BOB_FILE = "bobTrainFileWithLabel.csv"
LABEL = "label"

INTERCEPT = -4.3
"""Log-odds of fraud for an average person: higher means more fraud. At -4.3 about 10 % of the people commit it."""
WEALTH_SHARE = 0.5
"""How much of the variance of money columns is wealth that all of them share: higher means more redundant columns."""


class Feature(NamedTuple):
    """A column: what it is called, how a trait becomes its value, its typical value, its effect on the log-odds."""

    name: str
    kind: str
    typical: float
    effect: float


ALICE = (
    Feature("balance", "money", 6_000, -0.30),
    Feature("monthly_inflow", "money", 2_900, 0.40),
    Feature("monthly_outflow", "money", 2_500, 0.00),
    Feature("largest_transfer", "money", 1_800, 0.75),
    Feature("credit_line", "money", 3_000, 0.00),
    Feature("cash_share", "share", 0.15, 1.00),
    Feature("transfers_abroad_share", "share", 0.05, 0.85),
    Feature("round_amount_share", "share", 0.20, 0.65),
    Feature("night_transfers", "count", 6, 0.50),
    Feature("new_payees", "count", 9, 0.85),
    Feature("card_declines", "count", 4, 0.30),
    Feature("failed_logins", "count", 5, 0.00),
    Feature("overdraft_days", "count", 12, 0.55),
    Feature("address_changes", "count", 2, 0.35),
    Feature("years_as_customer", "count", 14, -0.75),
    Feature("business_account", "flag", 0.12, 0.40),
)
BOB = (
    Feature("declared_income", "money", 31_000, -0.90),
    Feature("property_value", "money", 120_000, 0.00),
    Feature("foreign_income", "money", 900, 0.50),
    Feature("deductions", "money", 2_400, 0.70),
    Feature("tax_owed", "money", 700, 0.40),
    Feature("deduction_share", "share", 0.12, 0.90),
    Feature("income_change_share", "share", 0.30, -0.35),
    Feature("donation_share", "share", 0.02, 0.00),
    Feature("late_filings", "count", 3, 0.85),
    Feature("corrections", "count", 3, 0.65),
    Feature("vat_refunds", "count", 4, 0.70),
    Feature("employers", "count", 2, 0.30),
    Feature("company_roles", "count", 2, 0.55),
    Feature("years_registered", "count", 20, -0.55),
    Feature("self_employed", "flag", 0.14, 0.50),
    Feature("audited_before", "flag", 0.06, 0.00),
)


def observe(feature: Feature, trait: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return what an institution has on record for these traits."""
    if feature.kind == "money":
        return np.round(feature.typical * np.exp(0.5 * trait), 2)
    if feature.kind == "share":
        odds = feature.typical / (1 - feature.typical) * np.exp(0.8 * trait)
        return np.round(odds / (1 + odds), 4)
    if feature.kind == "count":
        return rng.poisson(feature.typical * np.exp(0.5 * trait)).astype(float)
    threshold = np.quantile(trait, 1 - feature.typical)
    return (trait > threshold).astype(float)


def generate(rows: int = ROWS, seed: int = 7) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return Alice's columns, Bob's columns and the labels of the same people."""
    rng = np.random.default_rng(seed)
    wealth = rng.standard_normal(rows)
    columns, log_odds = [], np.full(rows, INTERCEPT)
    for feature in ALICE + BOB:
        trait = rng.standard_normal(rows)
        if feature.kind == "money":
            trait = np.sqrt(WEALTH_SHARE) * wealth + np.sqrt(1 - WEALTH_SHARE) * trait
        columns.append(observe(feature, trait, rng))
        log_odds += feature.effect * trait
    label = (rng.random(rows) < 1 / (1 + np.exp(-log_odds))).astype(int)
    table = np.stack(columns, axis=1)
    return table[:, : len(ALICE)], table[:, len(ALICE) :], label


def write_csv(path: Path, names: list[str], rows: np.ndarray, label: np.ndarray | None = None) -> None:
    """Write one owner's file: a header, then a row per person, the label last."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(names if label is None else [*names, LABEL])
        for place, row in enumerate(rows):
            cells = [f"{value:.10g}" for value in row]
            writer.writerow(cells if label is None else [*cells, int(label[place])])


def write_missing(directory: Path, seed: int = 7) -> list[Path]:
    """Write both owners' files unless both are there; return those written."""
    alice, bob = directory / ALICE_FILE, directory / BOB_FILE
    if alice.exists() and bob.exists():
        return []
    xa, xb, label = generate(seed=seed)
    write_csv(alice, [feature.name for feature in ALICE], xa)
    write_csv(bob, [feature.name for feature in BOB], xb, label)
    return [alice, bob]


def main() -> None:
    """Write the two files."""
    parser = argparse.ArgumentParser(description="Write the two owners' made-up files.")
    parser.add_argument("--directory", type=Path, default=Path("tacit-run"))
    parser.add_argument("--seed", type=int, default=7)
    options = parser.parse_args()
    written = write_missing(options.directory, options.seed)
    print("wrote " + " and ".join(map(str, written)) if written else "both files are there already")


if __name__ == "__main__":
    main()

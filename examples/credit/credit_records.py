"""Make up what a bank (Alice) and a credit bureau (Bob) have on record about people, each in its own way.

The bank has a semicolon-separated file of loans, with decimal commas, dates of its own style, and whether the loan was
repaid. The bureau has an SQLite database. They know partly other people: of 6,000, the bank has 4,200 and the bureau
4,500, in orders of their own. Customer numbers are written differently ("DE-004711", " de-004711"), cells are missing,
amounts are in cents at one and in euros at the other, and there are columns that are good for nothing.

A person has hidden traits; whoever is short of money shows it at the bank as at the bureau. Default is drawn with
log-odds that are linear in the traits, so that each institution alone can tell something about it, and both together
clearly more. About one loan in five is not repaid.

    python examples/credit/credit_records.py --directory credit-run --seed 7
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import sqlite3
from pathlib import Path

import numpy as np

PEOPLE, AT_BANK, AT_BUREAU = 6_000, 4_200, 4_500
BANK_FILE, BUREAU_FILE = "bank.csv", "bureau.db"
EFFECTS = {"income": -0.7, "amount": 0.8, "age": -0.5, "purpose": 0.6, "late": 1.0, "used": 0.8, "inquiries": 0.6}
"""How much the log-odds of default grow with each trait: 0 means not at all."""
INTERCEPT = -2.1
"""Log-odds of default for an average person: higher means more defaults."""
PURPOSES = ("car", "home", "education", "holiday", "debts")
"""From the purpose of a loan that is repaid most often to that which is least often."""
REGIONS = ("north", "east", "south", "west")
GAPS = 0.08
"""The part of cells that are missing, in columns that have gaps."""


def people(seed: int) -> dict[str, np.ndarray]:
    """The traits of all people, standard normal each, whether they default, and where they are known."""
    rng = np.random.default_rng(seed)
    short = rng.standard_normal(PEOPLE)
    traits = {name: (0.5 * np.sign(e) * short + rng.standard_normal(PEOPLE)) / 1.12 for name, e in EFFECTS.items()}
    log_odds = INTERCEPT + sum(effect * traits[name] for name, effect in EFFECTS.items())
    traits["default"] = rng.random(PEOPLE) < 1 / (1 + np.exp(-log_odds))
    traits["bank"] = rng.permutation(PEOPLE)[:AT_BANK]
    traits["bureau"] = rng.permutation(PEOPLE)[:AT_BUREAU]
    return traits


def bank_rows(traits: dict[str, np.ndarray], rng: np.random.Generator) -> list[list[str]]:
    """The bank's lines, the names of the columns first."""
    rows = [["customer no", "born", "monthly income", "amount", "purpose", "branch phone", "repaid"]]
    for person in traits["bank"]:
        born = np.datetime64("1975-01-01") + int(4_000 * np.clip(-traits["age"][person], -2.5, 2.5))
        income = f"{2_400 * np.exp(0.4 * traits['income'][person]):.2f}".replace(".", ",")
        amount = f"{9_000 * np.exp(0.6 * traits['amount'][person]):.2f}".replace(".", ",")
        place = int(np.clip(np.floor(5 / (1 + np.exp(-1.6 * traits["purpose"][person]))), 0, 4))
        day = born.astype(object)
        rows.append(
            [
                f"DE-{person:06d}",
                "" if rng.random() < GAPS else f"{day:%d.%m.%Y}",
                "n/a" if rng.random() < GAPS else income,
                amount,
                "" if rng.random() < GAPS else PURPOSES[place],
                f"0{rng.integers(10**8, 10**9)}",
                "no" if traits["default"][person] else "yes",
            ]
        )
    return rows


def bureau_rows(traits: dict[str, np.ndarray], rng: np.random.Generator) -> list[tuple[object, ...]]:
    """The bureau's rows: number, late payments, credit used and granted in cents, inquiries, region, since when."""
    rows = []
    for person in traits["bureau"]:
        lines = 500_000 * np.exp(0.3 * rng.standard_normal())
        used = lines / (1 + np.exp(-traits["used"][person]))
        since = np.datetime64("2012-06-01") + int(rng.integers(-3_000, 3_000))
        rows.append(
            (
                f" de-{person:06d}" if rng.random() < 0.5 else f"DE-{person:06d}",
                None if rng.random() < GAPS else int(rng.poisson(np.exp(0.8 * traits["late"][person]))),
                int(used),
                int(lines),
                int(rng.poisson(2 * np.exp(0.5 * traits["inquiries"][person]))),
                None if rng.random() < GAPS else REGIONS[rng.integers(4)],
                str(since),
            )
        )
    return rows


def write_missing(directory: Path, seed: int = 7) -> list[Path]:
    """Write both institutions' records unless both are there; return the paths that were written."""
    bank, bureau = directory / BANK_FILE, directory / BUREAU_FILE
    if bank.exists() and bureau.exists():
        return []
    directory.mkdir(parents=True, exist_ok=True)
    traits, rng = people(seed), np.random.default_rng(seed + 1)
    with bank.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, delimiter=";").writerows(bank_rows(traits, rng))
    bureau.unlink(missing_ok=True)
    with contextlib.closing(sqlite3.connect(bureau)) as base:
        base.execute("CREATE TABLE persons (no TEXT, late, used_cents, lines_cents, inquiries, region, since TEXT)")
        base.execute("CREATE TABLE audit (what TEXT)")
        base.executemany("INSERT INTO persons VALUES (?, ?, ?, ?, ?, ?, ?)", bureau_rows(traits, rng))
        base.commit()
    return [bank, bureau]


def main() -> None:
    """Write the two institutions' records."""
    parser = argparse.ArgumentParser(description="Make up the records of a bank and a credit bureau.")
    parser.add_argument("--directory", type=Path, default=Path("credit-run"))
    parser.add_argument("--seed", type=int, default=7)
    options = parser.parse_args()
    written = write_missing(options.directory, options.seed)
    print("wrote " + " and ".join(map(str, written)) if written else "both are there already")


if __name__ == "__main__":
    main()

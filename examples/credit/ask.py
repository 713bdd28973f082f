"""Ask about people, and be the only one to know the answers: by their numbers, and about somebody who just came in.

python examples/credit/ask.py --to public.json DE-000123 DE-004711
"""

import argparse

import tacit

SOMEBODY = {
    "born": "1984-05-17",
    "monthly income": 2150.0,
    "amount": 12000.0,
    "purpose": "debts",
}


def main() -> None:
    """Ask about each."""
    parser = argparse.ArgumentParser(description="Ask a bank and a credit bureau whether people repay.")
    parser.add_argument("--to", required=True, help="the servers' public file")
    parser.add_argument("numbers", nargs="+")
    options = parser.parse_args()
    with tacit.Client(options.to) as client:
        for number, risk in zip(options.numbers, client.score(options.numbers)[:, 0].tolist(), strict=True):
            print(f"{number}: " + (f"{risk:.3f}" if risk == risk else "not known to both"))
        risk = client.score({"alice": SOMEBODY, "bob": options.numbers[0]})
        print(f"{options.numbers[0]}, for a loan of {SOMEBODY['amount']:.0f}: {float(risk):.3f}")


if __name__ == "__main__":
    main()

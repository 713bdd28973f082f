"""What to tell the user when two roles do not run the same program: the first operator in which they differ."""

from __future__ import annotations

__all__ = ["explain"]

History = list[tuple[int, bytes, str]]


def explain(here: str, mine: History, peer: str, theirs: History | None, detail: str, *, same_script: bool) -> str:
    """One message naming both roles and both sides' operator; `detail` says what gave it away."""
    message = f"{here} and {peer} do not run the same program: {_difference(here, mine, peer, theirs, detail)}"
    if not same_script:
        message += "; their scripts differ"
    return message


def _difference(here: str, mine: History, peer: str, theirs: History | None, detail: str) -> str:
    if theirs is None:
        return f"{detail}; {here} is at {_last(mine)}, and {peer} has not said where it is"
    left = {count: (digest, operator) for count, digest, operator in mine}
    right = {count: (digest, operator) for count, digest, operator in theirs}
    common = sorted(left.keys() & right.keys())
    first = next((count for count in common if left[count][0] != right[count][0]), None)
    if first is None:
        return f"{detail}; {here} is at {_last(mine)} and {peer} at {_last(theirs)}"
    ours, other = left[first][1], right[first][1]
    agreed_before = first - 1 in common or first == 1
    where = f"operator {first}" if agreed_before else f"at or before operator {first}, the oldest that both remember,"
    if ours == other:
        return f"{where} is `{ours}` at both, but {'its public values differ' if agreed_before else 'they differ'}"
    return f"{where} is `{ours}` at {here} but `{other}` at {peer}"


def _last(history: History) -> str:
    if not history:
        return "the start of the session"
    count, _, operator = history[-1]
    return f"operator {count}, `{operator}`"

"""What to tell the user when two roles do not run the same program, or were told two things: in which operator."""

from __future__ import annotations

from tacit.net.transcript import Entry

__all__ = ["explain", "unequal"]

History = list[Entry]


def explain(here: str, mine: History, peer: str, theirs: History | None, detail: str, *, same_script: bool) -> str:
    """One message naming both roles and both sides' operator; `detail` says what gave it away."""
    message = f"{here} and {peer} do not run the same program: {_difference(here, mine, peer, theirs, detail)}"
    if not same_script:
        message += "; their scripts differ"
    return message


def unequal(here: str, mine: History, peer: str, theirs: History) -> str | None:
    """What two parties say who did the same operators and hold different openings; None if it is not that."""
    left, right = {e.number: e for e in mine}, {e.number: e for e in theirs}
    common = sorted(left.keys() & right.keys())
    if any(left[count].digest != right[count].digest for count in common):
        return None
    first = next((count for count in common if left[count].opened != right[count].opened), None)
    if first is None:
        return None
    return (
        f"{here} and {peer} hold different numbers after operator {first}, `{left[first].operator}`, where all parties "
        f"open the same: one of the parties has told two others two things. Nothing is revealed; find out whose copy "
        f"of Tacit was changed"
    )


def _difference(here: str, mine: History, peer: str, theirs: History | None, detail: str) -> str:
    if theirs is None:
        return f"{detail}; {here} is at {_last(mine)}, and {peer} has not said where it is"
    left = {e.number: (e.digest, e.operator) for e in mine}
    right = {e.number: (e.digest, e.operator) for e in theirs}
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
    return f"operator {history[-1].number}, `{history[-1].operator}`"

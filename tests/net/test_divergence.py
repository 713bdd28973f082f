"""The sentence that compares two histories."""

from __future__ import annotations

from functools import partial
from typing import Any

from tacit.net.divergence import explain, unequal
from tacit.net.transcript import Again, Entry, Transcript, hashed


def history(*operators: str, keep: int | None = None) -> list[Entry]:
    transcript = Transcript()
    if keep is not None:
        transcript.keep(keep)
    for operator in operators:
        name, _, public = operator.partition("|")
        transcript.record(name, public.encode())
    return Transcript.from_bytes(transcript.to_bytes())


def say(mine: list[Entry], theirs: list[Entry] | None) -> str:
    return explain("alice", mine, "bob", theirs, "they have done different operators", same_script=True)


def test_the_first_difference_is_named_not_the_last() -> None:
    text = say(history("a", "b", "c", "d"), history("a", "x", "c", "d"))

    assert text == "alice and bob do not run the same program: operator 2 is `b` at alice but `x` at bob"


def test_equal_operators_with_different_public_values() -> None:
    assert "operator 2 is `b` at both, but its public values differ" in say(history("a", "b|1"), history("a", "b|2"))


def test_the_line_of_the_program_is_named() -> None:
    code = compile("first\nsecond\n", "folder/program.py", "exec")
    lines = {line: start for start, _, line in code.co_lines()}
    transcript = Transcript()
    transcript.record("a", b"", (code, lines[2]))
    transcript.record("b")  # of the same line

    assert [entry.operator for entry in transcript.told()] == ["a at program.py:2", "b at program.py:2"]


def test_a_difference_older_than_memory_is_said_to_be_older() -> None:
    text = say(history("a", "b", "c", "d", keep=2), history("x", "b", "c", "d", keep=3))

    assert "at or before operator 3, the oldest that both remember, is `c` at both, but they differ" in text


def test_histories_that_agree_say_where_both_are() -> None:
    text = say(history("a", "b"), history("a", "b", "c"))

    assert "they have done different operators; alice is at operator 2, `b` and bob at operator 3, `c`" in text


def opening(*steps: str) -> list[Entry]:
    """A history whose steps are operators, or `=words` that were opened in the one before."""
    transcript = Transcript()
    for step in steps:
        if step.startswith("="):
            transcript.witness(memoryview(step.encode()))
        else:
            transcript.record(step)
    return Transcript.from_bytes(transcript.to_bytes())


def test_the_operator_is_named_in_which_two_parties_were_told_two_things() -> None:
    mine = opening("a", "=1", "b", "=2", "=3", "c", "=4", "d")

    for theirs in (["a", "=1", "b", "=2", "=9", "c", "=4", "d"], ["a", "=1", "b", "=2", "=9"]):
        text = unequal("alice", mine, "bob", opening(*theirs))
        assert text is not None
        assert "alice and bob hold different numbers after operator 2, `b`" in text
    assert "after operator 4, `d`" in str(
        unequal("alice", [*mine], "bob", opening("a", "=1", "b", "=2", "=3", "c", "=4", "d", "=5"))
    )
    assert unequal("alice", mine, "bob", mine) is None
    assert unequal("alice", mine, "bob", opening("a", "=1", "x", "=9")) is None


def test_a_peer_that_has_not_answered() -> None:
    assert "alice is at operator 1, `a`, and bob has not said where it is" in say(history("a"), None)


def test_an_empty_history() -> None:
    assert "alice is at the start of the session and bob at operator 1, `a`" in say(history(), history("a"))


def test_a_history_too_long_for_a_frame_keeps_its_newest_part() -> None:
    transcript = Transcript()
    for at in range(100):
        transcript.record(f"operator {at:02}")

    entries = Transcript.from_bytes(transcript.to_bytes(limit=370))

    assert [entry.operator for entry in entries] == [f"operator {at}" for at in range(90, 100)]


def test_operators_that_are_recorded_again_are_those_that_were_recorded() -> None:
    plain, again = Transcript(), Transcript()
    here = test_operators_that_are_recorded_again_are_those_that_were_recorded.__code__
    rows: list[tuple[str, bytes, Any]] = [("add", b"", (here, 2)), ("mul", b"3|4", None), ("log", b"5", (here, 8))]

    for operator, fingerprint, place in rows:
        plain.record(operator, fingerprint, place)
    one, *others = (Again(operator, hashed(operator, public), place) for operator, public, place in rows)
    again.again((one,))
    again.again(
        [
            other._replace(text=partial(hashed, name, public))
            for other, (name, public, _) in zip(others, rows[1:], strict=True)
        ]
    )

    assert (again.count, again.digest, again.operator) == (plain.count, plain.digest, plain.operator)
    assert list(again.history) == list(plain.history)

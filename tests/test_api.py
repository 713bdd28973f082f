"""The two gates between plain and secret values, and the sessions around them."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import tacit
from tacit import SecretTensor, TacitError, api
from tacit.api import embedded, release
from tacit.errors import ConfigError, DataError, EncodingError, RevealError
from tacit.ring.fixed_point import decode
from tacit.session.config import Config


@pytest.mark.parametrize("parties", [("alice", "bob"), ("a", "b", "c"), ("a", "b", "c", "d", "e")], ids=len)
@pytest.mark.parametrize(
    "value",
    [
        torch.tensor(1.5),
        torch.randn(3, 4),
        torch.randn(4, 3).t(),
        torch.zeros(0, 5),
        torch.arange(-3, 3),
        torch.tensor([True, False, True]),
    ],
    ids=["scalar", "matrix", "transposed", "empty", "integers", "bools"],
)
def test_what_is_shared_is_what_is_revealed(value, parties):
    with tacit.session(seed=1, parties=parties):
        for owner in (None, *parties):
            secret = tacit.share(value, owner=owner)

            revealed = tacit.reveal(secret)

            assert isinstance(secret, SecretTensor)
            assert (secret.shape, secret.dtype) == (value.shape, value.dtype)
            torch.testing.assert_close(revealed, value, atol=2**-17, rtol=0)


def test_shares_of_an_owner_s_value_are_random():
    with tacit.session(seed=1, parties=("a", "b", "c")):
        shares = [tacit.share(torch.zeros(1000), owner="b").share for _ in range(2)]

    for share in shares:
        first, own, other = share.content.parts()
        for part in (first, own):
            assert abs(float((part < 0).double().mean()) - 0.5) < 0.1
        assert not (first + own).any()
        assert not other.any()  # who neither owns it nor comes first knows what all know, and holds nothing
    assert not torch.equal(shares[0].content.parts()[0], shares[1].content.parts()[0])


def test_lists_arrays_and_numbers_are_shared_as_pytorch_reads_them():
    with tacit.session(seed=1):
        assert tacit.reveal(tacit.share([[1.0, 2.0]])).tolist() == [[1, 2]]
        assert tacit.reveal(tacit.share(3.5)).item() == 3.5
        assert tacit.share(torch.randn(3).numpy()).dtype == torch.float32
        assert tacit.share([1, 2], dtype=torch.float32).dtype == torch.float32


def test_requires_grad_is_kept():
    with tacit.session(seed=1):
        assert tacit.share(torch.ones(2, requires_grad=True)).requires_grad
        assert not tacit.share(torch.ones(2)).requires_grad


def test_a_module_is_shared_as_a_copy_with_its_ties():
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Linear(3, 3, bias=False)
            self.second = nn.Linear(3, 3, bias=False)
            self.second.weight = self.first.weight
            self.register_buffer("count", torch.tensor(7))
            self.register_buffer("scale", torch.tensor([0.5]))

    plain = Tied()
    with tacit.session(seed=1):
        secret = tacit.share(plain, owner="alice")
        back = tacit.reveal(secret)

        assert isinstance(secret.first.weight, nn.Parameter)
        assert isinstance(secret.first.weight, SecretTensor)
        assert secret.second.weight is secret.first.weight
        assert isinstance(secret.scale, SecretTensor)
        assert not isinstance(secret.count, SecretTensor)
    assert not isinstance(plain.first.weight, SecretTensor)
    assert back.second.weight is back.first.weight
    torch.testing.assert_close(back.first.weight, plain.first.weight, atol=2**-17, rtol=0)


def test_a_reveal_is_written_into_the_ledger():
    with tacit.session(seed=1) as session:
        x = tacit.share(torch.ones(2, 3))

        tacit.reveal(x, to="bob", name="ages")

        (entry,) = session.ledger.entries
        assert (entry.name, entry.shape, entry.receivers) == ("ages", (2, 3), ("bob",))
        assert "test_api.py:" in entry.line


def test_a_reveal_does_not_change_the_secret():
    with tacit.session(seed=1):
        x = tacit.share(torch.tensor([1.0, 2.0]), owner="alice")

        revealed = tacit.reveal(x)
        revealed.zero_()

        assert tacit.reveal(x).tolist() == [1, 2]
        assert tacit.reveal(x * x).tolist() == [1, 4]


WRONG = {
    "text": (lambda: tacit.share("abc"), DataError, "not a str"),
    "complex": (lambda: tacit.share(torch.tensor([1j])), DataError, "real numbers"),
    "nothing": (lambda: tacit.share(None), DataError, "owner"),
    "an owner without a value": (
        lambda: tacit.share(None, owner="alice", shape=(2,)),
        DataError,
        "must give its value",
    ),
    "another shape": (lambda: tacit.share(torch.ones(3), owner="alice", shape=(2,)), DataError, "promised"),
    "twice": (lambda: tacit.share(tacit.share(torch.ones(2))), DataError, "a secret already"),
    "a stranger": (lambda: tacit.share(torch.ones(2), owner="carol"), ConfigError, "no role 'carol'"),
    "the producer": (
        lambda: tacit.share(torch.ones(2), owner="crypto-producer", shape=(2,)),
        ConfigError,
        "cannot own",
    ),
    "too large": (lambda: tacit.share(torch.tensor([0.0, 1e15]), name="income"), EncodingError, "income.*index 1"),
    "a plain reveal": (lambda: tacit.reveal(torch.ones(2)), RevealError, "takes a secret"),
    "an unknown receiver": (lambda: tacit.reveal(tacit.share(torch.ones(2)), to="carol"), ConfigError, "no such role"),
    "no receiver": (lambda: tacit.reveal(tacit.share(torch.ones(2)), to=()), ConfigError, "at least one"),
}


@pytest.mark.parametrize("what", WRONG)
def test_wrong_inputs_are_refused_in_one_sentence(what):
    call, error, message = WRONG[what]
    with tacit.session(seed=1), pytest.raises(error, match=message) as caught:
        call()

    assert "\n" not in str(caught.value)


def test_without_a_session_nothing_is_shared():
    with pytest.raises(TacitError, match=r"with tacit\.session\(\)"):
        tacit.share(torch.ones(2))


def test_the_innermost_session_is_the_current_one():
    with tacit.session(seed=1) as outer:
        with tacit.session(seed=1) as inner:
            assert tacit.current_session() is inner
        assert tacit.current_session() is outer
        assert tacit.role() == "embedded"
        assert tacit.is_role("alice")
        with pytest.raises(ConfigError, match="no role 'carol'"):
            tacit.is_role("carol")


def test_released_shares_give_the_value_to_whoever_has_all_of_them_and_are_logged():
    x = torch.tensor([[1.5, -2.25], [0.0, 2.0**40]], dtype=torch.float64)
    with tacit.session() as session:
        secret = tacit.share(x, owner="alice")

        first, again = (release(secret, to="the clinic", name="scores") for _ in range(2))

    assert list(first) == ["alice", "bob"]
    assert torch.equal(decode(sum(first.values()), 16, torch.float64), x)
    assert not (first["alice"] == again["alice"]).any()
    assert (first["alice"].abs() > 2**40).all()  # uniform, where alice's own share of what she owns need not be
    assert [(e.name, e.shape, e.receivers) for e in session.ledger.entries] == [("scores", (2, 2), ("the clinic",))] * 2


def test_released_shares_are_of_a_product_as_of_what_is_settled():
    x = torch.randn(50, dtype=torch.float64)
    with tacit.session(parties=("a", "b", "c")):
        secret = tacit.share(x, owner="b")

        shares = release(secret * secret, to="outside")

    assert len(shares) == 3
    assert torch.allclose(decode(sum(shares.values()), 16, torch.float64), x * x, atol=2**-13)


@pytest.mark.parametrize(("word", "allowed"), [("federation", True), ("all", False), ("clients", False)])
def test_a_policy_allows_rounds_of_a_federation_by_a_word_of_its_own(word, allowed):
    config = Config.embedded(reveal=[{"name": "aggregate*", "to": [word]}])
    with embedded(config):
        secret = tacit.share(torch.ones(2), owner="alice")

        if allowed:
            assert release(secret, to="federation", name="aggregate of round 1")
        else:
            with pytest.raises(RevealError, match=r'add .*"to": \[.federation.\]'):
                release(secret, to="federation", name="aggregate of round 1")


def test_a_release_is_refused_by_a_policy_and_to_a_role():
    config = Config.embedded(reveal=[{"name": "answer", "to": "all"}])
    with embedded(config):
        secret = tacit.share(torch.ones(2), owner="alice")

        assert release(secret, to="outside", name="answer")
        with pytest.raises(RevealError, match="reveal policy does not allow it"):
            release(secret, to="outside", name="weights")
        with pytest.raises(RevealError, match=r"for roles there is tacit\.reveal"):
            release(secret, to="bob")
        with pytest.raises(RevealError, match="gives numbers"):
            release(secret > 0, to="outside")


@pytest.mark.parametrize(
    "message",
    [
        b'[[-8], "float32"]', b'[[1099511627776], "float32"]', b'[["x"], "float32"]', b'{"a": 1}', b'[[true], "int64"]',
        b'[[2.5], "float32"]', b"\xff", b'[[1, 1], "no_dtype"]', b"[[1], 7]", b"[" * 100_000,
    ],
)  # fmt: skip
def test_what_an_owner_announces_may_be_anything(message: bytes) -> None:
    with pytest.raises(DataError, match="bob announced a tensor"):
        api.sharing._announced("bob", message)

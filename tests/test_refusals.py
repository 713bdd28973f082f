"""What secrets do not have: every message names what the program called, its line, and what to write instead."""

from __future__ import annotations

import io
import os

import pytest
import torch
from safetensors.torch import save
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

import tacit
from tacit.errors import DataError, RevealError, TacitError, UnsupportedOperator


@pytest.fixture(scope="module")
def x():
    with tacit.session(seed=1):
        yield tacit.share(torch.tensor([[0.5, 1.5], [2.5, 3.5]]))


@pytest.fixture(scope="module")
def labels(x):
    return tacit.share(torch.tensor([0, 2, 1]))


REFUSED = {
    "a Fourier transform": (lambda x: torch.fft.rfft(x), "torch.fft.fft(torch.eye(n)).real"),
    "a complex dtype": (lambda x: x.to(torch.complex64), "real and the imaginary"),
    "torch.linalg.svd": (lambda x: torch.linalg.svd(x), "torch.linalg.solve"),
    "torch.linalg.qr": (lambda x: torch.linalg.qr(x), "torch.linalg.solve"),
    "torch.lgamma": (lambda x: torch.lgamma(x), "tacit.nn.Polynomial"),
    "torch.special.bessel_j0": (lambda x: torch.special.bessel_j0(x), "tacit.nn.Polynomial"),
    "torch.mode": (lambda x: x.mode(), "torch.argmax"),
    "torch.multinomial of several places without replacement": (lambda x: torch.multinomial(x, 2), "replacement=True"),
    "torch.multinomial with a generator": (
        lambda x: torch.multinomial(x, 1, generator=torch.Generator()),
        "leave it out",
    ),
    "torch.frexp": (lambda x: torch.frexp(x), "fixed point"),
    "torch.nn.functional.rrelu": (lambda x: torch.nn.functional.rrelu(x, training=True), "leaky_relu"),
    "x.to_sparse()": (lambda x: x.to_sparse(), "dense"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_a_message_names_what_was_called_and_what_to_write(what, x):
    call, instead = REFUSED[what]

    with pytest.raises(UnsupportedOperator) as caught:
        call(x)

    message = str(caught.value)
    assert message.startswith(f"{what} does not work on secrets (")
    assert instead in message
    assert "test_refusals.py:" in message
    assert (caught.value.what, caught.value.instead) == (what, message.split("): ", 1)[1])


def test_counts_of_secret_labels_need_their_number(labels):
    with pytest.raises(UnsupportedOperator, match=r"torch\.bincount .*one_hot"):
        torch.bincount(labels)

    assert tacit.reveal(torch.nn.functional.one_hot(labels, 4).sum(0)).tolist() == [1, 1, 1, 0]


@pytest.mark.parametrize("write", [lambda x: torch.save(x, io.BytesIO()), lambda x: save({"x": x})])
def test_saving_names_tacit_save(write, x):
    with pytest.raises(RevealError, match=r"tacit\.save\(x, folder\)"):
        write(x)


def test_worker_processes_of_a_data_loader_touch_no_secret(x):
    with pytest.raises(TacitError, match=r"num_workers=0"):
        list(DataLoader(TensorDataset(x), num_workers=1, multiprocessing_context="fork"))

    assert [tuple(rows.shape) for (rows,) in DataLoader(TensorDataset(x))] == [(1, 2)] * 2


def test_a_forked_process_has_no_session(x):
    ours, theirs = os.pipe()
    child = os.fork()
    if not child:
        try:
            x + 1
        except TacitError as error:
            os.write(theirs, str(error).encode())
        os._exit(0)
    os.waitpid(child, 0)

    assert "forked" in os.read(ours, 1000).decode()
    assert torch.equal(tacit.reveal(x + 1), tacit.reveal(x) + 1)


# --- out=… ------------------------------------------------------------------------------------------------------------

BY_TWO = (torch.add, torch.sub, torch.mul, torch.div, torch.mm, torch.maximum, torch.lt)
OUT = {
    **{f.__name__: (lambda x, out, f=f: f(x, x, out=out)) for f in BY_TWO},
    **{f.__name__: (lambda x, out, f=f: f(x, out=out)) for f in (torch.exp, torch.sqrt, torch.sigmoid, torch.neg)},
    "add public": lambda x, out: torch.add(x, 1.5, out=out),
    "cat": lambda x, out: torch.cat([x[:1], x[1:]], out=out),
    "stack": lambda x, out: torch.stack([x[0], x[1]], out=out),
    "softmax": lambda x, out: torch.softmax(x, 1, out=out),
    "clamp": lambda x, out: torch.clamp(x, 1, 2, out=out),
    "onto itself": lambda x, out: torch.add(out.copy_(x), out, out=out),
}


@pytest.mark.parametrize("name", OUT)
def test_results_are_written_into_out(name, x):
    plain = torch.tensor([[0.5, 1.5], [2.5, 3.5]])
    kind = torch.bool if name == "lt" else torch.float32
    target, want = torch.zeros_like(x, dtype=kind), torch.zeros_like(plain, dtype=kind)

    got = OUT[name](x, target)
    OUT[name](plain, want)

    assert got is target
    torch.testing.assert_close(tacit.reveal(target), want, atol=2**-8, rtol=0)


def test_several_results_are_written_into_out(x):
    values, places = torch.zeros_like(x[0]), torch.zeros_like(x[0], dtype=torch.int64)

    torch.max(x, 1, out=(values, places))

    assert tacit.reveal(values).tolist() == [1.5, 3.5]
    assert tacit.reveal(places).tolist() == [1, 1]


@pytest.mark.parametrize(
    ("out", "error", "words"),
    [
        (lambda x: torch.zeros_like(x[0]), DataError, "shape"),
        (lambda x: torch.zeros_like(x, dtype=torch.int64), RuntimeError, "can't be cast"),
        (lambda x: torch.zeros(2, 2), TacitError, "torch.zeros_like"),
    ],
)
def test_out_that_does_not_fit_is_refused(out, error, words, x):
    with pytest.raises(error, match=words):
        torch.add(x, x, out=out(x))


def test_plain_results_go_into_a_secret_out(x):
    target: Tensor = torch.zeros_like(x)

    torch.add(torch.ones(2, 2), torch.ones(2, 2), out=target)

    assert tacit.reveal(target).tolist() == [[2.0, 2.0], [2.0, 2.0]]

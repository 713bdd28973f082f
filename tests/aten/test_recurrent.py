"""RNN, LSTM and GRU agree with PyTorch's, forward and backward, in every form of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.utils.rnn import (
    pack_padded_sequence,
    pack_sequence,
    pad_packed_sequence,
    pad_sequence,
    unpack_sequence,
)
from torch.utils._pytree import tree_leaves

import tacit
from tacit.errors import DataError, UnsupportedOperator

from .test_operators import agree

aten = torch.ops.aten
COVERS = {
    aten.mkldnn_rnn_layer.default,
    aten.mkldnn_rnn_layer_backward.default,
}
FORMS = {
    "plain": {},
    "both directions, two layers, batch first": {"bidirectional": True, "num_layers": 2, "batch_first": True},
    "without bias": {"bias": False},
}


def sequences_agree(module, *inputs, tolerance=2**-10):
    """Outputs, last states, and gradients of inputs and parameters are the same on secrets."""
    shared = tacit.share(module)
    results = []
    for m, given in ((module, inputs), (shared, [tacit.share(x) for x in inputs])):
        x, *states = (t.detach().requires_grad_() for t in given)
        state = tuple(states) if isinstance(module, nn.LSTM | nn.LSTMCell) else states[0] if states else None
        out = _flat(m(x, state) if states else m(x))
        if torch.is_grad_enabled():
            sum((o * torch.linspace(-1, 1, o.numel()).view(o.shape)).sum() for o in out).backward()
        results.append((out, [t.grad for t in (x, *states, *m.parameters())]))
    (want, gradients), (got, secret_gradients) = results
    for g, w in zip([*got, *secret_gradients], [*want, *gradients], strict=True):
        assert (g is None) == (w is None)
        if w is not None:
            agree(g, w, tolerance)


def _flat(results):
    if isinstance(results, torch.Tensor):
        return [results]
    return [t for r in results for t in _flat(r)]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", [nn.RNN, nn.LSTM, nn.GRU])
def test_layers_agree(kind, form, session, random):
    sequences_agree(kind(5, 3, **FORMS[form]), torch.randn(4, 2, 5, generator=random))


@pytest.mark.parametrize("kind", [nn.RNN, nn.LSTM, nn.GRU])
def test_layers_agree_from_a_secret_state(kind, session, random):
    x, h, c = (torch.randn(n, 2, width, generator=random) for n, width in ((3, 5), (1, 4), (1, 4)))

    sequences_agree(kind(5, 4), x, h, *([c] if kind is nn.LSTM else []))


@pytest.mark.parametrize("kind", [nn.RNN, nn.LSTM, nn.GRU])
def test_layers_agree_without_gradients_and_without_a_batch(kind, session, random):
    with torch.no_grad():
        sequences_agree(kind(5, 3).eval(), torch.randn(4, 5, generator=random))


@pytest.mark.parametrize("kind", [nn.RNNCell, nn.LSTMCell, nn.GRUCell])
def test_cells_agree(kind, session, random):
    sequences_agree(kind(5, 3), torch.randn(2, 5, generator=random))


def test_a_rectified_rnn_agrees(session, random):
    sequences_agree(nn.RNN(5, 3, nonlinearity="relu"), torch.randn(3, 2, 5, generator=random))


def test_only_the_last_state_may_be_differentiated(session, random):
    x = torch.randn(3, 2, 5, generator=random)
    plain = nn.LSTM(5, 3)
    module = tacit.share(plain)

    plain(x)[1][0].sum().backward()
    module(tacit.share(x))[1][0].sum().backward()

    for got, want in zip(module.parameters(), plain.parameters(), strict=True):
        agree(got.grad, want.grad, 2**-10)


def test_an_lstm_of_public_weights_runs_on_secrets(session, random):
    x, module = torch.randn(3, 2, 5, generator=random), nn.LSTM(5, 3)

    with torch.no_grad():
        agree(module(tacit.share(x))[0], module(x)[0], 2**-11)


@pytest.mark.priced
@pytest.mark.parametrize(("kind", "rounds"), [(nn.RNN, 4), (nn.LSTM, 7), (nn.GRU, 8)])
def test_a_step_takes_few_rounds(kind, rounds, session, random):
    layer, counts = tacit.share(kind(5, 3).eval(), owner="bob"), []

    with torch.no_grad():
        for steps in (3, 3, 7):
            x = tacit.share(torch.randn(steps, 2, 5, generator=random), owner="alice")
            before = session.meter.cost.rounds
            layer(x)
            counts.append(session.meter.cost.rounds - before)

    assert counts[2] - counts[1] == rounds * 4


@pytest.mark.parametrize("form", FORMS)
def test_a_gru_agrees_without_gradients(form, session, random):
    module, x = nn.GRU(5, 3, **FORMS[form]).eval(), torch.randn(4, 4, 5, generator=random) * 4

    with torch.no_grad():
        for got, want in zip(tacit.share(module)(tacit.share(x)), module(x), strict=True):
            agree(got, want, 2**-10)


def test_a_gru_refuses_what_pytorch_does(session, random):
    module, x = nn.GRU(5, 3), torch.randn(4, 2, 5, generator=random)
    secret = tacit.share(module)

    for wrong in (x[..., :4], x[0, 0], x[:0]):
        with pytest.raises((RuntimeError, ValueError)):
            module(wrong)
        with pytest.raises((RuntimeError, ValueError)):
            secret(tacit.share(wrong))
    with pytest.raises(RuntimeError):
        secret(tacit.share(x), tacit.share(torch.zeros(1, 3, 3)))


@pytest.mark.priced
def test_a_cell_costs_what_a_step_of_a_layer_does(session, random):
    cell, x = tacit.share(nn.LSTMCell(5, 3)), tacit.share(torch.randn(2, 5, generator=random))
    start = session.meter.cost.rounds

    h, _ = cell(x)
    middle = session.meter.cost.rounds
    h.sum().backward()

    assert middle - start <= 8
    assert session.meter.cost.rounds - middle <= 8


@pytest.mark.priced
def test_all_gates_of_a_step_take_one_sigmoid(session, random):
    module = tacit.share(nn.LSTM(5, 3))
    forward, backward = [], []

    for steps in (5, 6):
        x = tacit.share(torch.randn(steps, 2, 5, generator=random))
        start = session.meter.cost.rounds
        out = module(x)[0]
        middle = session.meter.cost.rounds
        out.square().sum().backward()
        forward.append(middle - start)
        backward.append(session.meter.cost.rounds - middle)

    assert forward[1] - forward[0] == 6
    assert backward[1] - backward[0] <= 5


def test_gates_of_an_lstm_that_are_far_beyond_saturate(session, random):
    x = torch.tensor([[[5e4, -5e4]], [[-3e5, 3e5]], [[0.3, -0.7]]])

    sequences_agree(nn.LSTM(2, 6), x, tolerance=2**-6)  # gradients of weights are multiples of x


class OverPacked(nn.Module):
    """A recurrent layer over sequences of public lengths: outputs, padded, and last states."""

    def __init__(self, layer, lengths):
        super().__init__()
        self.layer, self.lengths = layer, lengths

    def forward(self, x):
        first = self.layer.batch_first
        packed = pack_padded_sequence(x, self.lengths, batch_first=first, enforce_sorted=False)
        out, state = self.layer(packed)
        return pad_packed_sequence(out, batch_first=first, padding_value=0.5, total_length=6)[0], state


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", [nn.RNN, nn.LSTM, nn.GRU])
def test_layers_agree_over_packed_sequences(kind, form, session, random):
    layer = kind(5, 3, **FORMS[form])
    x = torch.randn(*((3, 5) if layer.batch_first else (5, 3)), 5, generator=random)

    sequences_agree(OverPacked(layer, torch.tensor([2, 5, 1])), x)


@pytest.mark.parametrize("side", ["right", "left"])
def test_sequences_are_padded_and_packed_one_by_one(side, session, random):
    plain = [torch.randn(n, 2, generator=random).requires_grad_() for n in (4, 2, 1)]
    secret = [tacit.share(x.detach()).requires_grad_() for x in plain]

    for sequences in (plain, secret):
        pad_sequence(sequences, True, -1.5, side).square().sum().backward()

    for got, want in zip(secret, plain, strict=True):
        agree(got.grad, want.grad, 2**-12)
    agree(pad_sequence(secret, True, -1.5, side), pad_sequence(plain, True, -1.5, side), 2**-12)
    agree(pack_sequence(secret).data, pack_sequence(plain).data, 2**-12)
    for got, want in zip(unpack_sequence(pack_sequence(secret)), plain, strict=True):
        agree(got, want, 2**-12)


def test_packing_opens_nothing(session, random):
    x = tacit.share(torch.randn(4, 2, 3, generator=random))
    before = session.meter.cost

    padded, lengths = pad_packed_sequence(pack_padded_sequence(x, [4, 3]))

    spent = session.meter.cost - before
    assert spent.rounds == 0
    assert not any(spent.online.values())
    assert padded.shape == x.shape
    assert lengths.tolist() == [4, 3]


@pytest.mark.parametrize(
    ("lengths", "message"),
    [([1, 2], "enforce_sorted"), ([5, 1], "between 1 and 4"), ([2, 0], "between"), ([2], "batch")],
)
def test_lengths_that_pytorch_refuses_are_refused(lengths, message, session):
    with pytest.raises(DataError, match=message):
        pack_padded_sequence(tacit.share(torch.ones(4, 2, 1)), lengths)


def test_secret_lengths_are_refused_with_an_alternative(session):
    with pytest.raises(UnsupportedOperator, match="mask what is beyond"):
        pack_padded_sequence(torch.ones(3, 2, 1), tacit.share(torch.tensor([3, 2])))


def test_other_tensors_are_packed_by_pytorch(random):
    x = torch.randn(4, 2, 3, generator=random)

    rows = [x[0], x[1, :1]]

    with FakeTensorMode() as mode:
        padded = pad_sequence([mode.from_tensor(row) for row in rows])

    assert padded.shape == (2, 2, 3)


STATES = {"RNN": 1, "GRU": 1, "LSTM": 2}


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("given", [False, True])
@pytest.mark.parametrize("kind", STATES)
def test_public_layers_take_secret_sequences(kind, given, packed, session, random):
    layer = getattr(nn, kind)(3, 4, num_layers=2, bidirectional=True)
    x = torch.randn(3, 2, 3, generator=random)
    states = [torch.randn(4, 2, 4, generator=random) for _ in range(STATES[kind])] if given else []

    _agree_on_public_layer(layer, x, states, lambda v: pack_padded_sequence(v, [3, 2]) if packed else v)


@pytest.mark.parametrize("given", [False, True])
@pytest.mark.parametrize("kind", STATES)
def test_public_cells_take_secret_inputs(kind, given, session, random):
    cell = getattr(nn, f"{kind}Cell")(3, 4)
    states = [torch.randn(2, 4, generator=random) for _ in range(STATES[kind])] if given else []

    _agree_on_public_layer(cell, torch.randn(2, 3, generator=random), states, lambda v: v)


def _agree_on_public_layer(layer: nn.Module, x: Tensor, states: list[Tensor], prepared: Callable[[Any], Any]) -> None:
    """Results and gradients, of the public weights and states too."""
    found = []
    for make in (Tensor.clone, tacit.share):
        layer.zero_grad(set_to_none=True)
        leaf, hidden = make(x).requires_grad_(), [s.clone().requires_grad_() for s in states]
        given = () if not hidden else (hidden[0] if len(hidden) == 1 else tuple(hidden),)
        results = [r for r in tree_leaves(layer(prepared(leaf), *given)) if isinstance(r, Tensor)]
        sum((r * r).sum() for r in results).backward()
        found.append([*results, leaf.grad, *(v.grad for v in (*hidden, *layer.parameters()))])
    for want, got in zip(*found, strict=True):
        agree(got, want, 2**-7)

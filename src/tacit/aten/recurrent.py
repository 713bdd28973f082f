"""The LSTM layer, which PyTorch runs as one operator, and the GRU: the gates of each come from one sigmoid. RNNs reach
secrets step by step, as ordinary operators, and so do layers over packed sequences.

    i, f, o = sigmoid(x W_ihᵀ + h W_hhᵀ + b),  g = tanh(the same),  c = f c + i g,  h = o tanh(c)

All four gates come from one sigmoid, for tanh x = 2 sigmoid(2x) - 1, and h from one function, which multiplies while it
compares. What the forward pass opens stays open for the gradient, which travels as the value behind the operator's last
result.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from tacit.errors import DataError
from tacit.functions.sigmoid import tanh_times
from tacit.protocols.remembered import Remembered
from tacit.protocols.scale import SUM_BITS
from tacit.protocols.values import Value
from tacit.ring.fixed_point import VALUE_BITS
from tacit.tensor import SecretTensor
from tacit.tensor.above_autograd import before_autograd, first, go_on
from tacit.tensor.operands import arithmetic, plain, protocol_of, secret
from tacit.tensor.refusals import unsupported
from tacit.tensor.registry import implements

aten = torch.ops.aten
Operand = Tensor
"""Public or secret."""
LSTM: Remembered[Steps] = Remembered("the steps of a forward pass, by its last result")


class Step(NamedTuple):
    """One step of the recurrence: its gates, with g = 2 z - 1, the state before, and the new tanh(c)."""

    gates: Tensor
    """All four, side by side."""
    i: Tensor
    f: Tensor
    z: Tensor
    o: Tensor
    h: Tensor
    c: Tensor
    tanh: Callable[[], Tensor]
    """Nobody but the gradient asks for it."""


class Steps(list[Step]):
    """The steps of a layer in the order of their computation."""

    def __call__(self) -> Value:
        """The value of the operator's last result: all gates."""
        share = arithmetic(torch.stack([step.gates for step in self]))  # type: ignore[arg-type]
        LSTM.keep(share, self)
        return share

    @classmethod
    def behind(cls, workspace: SecretTensor) -> Steps:
        """The steps that a last result stands for."""
        held = workspace._share
        found = held if isinstance(held, cls) else LSTM.of(workspace.share)
        assert found is not None
        return found


@implements(aten.mkldnn_rnn_layer.default)
def lstm(
    func: Any,
    x: Operand,
    w_ih: Operand,
    w_hh: Operand,
    b_ih: Operand,
    b_hh: Operand,
    hx: Operand,
    cx: Operand,
    reverse: bool,
    batch_sizes: Sequence[int],
    mode: int,
    hidden_size: int,
    num_layers: int,
    has_biases: bool,
    *_: Any,
) -> tuple[Tensor, Tensor, Tensor, SecretTensor]:
    """One layer in one direction over [time, batch, features]. 10 rounds a step."""
    protocol = protocol_of(x, w_ih, w_hh, b_ih, b_hh, hx, cx)
    fed = x @ w_ih.t()
    if has_biases:
        fed = fed + (b_ih + b_hh)
    twice_g = torch.tensor([1, 1, 2, 1]).repeat_interleave(hidden_size)
    h, c = (v.reshape(-1, hidden_size) for v in (hx, cx))
    steps, outputs = Steps(), []
    for part in reversed(fed.unbind(0)) if reverse else fed.unbind(0):
        gates = ((part + h @ w_hh.t()) * twice_g).sigmoid()
        if isinstance(gates, SecretTensor):
            protocol.together(gates.share)  # as a whole: products with its parts open nothing more
        i, f, z, o = gates.chunk(4, -1)
        new_c = f * c + i * z * 2 - i
        new_h, tanh = _tanh_times(new_c, o)
        steps.append(Step(gates, i, f, z, o, h, c, tanh))
        h, c = new_h, new_c
        outputs.append(h)
    output = torch.stack(outputs[::-1] if reverse else outputs)
    shape = torch.Size((len(steps), h.shape[0], 4 * hidden_size))
    workspace = SecretTensor(steps, output.dtype, protocol=protocol, shape=shape)
    return output, h.reshape(hx.shape), c.reshape(cx.shape), workspace


def _tanh_times(c: Tensor, o: Tensor) -> tuple[Tensor, Callable[[], Tensor]]:
    """o tanh(c), and tanh(c) for whoever needs it. 4 rounds, for a masked o."""
    if not all(isinstance(v, SecretTensor) and plain(v) is None for v in (c, o)):
        tanh_c = c.tanh()
        return o * tanh_c, lambda: tanh_c
    found = tanh_times(arithmetic(c).without_headroom(), arithmetic(o))  # type: ignore[arg-type]
    return secret(found.product, o.dtype), lambda: secret(found.tanh(), c.dtype)


@implements(aten.mkldnn_rnn_layer_backward.default)
def lstm_backward(
    func: Any,
    x: Operand,
    w_ih: Operand,
    w_hh: Operand,
    b_ih: Operand,
    b_hh: Operand,
    hx: Operand,
    cx: Operand,
    output: Operand,
    hy: Operand,
    cy: Operand,
    grad_output: Operand | None,
    grad_hy: Operand | None,
    grad_cy: Operand | None,
    reverse: bool,
    *rest: Any,
) -> tuple[Tensor, ...]:
    """The gradients of the input, both weights, both biases and both states. Up to 5 rounds a step, and 12 in all."""
    steps = Steps.behind(rest[-1])
    slopes = _slopes(steps)
    dh = torch.zeros(output.shape[1:]) if grad_hy is None else grad_hy.reshape(output.shape[1:])
    dc = torch.zeros(output.shape[1:]) if grad_cy is None else grad_cy.reshape(output.shape[1:])
    grad_output = None if grad_output is None else _settled([grad_output])[0]
    times = range(len(steps))
    gates: list[Tensor] = [dh] * len(steps)
    for step, slope, t in reversed(list(zip(steps, slopes, reversed(times) if reverse else times, strict=True))):
        if grad_output is not None:
            dh = dh + grad_output[t]
        dc = _settled([_sum(dc, dh * slope.c)])[0]
        gates[t] = _settled([torch.cat([dc * slope.i, dc * slope.f, dc * slope.z, dh * slope.o], -1)])[0]
        dh, dc = gates[t] @ w_hh, dc * step.f
    before = [step.h for step in (reversed(steps) if reverse else steps)]
    every = torch.stack(gates).flatten(0, 1)
    bias = every.sum(0)  # where there is none, PyTorch asks for the gradient of a stand-in and drops it
    return (
        (every @ w_ih).view(x.shape),
        every.t() @ x.flatten(0, 1),
        every.t() @ torch.stack(before).flatten(0, 1),
        bias,
        bias.clone(),
        dh.reshape(hx.shape),
        dc.reshape(cx.shape),
    )


class Slopes(NamedTuple):
    """What a gradient of c (of h, for o and c) is multiplied by to give that of a gate before its sigmoid, and of c."""

    i: Tensor
    f: Tensor
    z: Tensor
    o: Tensor
    c: Tensor


def _slopes(steps: Steps) -> list[Slopes]:
    """The factors of all steps: they depend on no gradient, so two rounds do for all of them."""
    gates = [step.gates - step.gates * step.gates for step in steps]
    tanhs = [step.tanh() for step in steps]
    secrets = [v for v in tanhs if isinstance(v, SecretTensor)]
    if secrets:
        secrets[0]._protocol.together(*(v.share for v in secrets))  # their squares and products open nothing more
    settled = _settled(gates + [1 - v * v for v in tanhs])
    products: list[Tensor] = []
    for n, (step, tanh_c) in enumerate(zip(steps, tanhs, strict=True)):
        i, f, z, o = settled[n].chunk(4, -1)
        products += [step.z * i * 2 - i, step.c * f, step.i * z * 4, tanh_c * o, step.o * settled[len(steps) + n]]
    products = _settled(products)
    return [Slopes(*products[5 * n : 5 * n + 5]) for n in range(len(steps))]


def _sum(x: Tensor, y: Tensor) -> Tensor:
    """x + y, which is truncated next: two products of one scale are not truncated before, in a round for each."""
    if not (isinstance(x, SecretTensor) and isinstance(y, SecretTensor)):
        return x + y
    a, b = arithmetic(x), arithmetic(y)
    return secret(a.added(b), x.dtype) if a.frac_bits == b.frac_bits <= VALUE_BITS - SUM_BITS else x + y


def _settled(tensors: Sequence[Tensor]) -> list[Tensor]:
    """Truncate what is secret, in one round."""
    secrets = [t for t in tensors if isinstance(t, SecretTensor)]
    if not secrets:
        return list(tensors)
    done = iter(secrets[0]._protocol.settle_all([arithmetic(t) for t in secrets]))
    return [SecretTensor(next(done), t.dtype) if isinstance(t, SecretTensor) else t for t in tensors]


# --- sequences of several lengths, which are public -------------------------------------------------------------------


def pack(x: Tensor, lengths: Tensor, batch_first: bool) -> tuple[Tensor, Tensor]:
    """The steps of all sequences that last so long, one step after the other, and how many those are. Local."""
    if isinstance(lengths, SecretTensor):
        raise unsupported("packing sequences of secret lengths", "pad them to one length, and mask what is beyond")
    check_lengths(x, lengths, batch_first)
    steps = x.transpose(0, 1) if batch_first else x
    sizes = (lengths > torch.arange(int(lengths[0])).unsqueeze(1)).sum(1)
    return torch.cat([step[:n] for step, n in zip(steps.unbind(0), sizes.tolist(), strict=False)]), sizes


def check_lengths(x: Tensor, lengths: Tensor, batch_first: bool) -> None:
    """Refuse what PyTorch's own packing refuses."""
    batch, longest = x.shape[:2] if batch_first else x.shape[1::-1]
    if lengths.shape != (batch,) or not batch:
        raise DataError(f"{lengths.numel()} lengths for a batch of {batch} sequences")
    if int(lengths.min()) < 1 or int(lengths.max()) > longest:
        raise DataError(f"the lengths of sequences padded to {longest} must be between 1 and {longest}")
    if bool((lengths.diff() > 0).any()):
        raise DataError("sequences are not sorted by falling length: pass enforce_sorted=False")


def pad(data: Tensor, sizes: Tensor, batch_first: bool, value: float, length: int) -> tuple[Tensor, Tensor]:
    """Packed sequences, padded to one length with a public value, and their lengths. Local."""
    batch = int(sizes[0])
    inner = (0,) * (2 * (data.dim() - 1))
    steps = [F.pad(step, (*inner, 0, batch - len(step)), value=value) for step in data.split(sizes.tolist())]
    padded = F.pad(torch.stack(steps), (*inner, 0, 0, 0, length - len(steps)), value=value)
    lengths = (sizes.unsqueeze(1) > torch.arange(batch)).sum(0)
    return padded.transpose(0, 1) if batch_first else padded, lengths


def pad_sequence(
    sequences: Sequence[Tensor], batch_first: bool = False, value: float = 0.0, side: str = "right"
) -> Tensor:
    """Sequences of several lengths, padded to the longest with a public value. Local."""
    inner, longest = (0,) * (2 * (sequences[0].dim() - 1)), max(map(len, sequences))
    missing = [(0, longest - len(s)) if side == "right" else (longest - len(s), 0) for s in sequences]
    padded = [F.pad(s, (*inner, *rim), value=value) for s, rim in zip(sequences, missing, strict=True)]
    return torch.stack(padded, 0 if batch_first else 1)


before_autograd(aten._pack_padded_sequence.default, pack)
before_autograd(aten._pad_packed_sequence.default, pad)
before_autograd(aten.pad_sequence.default, pad_sequence)


def with_secret_states(overload: Any, place: int) -> None:
    """Have public weights write the products with a public state, where a secret input is added, into a secret.

    `place` is that of the states; those of LSTMs are a list.
    """

    def kernel(keys: Any, x: Tensor, *args: Any) -> Any:
        tensors = [t for a in args for t in (a if isinstance(a, list | tuple) else [a]) if isinstance(t, Tensor)]
        weights = tensors[place + (len(args[place]) if isinstance(args[place], list | tuple) else 1) :]
        if isinstance(x, SecretTensor) and not any(isinstance(t, SecretTensor) for t in weights):
            states = args[place]
            hidden = [_trivially(t, x) for t in states] if isinstance(states, list | tuple) else _trivially(states, x)
            args = (*args[:place], hidden, *args[place + 1 :])
        return go_on(overload, keys, x, *args)

    first(overload, kernel)


def _trivially(state: Tensor, beside: SecretTensor) -> Tensor:
    return state if isinstance(state, SecretTensor) else beside.new_zeros(state.shape, dtype=state.dtype) + state


# --- GRU --------------------------------------------------------------------------------------------------------------


def gru_step(fed: Tensor, h: Tensor, w_hh: Tensor, b_hh: Tensor | None) -> Tensor:
    """z h + (1 - z) tanh(n + r n'), of r, z = sigmoid of the first two parts of what is fed and of h W_hhᵀ, and n, n'.

    Cost: 8 rounds for few elements; 9, of which a gradient finds more, where one is asked for.
    """
    size = h.shape[-1]
    own = F.linear(h, w_hh, b_hh)
    new = own[..., 2 * size :]
    r, z = (fed[..., : 2 * size] + own[..., : 2 * size]).sigmoid().chunk(2, -1)
    shares = [arithmetic(t) for t in (r, z, new) if isinstance(t, SecretTensor) and plain(t) is None]
    if shares:  # they are multiplied next, all three
        shares[0].protocol.together(*shares)
    inner = fed[..., 2 * size :] + new * r
    if torch.is_grad_enabled() and any(t.requires_grad for t in (fed, h, w_hh)):
        n = inner.tanh()
        return (h - n) * z + n
    return z * h + _tanh_times(inner, 1 - z)[0]


def gru(
    x: Tensor,
    hx: Tensor,
    params: Sequence[Tensor],
    has_biases: bool,
    num_layers: int,
    dropout: float,
    train: bool,
    bidirectional: bool,
    batch_first: bool,
) -> tuple[Tensor, Tensor] | None:
    """All layers over [time, batch, features], or None where PyTorch refuses or drops out. See `gru_step`."""
    ways, each = 1 + bidirectional, 4 if has_biases else 2
    fits = x.dim() == 3 and bool(params) and len(params) == num_layers * ways * each and x.shape[not batch_first] > 0
    if not fits or (dropout and train) or not x.shape[batch_first]:
        return None
    size = params[1].shape[-1]
    if hx.shape != (num_layers * ways, x.shape[not batch_first], size) or params[0].shape[1] != x.shape[-1]:
        return None
    x = x.transpose(0, 1) if batch_first else x
    last = []
    for layer in range(num_layers):
        rows = []
        for way in range(ways):
            k = ways * layer + way
            w_ih, w_hh, *biases = params[each * k : each * (k + 1)]
            b_ih, b_hh = biases or (None, None)
            h, steps = hx[k], []
            parts = F.linear(x, w_ih, b_ih).unbind(0)
            for part in reversed(parts) if way else parts:
                h = gru_step(part, h, w_hh, b_hh)
                steps.append(h)
            last.append(h)
            rows.append(torch.stack(steps[::-1] if way else steps))
        x = torch.cat(rows, -1) if ways > 1 else rows[0]
    return x.transpose(0, 1) if batch_first else x, torch.stack(last)


def _gru_layers(keys: Any, x: Tensor, hx: Tensor, params: Sequence[Tensor], *rest: Any) -> Any:
    secret_operands = any(isinstance(t, SecretTensor) for t in (x, hx, *params))
    hidden = _trivially(hx, x) if isinstance(x, SecretTensor) else hx
    found = gru(x, hidden, params, *rest) if secret_operands else None
    return go_on(aten.gru.input, keys, x, hidden, params, *rest) if found is None else found


def _gru_cell(
    keys: Any, x: Tensor, hx: Tensor, w_ih: Tensor, w_hh: Tensor, b_ih: Tensor | None = None, b_hh: Tensor | None = None
) -> Any:
    h = _trivially(hx, x) if isinstance(x, SecretTensor) else hx
    operands = [t for t in (x, h, w_ih, w_hh, b_ih, b_hh) if t is not None]
    fits = x.dim() == 2 and h.dim() == 2 and len(x) == len(h) > 0 and w_ih.shape == (3 * h.shape[1], x.shape[1])
    fits = fits and all(b is None or b.shape == (3 * h.shape[1],) for b in (b_ih, b_hh))
    if not fits or w_hh.shape != (3 * h.shape[1], h.shape[1]) or not any(isinstance(t, SecretTensor) for t in operands):
        return go_on(aten.gru_cell.default, keys, x, h, w_ih, w_hh, b_ih, b_hh)
    return gru_step(F.linear(x, w_ih, b_ih), h, w_hh, b_hh)


first(aten.gru.input, _gru_layers)
first(aten.gru_cell.default, _gru_cell)
for kind in (aten.rnn_tanh, aten.rnn_relu):
    with_secret_states(kind.input, 0)
for kind in (aten.rnn_tanh, aten.rnn_relu, aten.gru):
    with_secret_states(kind.data, 1)
with_secret_states(aten.lstm.data, 1)
for cell in (aten.rnn_tanh_cell, aten.rnn_relu_cell):
    with_secret_states(cell.default, 0)


def _cell(keys: Any, x: Tensor, states: Sequence[Tensor], w_ih: Tensor, w_hh: Tensor, *biases: Tensor | None) -> Any:
    """A cell of an LSTM as a layer of one step, whose gates come from one sigmoid: 8 rounds in the place of 21."""
    h, c = (_trivially(t, x) for t in states) if isinstance(x, SecretTensor) else states
    given = [b for b in biases if b is not None]
    operands = (x, h, c, w_ih, w_hh, *given)
    rows, size = (x.shape[0] if x.dim() else 0), w_hh.shape[-1]
    fits = x.dim() == 2 and h.shape == c.shape == (rows, size) and w_ih.shape == (4 * size, x.shape[1])
    fits = fits and w_hh.shape == (4 * size, size) and all(b.shape == (4 * size,) for b in given)
    if not (fits and len(given) != 1 and rows and any(isinstance(t, SecretTensor) for t in operands)):
        return go_on(aten.lstm_cell.default, keys, x, [h, c], w_ih, w_hh, *biases)
    weights, last = [w_ih, w_hh, *given], (bool(given), 1, 0.0, False, False, False)
    _, h, c = aten.lstm.input(x.unsqueeze(0), [h.unsqueeze(0), c.unsqueeze(0)], weights, *last)
    return h.squeeze(0), c.squeeze(0)


first(aten.lstm_cell.default, _cell)

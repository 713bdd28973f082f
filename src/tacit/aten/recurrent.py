"""The LSTM layer, which PyTorch runs as one operator. RNN and GRU reach secrets step by step, as ordinary operators.

    i, f, o = sigmoid(x W_ihᵀ + h W_hhᵀ + b),  g = tanh(the same),  c = f c + i g,  h = o tanh(c)

All four gates come from one sigmoid, for tanh x = 2 sigmoid(2x) - 1. What the forward pass opens stays open for the
gradient, which travels as the value behind the operator's last result.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from tacit.aten.registry import arithmetic, implements, protocol_of
from tacit.protocols.share import Share
from tacit.tensor import SecretTensor, unsupported

aten = torch.ops.aten
Operand = Tensor
"""Public or secret."""
LSTM = "lstm"
"""The memo under which the last result of the forward pass keeps its steps, once its value has been computed."""


class Step(NamedTuple):
    """One step of the recurrence: its gates, with g = 2 z - 1, the new tanh(c), and the state before."""

    i: Tensor
    f: Tensor
    z: Tensor
    o: Tensor
    tanh_c: Tensor
    h: Tensor
    c: Tensor

    @property
    def g(self) -> Tensor:
        """The candidate values."""
        return self.z * 2 - 1


class Steps(list[Step]):
    """The steps of a layer in the order of their computation."""

    def __call__(self) -> Share:
        """The value of the operator's last result: all gates."""
        share = arithmetic(torch.stack([torch.cat(step[:4], -1) for step in self]))  # type: ignore[arg-type]
        share.facts.memo[LSTM] = self
        return share

    @classmethod
    def behind(cls, workspace: SecretTensor) -> Steps:
        """The steps that a last result stands for."""
        held = workspace._share
        found = held if isinstance(held, cls) else workspace.share.facts.memo[LSTM]
        assert isinstance(found, cls)
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
    """One layer in one direction over [time, batch, features]. 13 rounds a step."""
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
            protocol.mask(gates.share)  # as a whole: products with its parts open nothing more
        i, f, z, o = gates.chunk(4, -1)
        new_c = f * c + i * (z * 2 - 1)
        tanh_c = new_c.tanh()
        steps.append(Step(i, f, z, o, tanh_c, h, c))
        h, c = o * tanh_c, new_c
        outputs.append(h)
    output = torch.stack(outputs[::-1] if reverse else outputs)
    shape = torch.Size((len(steps), h.shape[0], 4 * hidden_size))
    workspace = SecretTensor(steps, output.dtype, protocol=protocol, shape=shape)
    return output, h.reshape(hx.shape), c.reshape(cx.shape), workspace


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
    """The gradients of the input, both weights, both biases and both states. 5 rounds a step, and 12 in all."""
    steps = Steps.behind(rest[-1])
    slopes = _slopes(steps)
    dh = torch.zeros(output.shape[1:]) if grad_hy is None else grad_hy.reshape(output.shape[1:])
    dc = torch.zeros(output.shape[1:]) if grad_cy is None else grad_cy.reshape(output.shape[1:])
    times = range(len(steps))
    gates: list[Tensor] = [dh] * len(steps)
    for step, slope, t in reversed(list(zip(steps, slopes, reversed(times) if reverse else times, strict=True))):
        if grad_output is not None:
            dh = dh + grad_output[t]
        dc = _settled([dc + dh * slope.c])[0]
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
    gates = [v - v * v for step in steps for v in step[:4]]
    settled = _settled(gates + [1 - step.tanh_c * step.tanh_c for step in steps])
    products: list[Tensor] = []
    for n, step in enumerate(steps):
        i, f, z, o = settled[4 * n : 4 * n + 4]
        products += [step.g * i, step.c * f, step.i * z * 4, step.tanh_c * o, step.o * settled[4 * len(steps) + n]]
    products = _settled(products)
    return [Slopes(*products[5 * n : 5 * n + 5]) for n in range(len(steps))]


def _settled(tensors: Sequence[Tensor]) -> list[Tensor]:
    """Truncate what is secret, in one round."""
    secrets = [t for t in tensors if isinstance(t, SecretTensor)]
    if not secrets:
        return list(tensors)
    done = iter(secrets[0]._protocol.settle_all([arithmetic(t) for t in secrets]))
    return [SecretTensor(next(done), t.dtype) if isinstance(t, SecretTensor) else t for t in tensors]


@implements(aten._pack_padded_sequence.default)
def pack_padded_sequence(func: Any, x: SecretTensor, lengths: Tensor, batch_first: bool) -> None:
    """PyTorch packs and unpacks by writing into plain tensors of its own."""
    raise unsupported("packing sequences", "run the padded ones, and take each at its last step by its length")

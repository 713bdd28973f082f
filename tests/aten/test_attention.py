"""Attention and transformer layers agree with PyTorch's, in training and in evaluation, forward and backward."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import tacit
from tacit.errors import UnsupportedOperator

from .test_operators import agree, agree_on_gradients

aten = torch.ops.aten
SIZE, HEADS = 8, 2
CAUSAL = torch.ones(5, 5, dtype=torch.bool).tril()
PADDING = torch.tensor([[False] * 5, [False] * 3 + [True] * 2])

COVERS = {
    aten._native_multi_head_attention.default,
    aten._nested_tensor_from_mask_left_aligned.default,
    aten._scaled_dot_product_flash_attention_for_cpu.default,
    aten._scaled_dot_product_flash_attention_for_cpu_backward.default,
    aten._transformer_encoder_layer_fwd.default,
}


@pytest.fixture
def tokens(random):
    return torch.randn(2, 5, SIZE, generator=random)


def layers_agree(module, *inputs, tolerance=2**-9, **options):
    """Outputs, gradients of inputs and of parameters are the same on secrets."""
    shared = tacit.share(module)
    secrets = [tacit.share(x) for x in inputs]
    results = []
    for m, xs in ((module, inputs), (shared, secrets)):
        xs = [x.detach().requires_grad_() for x in xs]
        out = m(*xs, **options)
        out = out[0] if isinstance(out, tuple) else out
        if torch.is_grad_enabled():
            (out * torch.linspace(-1, 1, out.numel()).view(out.shape)).sum().backward()
        results.append((out, [x.grad for x in [*xs, *m.parameters()]]))
        m.zero_grad()
    (want, gradients), (got, secret_gradients) = results
    agree(got, want, tolerance)
    for g, w in zip(secret_gradients, gradients, strict=True):
        assert (g is None) == (w is None)
        if w is not None:
            agree(g, w, 4 * tolerance)


MASKS = {
    "none": {},
    "causal": {"is_causal": True},
    "bits": {"attn_mask": CAUSAL},
    "infinities": {"attn_mask": torch.zeros(5, 5).masked_fill(~CAUSAL, -math.inf)},
    "the least number": {"attn_mask": torch.zeros(5, 5).masked_fill(~CAUSAL, torch.finfo(torch.float32).min)},
    "distances": {"attn_mask": -torch.arange(5.0).view(5, 1).sub(torch.arange(5.0)).abs()},
    "scale": {"scale": 0.25},
}


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("width", [4, 3])  # with another width of values PyTorch takes its other path
def test_attention_agrees_under_every_mask(mask, width, session, random):
    q, k = torch.randn(2, 2, HEADS, 5, 4, generator=random)
    v = torch.randn(2, HEADS, 5, width, generator=random)

    def attend(q, k, v):
        return F.scaled_dot_product_attention(q, k, v, **MASKS[mask])

    agree(attend(*map(tacit.share, (q, k, v))), attend(q, k, v), 2**-11)
    agree_on_gradients(attend, ([q, k, v], {}), ([*map(tacit.share, (q, k, v))], {}), 2**-11)


def test_attention_by_hand_agrees(session, random):
    q, k = torch.randn(2, 5, 4, generator=random)

    def weigh(q, k):
        return (q @ k.t() / 2).masked_fill(~CAUSAL, -math.inf).softmax(-1)

    agree(weigh(tacit.share(q), tacit.share(k)), weigh(q, k), 2**-11)
    agree_on_gradients(weigh, ([q, k], {}), ([tacit.share(q), tacit.share(k)], {}), 2**-11)


def test_groups_of_queries_share_keys(session, random):
    q, k, v = (torch.randn(2, heads, 5, 4, generator=random) for heads in (4, 2, 2))

    def attend(q, k, v):
        return F.scaled_dot_product_attention(q, k, v, enable_gqa=True)

    agree_on_gradients(attend, ([q, k, v], {}), ([*map(tacit.share, (q, k, v))], {}), 2**-11)


def test_a_secret_mask_is_as_good(session, random):
    q, mask = torch.randn(2, HEADS, 5, 4, generator=random), torch.randn(5, 5, generator=random)

    got = F.scaled_dot_product_attention(*[tacit.share(q)] * 3, attn_mask=tacit.share(mask))

    agree(got, F.scaled_dot_product_attention(q, q, q, attn_mask=mask), 2**-11)


@pytest.mark.priced
def test_the_weights_are_computed_once(session, random):
    q = tacit.share(torch.randn(1, 1, 6, 4, generator=random)).requires_grad_()
    start = session.meter.cost
    out = F.scaled_dot_product_attention(q, q, q)
    forward = session.meter.cost - start

    out.sum().backward()

    backward = session.meter.cost - start - forward
    assert backward.rounds <= 5 < forward.rounds  # products and truncations only, no softmax


def test_the_second_result_is_there_for_those_who_ask(session, random):
    q, k, v = torch.randn(3, 1, 1, 4, 4, generator=random)
    operator = aten._scaled_dot_product_flash_attention_for_cpu.default

    got = operator(*map(tacit.share, (q, k, v)))
    grads = aten._scaled_dot_product_flash_attention_for_cpu_backward.default
    sums = tacit.reveal(got[1])
    gradients = grads(tacit.share(v), *map(tacit.share, (q, k, v)), *got, 0.0, False)

    want = operator(q, k, v)
    agree(sums, want[1], 2**-10)
    for g, w in zip(gradients, grads(v, q, k, v, *want, 0.0, False), strict=True):
        agree(g, w, 2**-10)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"need_weights": False},
        {"key_padding_mask": PADDING},
        {"attn_mask": nn.Transformer.generate_square_subsequent_mask(5), "is_causal": True, "need_weights": False},
    ],
    ids=str,
)
@pytest.mark.parametrize("training", [True, False])
def test_multi_head_attention_agrees(options, training, session, tokens):
    module = nn.MultiheadAttention(SIZE, HEADS, batch_first=True).train(training)

    layers_agree(module, tokens, tokens, tokens, **options)
    with torch.no_grad():
        layers_agree(module, tokens, tokens, tokens, **options)


def test_queries_may_look_at_other_tokens(session, random):
    module = nn.MultiheadAttention(SIZE, HEADS, kdim=6, vdim=4, add_bias_kv=True, add_zero_attn=True)
    q, k, v = (torch.randn(n, 2, width, generator=random) for n, width in ((5, SIZE), (3, 6), (3, 4)))

    layers_agree(module, q, k, v)


@pytest.mark.parametrize("norm_first", [True, False])
@pytest.mark.parametrize("activation", ["relu", "gelu"])
@pytest.mark.parametrize("training", [True, False])
def test_encoder_layers_agree(norm_first, activation, training, session, tokens):
    module = nn.TransformerEncoderLayer(
        SIZE, HEADS, 16, dropout=0.0, batch_first=True, norm_first=norm_first, activation=activation
    ).train(training)

    layers_agree(module, tokens, tolerance=2**-8)
    with torch.no_grad():
        layers_agree(module, tokens, tolerance=2**-8)


def test_encoders_agree_under_padding(session, tokens):
    layer = nn.TransformerEncoderLayer(SIZE, HEADS, 16, batch_first=True)
    module = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False).eval()

    with torch.no_grad():
        layers_agree(module, tokens, tolerance=2**-8, src_key_padding_mask=PADDING)


def test_encoders_and_decoders_agree(session, tokens):
    module = nn.Transformer(SIZE, HEADS, 1, 1, 16, dropout=0.0, batch_first=True)

    layers_agree(module, tokens, tokens[:, :3], tolerance=2**-7)


def test_dropout_inside_of_attention_is_public_randomness(session, seed, tokens):
    module = nn.MultiheadAttention(SIZE, HEADS, dropout=0.5, batch_first=True)

    torch.manual_seed(seed)
    want, _ = module(tokens, tokens, tokens)
    torch.manual_seed(seed)
    x = tacit.share(tokens)
    got, _ = tacit.share(module)(x, x, x)

    agree(got, want, 2**-9)


def test_fused_attention_refuses_dropout(session, tokens):
    q = tacit.share(tokens).unsqueeze(1)

    with pytest.raises(UnsupportedOperator, match="dropout"):
        aten._scaled_dot_product_flash_attention_for_cpu.default(q, q, q, 0.5)

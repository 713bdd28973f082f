"""How many fractional bits numbers have: parameters and running statistics finer than the session's."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

import tacit
from tacit.errors import ConfigError


@pytest.fixture(scope="module")
def session():
    with tacit.session(seed=0) as opened:
        yield opened


def scale(x):
    return x.share.scale.frac_bits


def error(got, want):
    return float((tacit.reveal(got.detach()) - want.detach()).abs().max() / want.detach().abs().max())


@pytest.mark.parametrize("variance", [1e-2, 1e-4, 1e-5, 1e-6])
def test_batch_norm_keeps_small_running_variances(variance, session):
    plain = nn.BatchNorm2d(8).eval()
    plain.running_var.copy_(variance * (0.5 + torch.rand(8)))
    x = torch.randn(2, 8, 4, 4) * variance**0.5

    with torch.no_grad():
        got, want = tacit.share(plain, owner="bob")(tacit.share(x, owner="alice")), plain(x)

    assert error(got, want) < 0.01


def test_running_statistics_stay_fine_when_they_are_updated_loaded_and_assigned(session):
    plain, other = nn.BatchNorm1d(4, momentum=0.3), nn.BatchNorm1d(4)
    shared = tacit.share(plain, owner="bob")
    x = 3e-3 * torch.randn(64, 4)
    with torch.no_grad():
        other.running_var.copy_(1e-5 * (1 + torch.rand(4)))

    for _ in range(8):
        plain(x), shared(tacit.share(x, owner="alice"))
    assert error(shared.eval()(tacit.share(x)), plain.eval()(x)) < 0.02

    shared.load_state_dict(other.state_dict())
    assert error(shared(tacit.share(x)), other.eval()(x)) < 0.01

    shared.running_var = tacit.share(2 * other.running_var, owner="bob", frac_bits=32)
    other.running_var *= 2
    assert error(shared(tacit.share(x)), other(x)) < 0.01


@pytest.mark.parametrize("momentum", [1.0, 0.5, None])
def test_running_statistics_follow_any_momentum(momentum, session):
    plain = nn.BatchNorm1d(3, momentum=momentum)
    shared = tacit.share(plain)

    for _ in range(3):
        x = torch.randn(2, 3)
        plain(x), shared(tacit.share(x))

    for name in ("running_mean", "running_var"):
        torch.testing.assert_close(
            tacit.reveal(getattr(shared, name)), getattr(plain, name), atol=2.0**-14, rtol=2.0**-13
        )


def test_a_sum_over_many_inputs_is_not_off_by_the_rounding_of_its_weights(session):
    plain = nn.Linear(4096, 8)
    x = 10 * torch.randn(4, 4096)

    with torch.no_grad():
        got, want = tacit.share(plain, owner="bob")(tacit.share(x, owner="alice")), plain(x)

    rounded = nn.functional.linear(torch.round(x * 2**16) / 2**16, torch.round(plain.weight * 2**16) / 2**16)
    assert error(got, want) * want.abs().max() < (rounded + plain.bias - want).abs().max() / 4


@pytest.mark.parametrize(
    "make",
    [
        lambda p: torch.optim.SGD(p, lr=0.1),
        lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=1e-2, foreach=False),
        lambda p: torch.optim.AdamW(p, lr=0.01),
    ],
)
def test_parameters_keep_their_scale_in_training(make, session):
    shared = tacit.share(nn.Linear(4, 2), owner="bob")
    optimizer = make(shared.parameters())

    for _ in range(2):
        optimizer.zero_grad()
        shared(tacit.share(torch.randn(8, 4))).square().mean().backward()
        optimizer.step()

    assert scale(shared.weight) == scale(shared.bias) == 20


def test_parameters_keep_their_scale_whatever_is_written_to_them(session):
    plain, other = nn.Linear(3, 2), nn.Linear(3, 2)
    shared = tacit.share(plain, owner="bob")

    def expect(want):
        assert scale(shared.weight) >= 20
        assert (tacit.reveal(shared.weight) - want).abs().max() < 2.0**-19

    expect(plain.weight)
    copied = copy.deepcopy(shared)
    assert scale(copied.weight) == scale(shared.weight.detach().clone()) == 20

    shared.load_state_dict(other.state_dict())
    expect(other.weight)
    with torch.no_grad():
        shared.weight -= 0.5 * tacit.share(plain.weight.detach(), owner="alice", frac_bits=24)
        expect(other.weight - 0.5 * plain.weight)
        shared.weight[0].copy_(plain.weight[0])
        shared.weight[1].fill_(0.1)
        expect(torch.stack([plain.weight[0], torch.full((3,), 0.1)]))


def test_a_revealed_module_has_the_parameters_it_was_shared_with(session):
    plain = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3))
    plain[1].running_var.copy_(torch.tensor([1e-6, 1e-5, 1e-4]))
    shared = tacit.share(plain, owner="bob")
    before = session.meter.cost.rounds

    back = tacit.reveal(shared)

    assert session.meter.cost.rounds - before == 6
    assert (back[0].weight - plain[0].weight).abs().max() < 2.0**-20
    torch.testing.assert_close(back[1].running_var, plain[1].running_var, atol=0, rtol=2e-4)


def test_checkpoints_keep_the_scales(session, tmp_path):
    shared = tacit.share(nn.BatchNorm1d(3), owner="bob")

    tacit.save(shared.state_dict(), tmp_path)

    loaded = tacit.load(tmp_path)
    assert [scale(loaded[name]) for name in ("weight", "running_mean", "running_var")] == [20, 20, 32]


def test_a_tensor_may_have_a_scale_of_its_own(session):
    x = 1e-4 * torch.randn(100)

    assert (tacit.reveal(tacit.share(x, owner="alice", frac_bits=28)) - x).abs().max() <= 2.0**-29
    for wrong in (15, 33, True, 20.0):
        with pytest.raises(ConfigError, match="from 16 fractional bits"):
            tacit.share(x, frac_bits=wrong)
    with pytest.raises(ConfigError, match="module"):
        tacit.share(nn.Linear(1, 1), frac_bits=20)


def test_a_product_with_a_parameter_fits_below_2_to_the_26(session):
    w, x = torch.tensor([4000.0, -4000.0]), torch.tensor([16000.0, 16000.0])

    got = tacit.reveal(tacit.share(w, owner="bob", frac_bits=20) * tacit.share(x, owner="alice"))

    torch.testing.assert_close(got, w * x)


def test_a_truncation_leaves_zeros_and_whole_numbers_as_they_are(session):
    whole = torch.arange(-2048, 2048)
    x = tacit.share(whole / 2**12, owner="alice").share

    shares = [x.settle(12), x.lifted(18).settle(12), (x * x).settle(20)]

    ring = [sum(s.content.parts()) for s in shares]
    assert torch.equal(ring[0], whole)
    assert torch.equal(ring[1], whole)
    assert (ring[2] - (whole**2 >> 4)).unique().tolist() == [0, 1]
    assert torch.equal(ring[2][whole % 4 == 0], (whole**2 >> 4)[whole % 4 == 0])


@pytest.mark.parametrize("factor", [0.9, 0.3, 1 / 3, 2.0**-4, -0.7])
def test_public_factors_leave_zeros_as_they_are(factor, session):
    zeros = tacit.share(torch.zeros(4096), owner="alice").share

    scaled = zeros.protocol.scale(zeros.lifted(20), factor, 16)

    assert not sum(scaled.content.parts()).any()


def test_products_with_secret_zeros_and_ones_are_exact(session):
    x, mask = torch.randn(1 << 17), (torch.rand(1 << 17) < 0.5).float()
    kept = tacit.reveal(tacit.share(x, owner="alice") * tacit.share(mask, owner="bob"))
    dropped = tacit.reveal(nn.functional.dropout(tacit.share(x + 9, owner="alice"), 0.2))

    assert torch.equal(kept, torch.round(x * 2**16) / 2**16 * mask)
    assert not dropped[dropped < 4].any()


def test_what_an_accumulated_square_keeps_does_not_depend_on_which_object_it_is(session):
    g, mean = tacit.share(torch.full((4,), 1000.0)), tacit.share(torch.randn(8, 4)).requires_grad_()
    (1e-3 * mean).square().mean().backward()
    scales, sums = [], []

    for a, b in [(g, g), (g, g.clone()), (mean.grad, mean.grad), (mean.grad, mean.grad.clone())]:
        total = torch.zeros_like(a)
        total.addcmul_(a, b)
        lists = [torch.zeros_like(a), torch.zeros_like(a)]
        torch._foreach_addcmul_(lists, [a, a], [b, b], 1.0)
        scales.append([(scale(t), t.share.scale.precise) for t in (total, *lists)])
        sums.append([tacit.reveal(t) for t in (total, *lists)])

    assert scales[0] == scales[1]
    assert scales[2] == scales[3]
    assert scales[2][0] == (42, True)
    for t in (*sums[0], *sums[1]):
        assert (t - 1e6).abs().max() < 2.0**-10


@pytest.mark.parametrize("count", [48, 64, 768])
def test_the_mean_of_squares_is_fine_enough_for_a_root_whatever_their_number_is(count, session):
    x = 1e-2 * torch.randn(8, count)

    def normalized(v):
        return v * torch.rsqrt(v.pow(2).mean(-1, keepdim=True) + 1e-6)

    assert error(normalized(tacit.share(x, owner="alice")), normalized(x)) < 5e-3


def test_a_mean_of_squares_is_a_factor_like_any_other(session):
    x, y = 100 * torch.randn(8, 24), torch.linspace(-1000, 1000, 8)

    got = tacit.share(x, owner="alice").square().mean(1) * tacit.share(y, owner="bob")

    assert error(got, x.square().mean(1) * y) < 1e-4

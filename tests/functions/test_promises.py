"""Each smooth function keeps the error and the rounds that its docstring declares, on all of the domain it declares."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import pytest
import torch
from torch import Tensor

import tacit
from tacit.functions.exponential import exp, exp2, exp_nonpositive, exp_within
from tacit.functions.gates import gelu, gelu_slope, silu, tanh_gelu, tanh_gelu_slope
from tacit.functions.logarithm import log
from tacit.functions.reciprocal import quotient, reciprocal
from tacit.functions.roots import rsqrt, sqrt
from tacit.functions.sigmoid import erf, sigmoid, softplus, tanh, tanh_times
from tacit.functions.softmax import Softmax
from tacit.functions.squares import Squares
from tacit.functions.waves import cosine, sine
from tacit.protocols.number import Number
from tacit.protocols.series import COARSE, Exponents
from tacit.session.meter import Cost
from tacit.tensor import SecretTensor

from .documented import Promise, promise_of

EXACT: dict[Callable[[Number], Number], Callable[[Tensor], Tensor]] = {
    sigmoid: torch.sigmoid,
    tanh: torch.tanh,
    erf: torch.erf,
    softplus: lambda x: torch.logaddexp(x, torch.zeros(())),
    gelu: torch.nn.functional.gelu,
    tanh_gelu: lambda x: torch.nn.functional.gelu(x, approximate="tanh"),
    silu: torch.nn.functional.silu,
    gelu_slope: lambda x: torch.ops.aten.gelu_backward(torch.ones_like(x), x),
    tanh_gelu_slope: lambda x: torch.ops.aten.gelu_backward(torch.ones_like(x), x.clamp(-50, 50), approximate="tanh"),
    reciprocal: torch.reciprocal,
    sqrt: torch.sqrt,
    rsqrt: torch.rsqrt,
    log: torch.log,
    exp: torch.exp,
    exp_within: torch.exp,
    sine: torch.sin,
    cosine: torch.cos,
}
pytestmark = pytest.mark.priced

NAMES = {"ids": lambda f: getattr(f, "__name__", str(f))}


class Run(NamedTuple):
    """A function of shares, and what it cost."""

    value: Tensor
    cost: Cost


def run(function: Callable[..., Number], *args: Tensor, frac_bits: int = 16) -> Run:
    with tacit.session(seed=1, frac_bits=frac_bits) as session:
        shares = [tacit.share(x).share for x in args]
        before = session.meter.cost
        out = function(*shares)
        cost = session.meter.cost - before
        exact = SecretTensor(out.rescaled(out.frac_bits), torch.float64)
        return Run(_reveal_all_bits(exact), cost)


def _reveal_all_bits(x: SecretTensor) -> Tensor:
    """The value with all its fractional bits, which a reveal would round to the session's."""
    share = x.share
    assert isinstance(share, Number)
    total = torch.stack(share.content.parts()).sum(0)
    return total.double() * 2.0**-share.frac_bits


def samples(promise: Promise, frac_bits: int, random: torch.Generator) -> Tensor:
    """Random numbers of each size, a dense grid, and the very ends of the domain, as fixed point holds them."""
    unit = 2.0**-frac_bits
    low, high = max(abs(promise.low), unit) if promise.low >= 0 else unit, promise.high
    sizes = torch.exp(torch.rand(8000, generator=random, dtype=torch.float64) * math.log(high / low)) * low
    grid = torch.linspace(-40, 40, 5001, dtype=torch.float64)
    ends = torch.tensor([low, low + unit, high - unit, high / 2], dtype=torch.float64)
    x = torch.cat([sizes, grid, ends])
    if promise.signed:
        x = torch.cat([x, -x])
    elif promise.low < 0:
        x = torch.cat([x, -sizes * (-promise.low / high), torch.tensor([promise.low + unit], dtype=torch.float64)])
    x = (x / unit).round() * unit
    inside = (x.abs() if promise.signed else x) >= (promise.low if promise.signed or promise.low else unit)
    return x[inside & (x.abs() < high if promise.signed else x < high)]


@pytest.mark.parametrize("frac_bits", [12, 16, 20])
@pytest.mark.parametrize("function", EXACT, **NAMES)
def test_error_is_what_the_docstring_says(function, frac_bits, random):
    promise = promise_of(sine if function is cosine else function, frac_bits)
    x = samples(promise, frac_bits, random)

    got, cost = run(function, x, frac_bits=frac_bits)

    y = EXACT[function](x)
    share_of_bound = (got - y).abs() / promise.error(x, y)
    worst = int(share_of_bound.argmax())
    assert share_of_bound[worst] <= 1, f"x = {x[worst]}"
    assert share_of_bound[worst] >= 0.2, "the bound may be tightened"
    assert cost.rounds == promise.rounds


@pytest.mark.parametrize("frac_bits", [12, 16, 20])
def test_quotient_keeps_its_promise(frac_bits, random):
    promise = promise_of(reciprocal, frac_bits)
    x = samples(promise, frac_bits, random)
    sizes = torch.exp2(torch.rand(len(x), generator=random, dtype=torch.float64) * 90 - 45)
    n = torch.where(torch.rand(len(x), generator=random) < 0.5, sizes, x.abs() * sizes) * x.sign().flip(0)
    n = (n * 2**frac_bits).round() / 2**frac_bits
    fits = ((n / x).abs() < 2**30) & (n.abs() < 2.0 ** (62 - frac_bits))
    n, x = n[fits], x[fits]

    got, cost = run(quotient, n, x, frac_bits=frac_bits)

    bound = 2**-21 * (n / x).abs() + (2**-20 if frac_bits >= 16 else 2**-18)
    assert 0.25 <= ((got - n / x).abs() / bound).max() <= 1
    assert cost.rounds == 8
    assert "and |n / x| < 2^30. Error: <= 2^-21 |y| + 2^-20." in " ".join(quotient.__doc__.split())
    assert "Cost: 8 rounds; 7, and not truncated, if n is precise." in quotient.__doc__


@pytest.mark.parametrize("n", [1e-6, 1.0, -3.0, 12345.678, 50_000_000])
def test_a_public_numerator_keeps_its_promise(n, random):
    x = samples(promise_of(reciprocal, 16), 16, random)
    x = x[(n / x).abs() < 2**30]

    got, cost = run(lambda d: quotient(torch.tensor(n, dtype=torch.float64), d), x)

    assert ((got - n / x).abs() / (2**-20 * (n / x).abs() + 2**-20)).max() <= 1
    assert cost.rounds == 8


def test_error_is_the_same_among_five_parties(random):
    x = torch.linspace(-12, 12, 5001)
    with tacit.session(seed=1, parties=("a", "b", "c", "d", "e")):
        got = tacit.reveal(tacit.share(x).sigmoid())

    assert (got - x.sigmoid()).abs().max() <= 2**-14 + 2**-16


def test_zero_and_what_lies_below_the_domain_stay_bounded():
    below = torch.tensor([0.0, -(2.0**-16), -3.0, -(2.0**40)])

    inverse = run(reciprocal, below[:1]).value
    roots, inverse_roots, logs = (run(f, below).value for f in (sqrt, rsqrt, log))

    torch.testing.assert_close(inverse, torch.tensor([2.0**16], dtype=torch.float64), atol=0, rtol=2**-20)
    assert roots.abs().max() == 0
    torch.testing.assert_close(inverse_roots, torch.full_like(inverse_roots, 2.0**8), atol=0, rtol=2**-20)
    torch.testing.assert_close(logs, torch.full_like(logs, -17 * math.log(2)), atol=2**-20, rtol=0)
    zero, one = torch.zeros(1), torch.ones(1)
    assert run(quotient, one, zero).value.item() == 0
    assert run(lambda d: quotient(zero, d), zero).value.item() == 0
    assert run(lambda d: quotient(one, d), zero).value.item() > 2**15


def test_a_number_below_the_exponential_s_domain_is_zero():
    assert run(exp, torch.tensor([-30.5, -100.0, -30000.0])).value.abs().max() == 0


def test_the_exponential_of_what_is_not_positive_keeps_its_promise(random):
    x = -torch.rand(20000, generator=random, dtype=torch.float64) * 40
    x = torch.cat([(x * 2**16).round() / 2**16, torch.tensor([0.0, -(2.0**-16), -30.0, -(2.0**40)])])

    got, cost = run(exp_nonpositive, x)

    assert (got - x.exp()).abs().max() <= 2**-15
    assert "Error: <= 2^(1 - f)." in exp_nonpositive.__doc__
    assert cost.rounds == 4


@pytest.mark.parametrize("window", [COARSE, Exponents(-23, 1, 2.0**-18), Exponents(-17, 3, 2.0**-14, quarters=3)])
def test_a_coarse_power_of_two_is_as_fine_as_its_window_says(window, random):
    y = torch.rand(20000, generator=random, dtype=torch.float64) * (window.highest - window.lowest) + window.lowest
    y = torch.cat([(y * 2**16).floor() / 2**16, torch.tensor([window.lowest, window.highest - 2.0**-16])])

    got = run(lambda x: x.protocol.powers_of_two(x, window), y).value

    want = (y * (window.quarters / 4)).exp2()
    assert (got - want).abs().max() <= window.rounding
    assert abs((got - want).mean()) <= window.rounding / 8


def test_a_number_beyond_the_exponential_s_domain_stays_at_its_end():
    got = run(exp, torch.tensor([31.75, 31.8, 32.0, 100.0, 2.0**40])).value

    torch.testing.assert_close(got, torch.full((5,), math.e**31.75, dtype=torch.float64), atol=0, rtol=2**-20)


@pytest.mark.parametrize("base", [2.0, 1.25, 10.0])
def test_powers_of_a_public_base_keep_their_promise(base, random):
    rate = math.log2(base)
    x = (torch.rand(3000, generator=random, dtype=torch.float64) * 89 - 44) / rate
    x = torch.cat([(x * 2**16).round() / 2**16, torch.tensor([0.0, -100_000.0])])

    got, cost = run(lambda v: exp2(v, rate), x)

    y = base**x
    assert ((got - y).abs() / (2**-15 + (2**-20 + x.abs() * 2**-31) * y)).max() <= 1
    assert cost.rounds == 4


@pytest.mark.parametrize("frac_bits", [12, 16, 20])
def test_roots_and_sums_of_squares_are_right_for_numbers_of_any_size(frac_bits, random):
    unit = 2.0**-frac_bits
    sizes = torch.exp2(torch.linspace(-frac_bits, (62 - frac_bits) / 2 - 3, 400, dtype=torch.float64))
    x = torch.randn(400, 8, generator=random, dtype=torch.float64) * sizes[:, None]
    x = torch.cat([torch.zeros(1, 8), (x / unit).round() * unit])
    squares = x.square().sum(1)

    root, cost = run(lambda v: Squares.of(v, [1]).root(), x, frac_bits=frac_bits)
    mean, cost_of_mean = run(lambda v: Squares.of(v, [1]).total(1 / 7), x, frac_bits=frac_bits)

    assert root[0] == 0
    assert ((root - squares.sqrt()).abs() <= 2**-24 + 2**-17 * squares.sqrt()).all()
    assert ((mean - squares / 7).abs() <= 2 * unit + 2**-17 * squares / 7).all()
    assert (cost.rounds, cost_of_mean.rounds) == (9, 6)


@pytest.mark.parametrize("threshold", [-20.0, -1.5, 0.25, 3.0, 20.0])
def test_softplus_and_its_derivative_are_linear_beyond_the_threshold(threshold, session_of_all):
    x = torch.linspace(-40, 40, 2001)
    want, got = x.clone().requires_grad_(), tacit.share(x).requires_grad_()

    y, z = (torch.nn.functional.softplus(v, 1.0, threshold) for v in (want, got))
    y.sum().backward()
    z.sum().backward()

    far = (x - threshold).abs() > 2**-10
    torch.testing.assert_close(tacit.reveal(z.detach())[far], y.detach()[far], atol=2**-14, rtol=0)
    torch.testing.assert_close(tacit.reveal(got.grad)[far], want.grad[far], atol=2**-13, rtol=0)


def test_integers_have_reciprocals_roots_and_logarithms(random):
    n = torch.randint(1, 1000, (200,), generator=random)

    for function in (reciprocal, sqrt, rsqrt, log, sigmoid, tanh, softplus):
        got = run(function, n).value

        torch.testing.assert_close(got, EXACT[function](n.double()), atol=2**-12, rtol=2**-18)


@pytest.mark.parametrize("count", [1, 2, 7, 16, 17, 60, 128, 257])
def test_softmax_keeps_its_promise(count, random):
    x = torch.randn(500, count, generator=random, dtype=torch.float64) * 3
    x[:10], x[10:20], x[20:30, 0], x[30:40] = 0, x[10:20] * 100, 10_000, x[30:40] / 1000
    x = (x * 2**16).round() / 2**16

    with tacit.session(seed=1) as session:
        parts = Softmax.of(tacit.share(x).share, 1)
        before = session.meter.cost
        value, after = parts.value(), session.meter.cost
        logarithm = parts.log_value()
        rounds = (after - before).rounds, (session.meter.cost - after).rounds

        bound = (count + 2) * 2**-16
        sums = _reveal_all_bits(SecretTensor(value.fork(), torch.float64)).sum(1)
        assert (sums - 1).abs().max() <= 2**-14
        assert (tacit.reveal(SecretTensor(value, torch.float64)) - x.softmax(1)).abs().max() <= bound
        assert (tacit.reveal(SecretTensor(logarithm, torch.float64)) - x.log_softmax(1)).abs().max() <= bound
    assert rounds == (2 if count <= 128 else 5, 6 if count > 3 else 2)  # of few rows
    assert "Cost: 2 rounds for n <= 128, else 6" in Softmax.value.__doc__
    assert "(n + 2) 2^-f" in Softmax.value.__doc__


@pytest.mark.parametrize(("frac_bits", "count"), [(28, 3), (24, 10)])
def test_fine_sessions_have_finer_logarithms_of_softmax(frac_bits, count, random):
    x = torch.randn(240, count, generator=random, dtype=torch.float64) * 3

    with tacit.session(seed=1, frac_bits=frac_bits):
        parts = Softmax.of(tacit.share(x).share, 1)
        got = tacit.reveal(SecretTensor(parts.log_value(), torch.float64))

    assert (got - x.log_softmax(1)).abs().max() <= (count + 2) * 2.0**-frac_bits + 2**-20
    assert "Error: <= (n + 2) 2^-f, and 2^-20 more for f > 20" in Softmax.log_value.__doc__


@pytest.mark.parametrize(("count", "rounds"), [(2, 6), (10, 8), (33, 12), (128, 17)])
def test_softmax_of_few_rows_drops_only_what_is_nothing(count, rounds, random):
    x = torch.randn(16, count, generator=random, dtype=torch.float64) * 3
    x[0], x[1], x[2, 0], x[3], x[4, -1] = 0, x[1] * 1000, 10_000, x[3] / 1000, -1e8
    x[5:10] = torch.rand(5, count, generator=random, dtype=torch.float64) * 90
    x[10:14] = -torch.linspace(0, 50, count, dtype=torch.float64)[torch.randperm(count, generator=random)]
    x = (x * 2**16).round() / 2**16

    with tacit.session(seed=1) as session:
        value = Softmax.of(tacit.share(x).share, 1).value()
        cost = session.meter.cost.rounds
        got = _reveal_all_bits(SecretTensor(value, torch.float64))

    assert (got - x.softmax(1)).abs().max() <= (count + 2) * 2**-16
    assert cost == rounds


@pytest.mark.parametrize("frac_bits", [12, 16])
def test_softmax_of_many_products_keeps_its_promise_and_opens_no_difference(frac_bits, random):
    rows, count = 1200, 128
    a, b = torch.randn(2, rows, count, generator=random, dtype=torch.float64) * 2
    a[:10], a[10:20, 0], a[10:20, 1:], b[10:20] = 0, 2.0**14, -(2.0**14), 2.0**13
    a[20:30], b[20:30], a[30:40] = 1, torch.arange(count) / -8, a[30:40] / 1000
    a, b = ((t * 2**frac_bits).round() / 2**frac_bits for t in (a, b))

    with tacit.session(seed=1, frac_bits=frac_bits) as session:
        product = (tacit.share(a) * tacit.share(b)).share
        before = session.meter.cost
        parts = Softmax.of(product, 1)
        cost = session.meter.cost - before
        value = tacit.reveal(SecretTensor(parts.value(), torch.float64))

    assert (value - (a * b).softmax(1)).abs().max() <= (count + 2) * 2.0**-frac_bits
    assert max(cost.online.values()) < 30 * rows * count  # 8 of products, 8 of exponentials, up to 12 for the maximum


@pytest.mark.parametrize("worth", [0, 200_000])
@pytest.mark.parametrize("frac_bits", [8, 16, 20])
def test_softmax_of_products_holds_over_their_range(frac_bits, worth, random):
    """Their differences are below 2^62 of their units."""
    most, half = 2.0 ** (31 - frac_bits) - 2.0**-frac_bits, 2.0 ** (30 - frac_bits)
    signs = torch.randint(0, 2, (400, 5), generator=random) * 2.0 - 1

    with tacit.session(frac_bits=frac_bits, round_bytes=worth):
        x = tacit.share(signs.double() * most) * tacit.share(torch.full((5,), half, dtype=torch.float64))
        got = tacit.reveal(x.softmax(1))

    assert (got - (signs * 1e3).softmax(1)).abs().max() <= 7 * 2.0 ** -min(frac_bits, 16)


@pytest.mark.parametrize("count", [1, 10, 100, 257, 1000])
def test_sums_by_softmax_are_divided_once(count, random):
    x = torch.randn(60, count, generator=random, dtype=torch.float64) * 3
    x[:10], x[10:20], x[20:30, 0] = 0, x[10:20] * 100, 10_000
    v = torch.randn(count, 5, generator=random, dtype=torch.float64)
    v[:, 3], v[:, 4] = 2.0**22 * 0.999 * v[:, 3].sign(), 0
    v[:, 3] /= 2.0 ** max(0, (count - 1).bit_length() - 8)  # so that sums fit
    x, v = ((t * 2**16).round() / 2**16 for t in (x, v))

    with tacit.session(seed=1) as session:
        parts = Softmax.of(tacit.share(x).share, 1, weighted=True)
        before = session.meter.cost.rounds
        sums = parts.weighted(tacit.share(v).share, torch.matmul)
        rounds = session.meter.cost.rounds - before
        got = _reveal_all_bits(SecretTensor(sums, torch.float64))

    error = (got - x.softmax(1) @ v).abs() - 2**-16
    assert (error <= (count + 2) * 2**-16 * v.abs().amax(0)).all()
    assert rounds == (2 if count <= 128 else 6)  # of few rows
    assert "Error: <= (n + 2) 2^-f |v| + 2^-f." in Softmax.weighted.__doc__
    assert "Σ e |v| < 2^30 and |result| < 2^22." in Softmax.weighted.__doc__


@pytest.mark.parametrize(("count", "frac_bits"), [(2, 24), (10, 16), (128, 16), (257, 16)])
def test_multiples_of_softmax_keep_their_promise(count, frac_bits, random):
    x = torch.randn(40, count, generator=random, dtype=torch.float64) * 3
    x[:10], x[10:20], x[20:30, 0] = 0, x[10:20] * 100, 10_000
    v = torch.randn(40, 1, generator=random, dtype=torch.float64)
    v[::4], v[1::4] = 2.0 ** (26 if frac_bits == 16 else 18) * 0.999 * v[::4].sign(), 0
    x, v = ((t * 2**frac_bits).round() / 2**frac_bits for t in (x, v))

    with tacit.session(seed=1, frac_bits=frac_bits) as session:
        parts = Softmax.of(tacit.share(x).share, 1)
        before = session.meter.cost.rounds
        products = parts.times(tacit.share(v).share)
        rounds = session.meter.cost.rounds - before
        got = _reveal_all_bits(SecretTensor(products, torch.float64))
        public = {c: _reveal_all_bits(SecretTensor(parts.scaled(c), torch.float64)) for c in (-1 / 3, 2.0**-19, 1e6)}

    bound = max((count + 2) * 2.0**-frac_bits, 2.0**-17)
    assert ((got - x.softmax(1) * v).abs() - 2.0**-frac_bits <= bound * v.abs()).all()
    for c, multiple in public.items():
        least = 2.0**-20 / min(max(1 / abs(c) / 2, 1), 2**12)
        assert (multiple - x.softmax(1) * c).abs().max() <= bound * abs(c) + least
    assert "and 2^-20 < |c| < 2^20" in Softmax.scaled.__doc__
    assert rounds == (2 if count <= 128 else 6)  # of few rows
    assert "|v| < 2^26 at 16 fractional bits, 2^18 at 24." in Softmax.times.__doc__
    assert "Cost: 2 rounds for n <= 128, else 7" in Softmax.times.__doc__


@pytest.mark.parametrize("frac_bits", [16, 24])
def test_a_product_with_tanh_is_as_good_as_tanh(frac_bits: int) -> None:
    x = torch.cat([torch.linspace(-12, 12, 999), torch.tensor([-(2.0**30), -5e4, 0.0, 5e4, 2.0**30])])
    y = torch.linspace(-2, 2, len(x))

    with tacit.session(seed=1, frac_bits=frac_bits) as session:
        a, b = (tacit.share(v).share for v in (x, y))
        session_rounds = session.meter.cost.rounds
        found = tanh_times(a, b)
        rounds = session.meter.cost.rounds - session_rounds
        tanh_x = found.tanh()
        again = session.meter.cost.rounds - session_rounds
        product, itself = (tacit.reveal(SecretTensor(v, torch.float32)) for v in (found.product, tanh_x))

    assert rounds == again == (3 if frac_bits == 24 else 4)  # the finer, the fewer of its digits are in question
    assert (itself - x.tanh()).abs().max() <= 2**-13 + 2 ** (1 - frac_bits)
    assert (product - y * x.tanh()).abs().max() <= 2 * (2**-13 + 2 ** (1 - frac_bits))

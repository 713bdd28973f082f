"""The one-round activation functions: results on numbers and on secrets, costs, and training."""

from __future__ import annotations

import copy
import weakref

import pytest
import torch
from torch import nn

import tacit
import tacit.nn

MODULES = {
    "degree 3": (lambda: tacit.nn.PolynomialSigmoid(3), 16),
    "degree 5": (lambda: tacit.nn.PolynomialSigmoid(5), 16),
    "degree 7": (lambda: tacit.nn.PolynomialSigmoid(7), 16),
    "degree 9": (lambda: tacit.nn.PolynomialSigmoid(9), 16),
    "degree 9, tight": (lambda: tacit.nn.PolynomialSigmoid(9, window=8), 8),
    "degree 9, centred": (lambda: tacit.nn.PolynomialSigmoid(9, window=8, centred=True), 8),
    "Fourier": (tacit.nn.FourierSigmoid, 1000),
    "Fourier, centred": (lambda: tacit.nn.FourierSigmoid(centred=True), 1000),
    "tanh": (lambda: tacit.nn.Polynomial.fit(torch.tanh, degree=7, bound=3), 4),
    "square": (lambda: tacit.nn.Polynomial([0, 0, 1]), 16),
}
NOISE = 2e-3
"""Of a polynomial of degree 9 near the ends of a window twice as wide as it needs, where it reaches 1,188."""


@pytest.fixture
def session():
    with tacit.session() as opened:
        yield opened


@pytest.mark.parametrize("name", MODULES)
def test_values_and_gradients_are_those_of_the_same_module_on_plain_tensors(name, session):
    make, reach = MODULES[name]
    module, unit = make(), 2.0**-16
    ends = torch.tensor([-reach, -reach + unit, -unit, 0.0, unit, reach - unit])
    x = torch.cat([ends, (torch.rand(3000) * 2 - 1) * (reach - unit)])
    secret, plain = tacit.share(x).requires_grad_(), tacit.reveal(tacit.share(x)).double().requires_grad_()
    grad = torch.randn_like(x)

    got, want = module(secret), module(plain)
    got.backward(tacit.share(grad))
    want.backward(grad.double())

    assert (tacit.reveal(got.detach()) - want).abs().max() < NOISE
    assert (tacit.reveal(secret.grad) - plain.grad).abs().max() < NOISE * plain.grad.abs().max().clamp(min=1)


@pytest.mark.parametrize("frac_bits", [12, 20])
@pytest.mark.parametrize("parties", [2, 3])
def test_scale_and_parties_do_not_matter(frac_bits, parties):
    x = torch.linspace(-8, 8, 999)
    with tacit.session(parties=[f"p{i}" for i in range(parties)], frac_bits=frac_bits):
        for module in (tacit.nn.PolynomialSigmoid(), tacit.nn.FourierSigmoid()):
            got = tacit.reveal(module(tacit.share(x)))

            assert (got - module(x)).abs().max() < 2e-4 + 3 * 2.0**-frac_bits


@pytest.mark.parametrize(
    ("module", "bound", "error"),
    [
        (tacit.nn.PolynomialSigmoid(3), 8, 0.0895),
        (tacit.nn.PolynomialSigmoid(5), 8, 0.0409),
        (tacit.nn.PolynomialSigmoid(7), 8, 0.0189),
        (tacit.nn.PolynomialSigmoid(9), 8, 0.00877),
        (tacit.nn.FourierSigmoid(), 10, 0.00426),
    ],
)
def test_sigmoids_are_as_close_as_documented_at_all_their_extremes(module, bound, error):
    x = torch.linspace(-bound, bound, 100_001, dtype=torch.float64)

    off = module(x) - x.sigmoid()

    turns = off[1:-1][off.diff().sign().diff() != 0].abs()  # a best approximation is as far off at each extreme
    assert len(turns) >= 2
    assert off.abs().max() <= error
    assert turns.min() > 0.98 * error


def test_the_fourier_sigmoid_stays_within_bounds_everywhere():
    y = tacit.nn.FourierSigmoid()(torch.linspace(-100, 100, 100_001, dtype=torch.float64))

    assert -0.005 <= y.min() < y.max() <= 1.005


def test_a_fitted_polynomial_is_close_to_the_best():
    fitted = tacit.nn.Polynomial.fit(torch.sigmoid, degree=9, bound=8, window=16)
    x = torch.linspace(-8, 8, 10_001, dtype=torch.float64)

    assert (fitted(x) - x.sigmoid()).abs().max() < 1.5 * 0.00877
    assert fitted.coefficients[2::2] == [0.0] * 4


@pytest.mark.priced
def test_one_round_forward_and_the_gradient_deals_no_powers_again(session):
    count = 1000
    x = tacit.share(torch.randn(count)).requires_grad_()
    x.share.facts.owned = None
    before = session.meter.cost

    y = tacit.nn.PolynomialSigmoid()(x)
    forward = session.meter.cost - before
    y.backward(tacit.share(torch.randn(count), owner="alice"))
    backward = session.meter.cost - before

    assert (forward.rounds, forward.online["bob"], forward.producer) == (1, 8 * count, 9 * 16 * count)
    assert (backward.rounds, backward.producer) == (3, (9 * 16 + 18) * count)


@pytest.mark.priced
def test_a_product_is_opened_as_it_is(session):
    x, y = tacit.share(2 * torch.rand(50, 4) - 1), tacit.share(4 * torch.rand(4, 50) - 2)  # products within the window
    z = x @ y
    before = session.meter.cost

    got = tacit.nn.PolynomialSigmoid()(z)

    assert (session.meter.cost - before).rounds == 1
    assert (tacit.reveal(got) - tacit.nn.PolynomialSigmoid()(tacit.reveal(z))).abs().max() < NOISE


def test_a_network_trains_to_the_plain_weights(session):
    x = torch.randn(64, 6)
    target = (x[:, :1] > 0).float()
    for act in (tacit.nn.PolynomialSigmoid(), tacit.nn.FourierSigmoid()):
        plain = nn.Sequential(nn.Linear(6, 8), act, nn.Linear(8, 1), act)
        secret = tacit.share(copy.deepcopy(plain))

        for model, a, b in ((plain, x, target), (secret, tacit.share(x), tacit.share(target))):
            steps = torch.optim.SGD(model.parameters(), lr=0.5, momentum=0.9)
            for _ in range(5):
                steps.zero_grad()
                nn.functional.mse_loss(model(a), b).backward()
                steps.step()

        for want, got in zip(plain.parameters(), secret.parameters(), strict=True):
            assert (tacit.reveal(got.detach()) - want).abs().max() < 2e-3


def test_modules_refuse_what_cannot_work():
    for arguments, match in (
        (([],), "at least one"),
        (([0.0, float("nan")],), "finite"),
        (([1.0], 12), "power of two"),
        (([0.0, 1.0, 1.0], 1 << 16), "reaches"),
    ):
        with pytest.raises(ValueError, match=match):
            tacit.nn.Polynomial(*arguments)
    with pytest.raises(ValueError, match="3, 5, 7 or 9"):
        tacit.nn.PolynomialSigmoid(4)


@pytest.mark.parametrize("make", [tacit.nn.FourierSigmoid, tacit.nn.PolynomialSigmoid])
def test_centred_sigmoids_are_four_times_the_sigmoid_less_two(make):
    x = torch.linspace(-8, 8, 1001, dtype=torch.float64)

    assert (make(centred=True)(x) - (4 * make()(x) - 2)).abs().max() < 1e-12
    assert (make(centred=True)(x) - 2 * (x / 2).tanh()).abs().max() < 0.036
    assert make(centred=True)(torch.zeros(1, dtype=torch.float64)).abs() < 1e-12


@pytest.mark.parametrize("argument", [16.0, -16.01, 40.0])
def test_plain_arguments_beyond_the_window_give_a_warning(argument):
    module = tacit.nn.PolynomialSigmoid()
    module(torch.tensor([-16.0, 15.99]))

    with pytest.warns(UserWarning, match=r"window, \[-16, 16\).*clip_grad_norm_"):
        module(torch.tensor([0.0, argument]))


# --- layers that are shared when they run -----------------------------------------------------------------------------


def transient_model():
    torch.manual_seed(3)
    layers = [nn.Sequential(nn.Linear(6, 6), nn.BatchNorm1d(6), nn.Dropout(0.5)) for _ in range(3)]
    made = []

    def layer(k):
        made.append(k)
        return copy.deepcopy(layers[k])

    blocks = [tacit.nn.Transient(lambda k=k: layer(k), owner="bob") for k in range(3)]
    return nn.Sequential(*layers, nn.Linear(6, 2)), nn.Sequential(*blocks, nn.Linear(6, 2)), made


def test_transient_layers_are_made_when_they_run_and_give_what_the_whole_model_gives(session):
    whole, parts, made = transient_model()
    parts[3].load_state_dict(whole[3].state_dict())
    shared = tacit.share(parts, owner="bob").eval()
    x = torch.randn(5, 6)
    assert made == []
    assert len(list(shared.parameters())) == 2

    with torch.no_grad():
        for _ in range(2):
            got = tacit.reveal(shared(tacit.share(x, owner="alice")))
            assert (got - whole.eval()(x)).abs().max() < 1e-3
    assert made == [0, 1, 2] * 2


def test_what_a_transient_layer_has_shared_is_forgotten_once_it_has_run(session):
    made = []

    def remember(module, args, out):
        if isinstance(module, nn.Linear):
            made.extend(weakref.ref(p) for p in module.parameters())

    block = tacit.nn.Transient(lambda: nn.Linear(64, 64), owner="bob")
    x = tacit.share(torch.randn(3, 64), owner="alice")
    handle = nn.modules.module.register_module_forward_hook(remember)
    with torch.no_grad():
        for _ in range(3):
            x = block(x)
    handle.remove()

    assert len(made) == 6
    assert not any(ref() is not None for ref in made)
    assert tacit.reveal(x).shape == (3, 64)


def test_making_a_transient_layer_leaves_pytorchs_generator_as_it_was(session):
    block = tacit.nn.Transient(lambda: nn.Linear(4, 4), owner="bob").train()
    before = torch.random.get_rng_state()

    with torch.no_grad():
        block(tacit.share(torch.randn(2, 4, generator=torch.Generator().manual_seed(1)), owner="alice"))

    assert torch.equal(torch.random.get_rng_state(), before)
    with pytest.raises(tacit.errors.ConfigError, match="lambda: layer"):
        tacit.nn.Transient(nn.Linear(4, 4), owner="bob")


def test_transient_layers_are_in_evaluation_mode_whatever_they_are_made_in(session):
    x = tacit.share(torch.ones(4, 4), owner="alice")
    block = tacit.nn.Transient(lambda: nn.Dropout(0.5), owner="bob")

    with torch.no_grad():
        assert (tacit.reveal(block(x)) - 1).abs().max() < 1e-3
        assert tacit.reveal(block.train()(x)).round().unique().tolist() != [1]


def test_what_makes_no_module_is_refused(session):
    block = tacit.nn.Transient(lambda: torch.ones(2), owner="bob")  # type: ignore[arg-type]

    with pytest.raises(tacit.errors.ConfigError, match="not a Tensor"):
        block(tacit.share(torch.ones(2), owner="alice"))


def test_gradients_pass_through_transient_layers(session):
    layer = nn.Linear(4, 4)
    block = tacit.nn.Transient(lambda: layer, owner="bob")
    x = torch.randn(2, 4)
    secret, plain = tacit.share(x, owner="alice").requires_grad_(), x.clone().requires_grad_()

    block(secret).sum().backward()
    layer(plain).sum().backward()

    assert (tacit.reveal(secret.grad) - plain.grad).abs().max() < 1e-3

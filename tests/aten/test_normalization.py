"""Normalisation layers, their gradients and running statistics, beside plain PyTorch, and what they cost."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import tacit
from tacit.errors import UnsupportedOperator
from tacit.session.session import Session

aten = torch.ops.aten

COVERS = {
    aten.native_batch_norm.default,
    aten.native_batch_norm_backward.default,
    aten.native_layer_norm.default,
    aten.native_layer_norm_backward.default,
    aten._fused_rms_norm.default,
    aten._fused_rms_norm_backward.default,
    aten.native_group_norm.default,
    aten.native_group_norm_backward.default,
}

LAYERS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "batch 1d": (lambda: nn.BatchNorm1d(3), (5, 3)),
    "batch 1d of sequences": (lambda: nn.BatchNorm1d(3), (4, 3, 7)),
    "batch 2d": (lambda: nn.BatchNorm2d(3, momentum=0.3), (4, 3, 4, 4)),
    "batch 2d cumulative": (lambda: nn.BatchNorm2d(2, momentum=None), (2, 2, 3, 5)),
    "batch 2d without weights": (lambda: nn.BatchNorm2d(2, affine=False), (2, 2, 3, 3)),
    "batch 2d without statistics": (lambda: nn.BatchNorm2d(2, track_running_stats=False), (2, 2, 3, 3)),
    "batch 3d": (lambda: nn.BatchNorm3d(2), (2, 2, 2, 3, 2)),
    "instance 1d": (lambda: nn.InstanceNorm1d(3), (2, 3, 9)),
    "instance 2d": (lambda: nn.InstanceNorm2d(2, affine=True, track_running_stats=True), (2, 2, 4, 3)),
    "layer": (lambda: nn.LayerNorm(8), (2, 3, 8)),
    "layer of planes": (lambda: nn.LayerNorm((3, 4)), (5, 3, 4)),
    "layer of all": (lambda: nn.LayerNorm(7), (7,)),
    "layer without weights": (lambda: nn.LayerNorm(6, elementwise_affine=False), (4, 6)),
    "layer without bias": (lambda: nn.LayerNorm(6, bias=False), (4, 6)),
    "group": (lambda: nn.GroupNorm(2, 4), (3, 4, 5)),
    "group 2d without weights": (lambda: nn.GroupNorm(3, 6, affine=False), (2, 6, 3, 3)),
    "root mean square": (lambda: nn.RMSNorm(8), (3, 8)),
    "root mean square without weights": (lambda: nn.RMSNorm(6, elementwise_affine=False), (3, 6)),
    "local response": (lambda: nn.LocalResponseNorm(2), (2, 4, 3, 3)),
}


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("name", LAYERS)
def test_layers_agree_with_pytorch(name: str, training: bool, session: Session, random: torch.Generator) -> None:
    make, shape = LAYERS[name]
    layer = randomized(make(), random).train(training)
    module = tacit.share(layer, owner="alice").train(training)
    for _ in range(2):
        plain = (2 * torch.randn(shape, generator=random) + 1).requires_grad_()
        grad = torch.randn(shape, generator=random)
        layer.zero_grad()
        module.zero_grad()
        expected = layer(plain)
        expected.backward(grad)

        x = tacit.share(plain.detach(), owner="bob").requires_grad_()
        y = module(x)
        y.backward(tacit.share(grad, owner="alice"))

        close(y, expected)
        close(x.grad, plain.grad)
        for mine, theirs in zip(module.parameters(), layer.parameters(), strict=True):
            close(mine.grad, theirs.grad)
        for mine, theirs in zip(module.buffers(), layer.buffers(), strict=True):
            close(mine, theirs)


@pytest.mark.parametrize("size", [8, 100])
@pytest.mark.parametrize("mean", [0.0, 300.0])
@pytest.mark.parametrize("deviation", [2.0**-7, 2.0**-3, 1.0, 100.0, 500.0])
def test_rows_of_tiny_and_of_large_variance_are_normalised(
    deviation: float, mean: float, size: int, session: Session, random: torch.Generator
) -> None:
    x = (mean + deviation * torch.randn(3, size, generator=random)).double()
    encoded = (x * 2**16).round() / 2**16

    y = tacit.reveal(nn.functional.layer_norm(tacit.share(x.float(), owner="alice"), [size]))

    exact = nn.functional.layer_norm(encoded.float().double(), [size])
    assert (y - exact).abs().max() <= 2**-14 / deviation + 2**-12


def test_constant_rows_and_channels_become_the_bias(session: Session) -> None:
    x = tacit.share(torch.full((2, 3, 5), 7.25), owner="alice")

    normalised = [nn.LayerNorm(5)(x), nn.BatchNorm1d(3, track_running_stats=False)(x), nn.InstanceNorm1d(3)(x)]

    for y in normalised:
        assert tacit.reveal(y.detach()).abs().max() <= 2**-7  # two units, times 1 / √ε


def test_public_statistics_of_a_public_module_cost_nothing(session: Session, random: torch.Generator) -> None:
    layer = randomized(nn.BatchNorm2d(3), random).eval()
    plain = torch.randn(2, 3, 4, 4, generator=random)
    x = tacit.share(plain, owner="alice")
    before = session.meter.cost.rounds

    y = layer(x)

    assert session.meter.cost.rounds == before
    close(y, layer(plain))


@pytest.mark.parametrize("deviation", [0.05, 50.0])
def test_evaluation_after_a_convolution_keeps_small_and_large_scales(
    deviation: float, session: Session, random: torch.Generator
) -> None:
    norm = randomized(nn.BatchNorm2d(3), random)
    norm.running_var = (norm.running_var * deviation**2 * 2**16).round() / 2**16
    layer = nn.Sequential(nn.Conv2d(2, 3, 1), norm).eval()
    plain = deviation * torch.randn(2, 2, 4, 4, generator=random)

    y = tacit.share(layer, owner="alice")(tacit.share(plain, owner="bob"))

    torch.testing.assert_close(
        tacit.reveal(y.detach()), layer(plain).detach(), atol=2**-13 / deviation + 2**-11, rtol=0
    )


def test_secrets_do_not_flow_into_public_statistics(session: Session) -> None:
    x = tacit.share(torch.randn(4, 3), owner="alice")

    with pytest.raises(UnsupportedOperator, match=r"tacit\.share"):
        nn.BatchNorm1d(3)(x)


@pytest.mark.priced
def test_an_owner_shares_the_scale_so_that_a_first_prediction_makes_none(
    session: Session, random: torch.Generator
) -> None:
    plain = nn.Sequential(*(randomized(nn.BatchNorm2d(3), random) for _ in range(4))).eval()
    plain[1].running_var.mul_(1e-6)
    plain[2].eps = 0.1
    plain[3].weight = None
    module = tacit.share(plain, owner="alice")
    images = [torch.randn(2, 3, 4, 4, generator=random) for _ in range(2)]
    given = [tacit.share(x, owner="bob") for x in images]

    costs, results = [], []
    for x in given:
        start = session.meter.cost
        results.append(module(x))
        results[-1].share.settle()
        costs.append(session.meter.cost - start)

    assert costs[0].rounds == costs[1].rounds
    for y, x in zip(results, images, strict=True):
        want = plain(x).detach()
        assert float((tacit.reveal(y.detach()) - want).abs().max() / want.abs().max()) < 1e-4


def test_a_scale_that_was_shared_is_not_used_for_other_variances_weights_or_eps(
    session: Session, random: torch.Generator
) -> None:
    plain = randomized(nn.BatchNorm1d(3), random)
    module, x = tacit.share(plain, owner="alice"), torch.randn(5, 3, generator=random)
    other = randomized(nn.BatchNorm1d(3), random)

    def agrees() -> None:
        close(module.eval()(tacit.share(x, owner="bob")), plain.eval()(x))

    agrees()
    plain.train()(x), module.train()(tacit.share(x, owner="bob"))
    agrees()
    with torch.no_grad():
        plain.weight.mul_(-2), module.weight.mul_(-2)
    agrees()
    plain.eps = module.eps = 0.5
    agrees()
    plain.load_state_dict(other.state_dict()), module.load_state_dict(other.state_dict())
    agrees()


def test_of_variances_that_are_infinite_nothing_is_shared(session: Session, random: torch.Generator) -> None:
    plain, x = randomized(nn.BatchNorm1d(3), random).eval(), torch.randn(5, 3, generator=random)
    plain.running_var[1] = float("inf")

    close(tacit.share(plain, owner="alice")(tacit.share(x, owner="bob")), plain(x))


@pytest.mark.priced
def test_evaluation_makes_the_scale_once_for_all_predictions(session: Session, random: torch.Generator) -> None:
    module = tacit.share(randomized(nn.BatchNorm2d(3), random), owner="alice").eval()
    module.running_var.mul_(2)  # so the owner does not know it
    start = session.meter.cost
    tacit.reveal(module(tacit.share(torch.randn(2, 3, 4, 4, generator=random), owner="bob")))
    assert (session.meter.cost - start).rounds > 8
    start = session.meter.cost

    x = tacit.share(torch.randn(2, 3, 4, 4, generator=random), owner="bob")
    module(x)

    cost = session.meter.cost - start
    assert cost.rounds == 1
    assert cost.online == {"alice": 0, "bob": 8 * x.numel()}


@pytest.mark.priced
@pytest.mark.parametrize("parties", [("alice", "bob"), ("alice", "bob", "carol")])
def test_a_training_step_opens_each_element_twice_and_the_gradient_once_more(
    parties: tuple[str, ...], random: torch.Generator
) -> None:
    with tacit.session(parties=parties) as session:
        shape, peers = (64, 2, 16, 16), len(parties) - 1
        x, grad = (
            sum(tacit.share(torch.randn(shape, generator=random), owner=p) for p in ("alice", "bob")) for _ in range(2)
        )
        x.requires_grad_()
        module = tacit.share(nn.BatchNorm2d(2), owner="alice")
        start = session.meter.cost

        y = module(x)
        middle = session.meter.cost
        y.backward(grad)

        forward, back = middle - start, session.meter.cost - middle
        assert forward.rounds == 9  # of parameters that are open since they were shared
        assert forward.online["alice"] <= 16.5 * x.numel() * peers
        assert back.rounds <= 6
        assert back.online["alice"] <= 16.5 * x.numel() * peers


@pytest.mark.priced
@pytest.mark.parametrize("columns", [64, 24])
@pytest.mark.parametrize(("norm", "rows", "rounds"), [("layer", 8, 7), ("layer", 400, 9), ("rms", 8, 7)])
def test_rows_are_normalised_in_seven_rounds_and_many_in_nine(
    norm: str, rows: int, rounds: int, columns: int, session: Session, random: torch.Generator
) -> None:
    x = torch.randn(rows, columns, generator=random) * 3
    function = nn.functional.layer_norm if norm == "layer" else nn.functional.rms_norm
    shared = tacit.share(x)
    before = session.meter.cost.rounds

    y = function(shared, [columns])

    assert session.meter.cost.rounds - before == rounds
    close(y, function(x, [columns]))


@pytest.mark.priced
@pytest.mark.parametrize("norm", [nn.LayerNorm, nn.RMSNorm])
def test_a_weight_costs_few_elements_no_round_and_their_gradients_none_more(norm, session, random):
    x, grad = (torch.randn(8, 24, generator=random) for _ in range(2))
    counts = []
    for plain in (norm(24), norm(24, elementwise_affine=False)):
        module, shared = tacit.share(plain), tacit.share(x).requires_grad_()
        start = session.meter.cost.rounds

        y = module(shared)
        middle = session.meter.cost.rounds
        y.backward(tacit.share(grad))
        counts.append((middle - start, session.meter.cost.rounds - middle))

    (forward, backward), (bare, bare_backward) = counts
    assert forward <= bare <= 7
    assert backward <= bare_backward + 2


@pytest.mark.parametrize("norm", [nn.LayerNorm, nn.RMSNorm])
@pytest.mark.parametrize(("size", "factor"), [(1e-2, 1.0), (900.0, 1.0), (3.0, 4000.0), (900.0, 4000.0), (1.0, 1e-3)])
def test_a_weight_meets_rows_of_any_size(norm, size, factor, random):
    plain, x = norm(24, eps=1e-5), torch.randn(8, 24, generator=random) * size
    x[0] = x[0, 0]  # of which nothing is left but the bias
    with torch.no_grad():
        plain.weight.copy_((torch.rand(24, generator=random) + 0.5) * factor)
        x = (x * 2**16).round() / 2**16
        want = copy.deepcopy(plain).double()(x.double())
        with tacit.session(seed=1):
            got = tacit.reveal(tacit.share(plain)(tacit.share(x))).double()

    limit = 2**-13 * (1 + factor) / min(size, 1) + 2**-14 * want.abs()
    assert ((got - want).abs() <= limit).all()


def randomized(layer: nn.Module, random: torch.Generator) -> nn.Module:
    """The layer with weights, biases and statistics that are not ones and zeros."""
    layer = copy.deepcopy(layer)
    with torch.no_grad():
        for tensor in [*layer.parameters(), *layer.buffers()]:
            if tensor.is_floating_point():
                tensor.copy_(0.5 + torch.rand(tensor.shape, generator=random))
    return layer


def close(secret: Tensor | None, expected: Tensor | None) -> None:
    if secret is None or expected is None:
        assert secret is expected is None
        return
    mine = tacit.reveal(secret.detach()) if isinstance(secret, tacit.SecretTensor) else secret
    torch.testing.assert_close(mine, expected.detach(), atol=2**-10, rtol=2**-10)


@pytest.mark.parametrize("norm", [nn.functional.layer_norm, nn.functional.rms_norm])
@pytest.mark.parametrize(("size", "off", "gradient"), [(1e-3, 1e-2, 2e-3), (0.1, 1e-3, 1e-3), (10.0, 1e-3, 1e-2)])
def test_rows_are_normalised_as_well_as_the_documentation_says(norm, size, off, gradient, session):
    x, w = size * torch.randn(16, 8), torch.randn(16, 8)
    rows = [x.clone().requires_grad_(), tacit.share(x).requires_grad_()]

    want, got = (norm(r, (8,), eps=1e-5) for r in rows)
    (want * w).sum().backward()
    (got * w).sum().backward()

    assert (tacit.reveal(got.detach()) - want).abs().max() < off
    assert (tacit.reveal(rows[1].grad) - rows[0].grad).abs().max() < gradient * rows[0].grad.abs().max()


@pytest.mark.parametrize("size", [1.0, 10.0, 100.0])
@pytest.mark.parametrize("shape", [(4, 12), (2, 3, 64)])
@pytest.mark.parametrize("owner", ["both", "public weight", "no weight", "public rows"])
def test_the_gradient_of_rms_norm_is_right_for_rows_of_any_size(size, shape, owner, session):
    x, w, g = size * torch.randn(shape), torch.randn(shape[-1]), torch.randn(shape)
    plain = [x.clone().requires_grad_(), w.clone().requires_grad_()]
    secret = [
        x.clone().requires_grad_() if owner == "public rows" else tacit.share(x, "alice").requires_grad_(),
        w.clone().requires_grad_() if owner == "public weight" else tacit.share(w, "bob").requires_grad_(),
    ]
    for p in (plain, secret):
        out = nn.functional.rms_norm(p[0], shape[-1:], None if owner == "no weight" else p[1])
        (out * g).sum().backward()

    assert tacit.reveal(out.detach()).shape == shape
    for mine, theirs in zip(secret, plain, strict=True):
        if isinstance(mine, tacit.SecretTensor) and theirs.grad is not None:
            error = (tacit.reveal(mine.grad) - theirs.grad).abs().max()
            assert error < 2**-14 + 2**-13 * theirs.grad.abs().max()


@pytest.mark.parametrize(("bits", "error"), [(8, 0.05), (10, 0.012), (16, 1e-3)])
def test_a_gradient_that_comes_with_more_bits_than_the_session_has_passes_a_layer_norm(
    bits: int, error: float, random: torch.Generator
) -> None:
    plain = nn.Sequential(nn.Linear(6, 8), nn.GELU(), nn.LayerNorm(8), nn.Linear(8, 4))
    x = torch.randn(5, 6, generator=random)
    plain(x).square().mean().backward()

    with tacit.session(frac_bits=bits):
        net = tacit.share(copy.deepcopy(plain), owner="alice")
        net(tacit.share(x, owner="bob")).square().mean().backward()

        for mine, its in zip(net.parameters(), plain.parameters(), strict=True):
            torch.testing.assert_close(tacit.reveal(mine.grad), its.grad, rtol=0, atol=error)

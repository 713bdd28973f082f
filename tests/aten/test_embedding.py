"""Rows of tables by public and by secret indices, beside plain PyTorch."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import tacit
from tacit.errors import UnsupportedOperator
from tacit.session.session import Session

aten = torch.ops.aten
ROWS, WIDTH = 7, 4

COVERS = {
    aten.embedding.default,
    aten.embedding_dense_backward.default,
    aten._embedding_bag.default,
    aten._embedding_bag_backward.default,
    aten._embedding_bag_forward_only.default,
    aten.index_select.default,
    aten.scatter_reduce.two,
    aten.scatter_reduce_.two,
}


@pytest.mark.parametrize("padding", [None, 2])
@pytest.mark.parametrize("secret", ["weight", "indices", "both"])
def test_embedding_agrees_with_pytorch(
    secret: str, padding: int | None, session: Session, random: torch.Generator
) -> None:
    plain = nn.Embedding(ROWS, WIDTH, padding_idx=padding)
    indices = torch.randint(0, ROWS, (3, 5), generator=random)
    indices[0, :3] = torch.tensor([0, ROWS - 1, 2])
    grad = torch.randn(3, 5, WIDTH, generator=random)
    expected = plain(indices)
    expected.backward(grad)

    module = plain if secret == "indices" else tacit.share(plain, owner="alice")
    y = module(indices if secret == "weight" else tacit.share(indices, owner="bob"))

    close(y, expected)
    if secret != "indices":
        y.backward(tacit.share(grad, owner="bob"))
        close(module.weight.grad, plain.weight.grad)


def test_gradients_are_scaled_by_public_frequencies_only(session: Session, random: torch.Generator) -> None:
    plain = nn.Embedding(ROWS, WIDTH, scale_grad_by_freq=True)
    indices = torch.randint(0, 3, (9,), generator=random)
    plain(indices).sum().backward()
    module = tacit.share(plain)
    module.weight.grad = None

    module(indices).sum().backward()

    close(module.weight.grad, plain.weight.grad)
    with pytest.raises(UnsupportedOperator, match="scale_grad_by_freq"):
        module(tacit.share(indices)).sum().backward()


@pytest.mark.priced
def test_one_hot_rows_are_made_and_opened_once(session: Session, random: torch.Generator) -> None:
    module = tacit.share(nn.Embedding(ROWS, WIDTH), owner="alice")
    indices = tacit.share(torch.randint(0, ROWS, (6,), generator=random))
    start = session.meter.cost

    y = module(indices)
    middle = session.meter.cost
    grad = tacit.share(torch.randn(6, WIDTH, generator=random), owner="bob")
    y.backward(grad)

    assert (middle - start).rounds == 2
    back = session.meter.cost - middle
    assert back.rounds == 1
    assert back.online == {"alice": 0, "bob": 8 * grad.numel()}


@pytest.mark.parametrize("offsets", [None, [0, 2, 2, 9]])
@pytest.mark.parametrize("mode", ["sum", "mean"])
@pytest.mark.parametrize("secret", [True, False])
def test_bags_agree_with_pytorch(
    secret: bool, mode: str, offsets: list[int] | None, session: Session, random: torch.Generator
) -> None:
    plain = nn.EmbeddingBag(ROWS, WIDTH, mode=mode)
    shape = (3, 4) if offsets is None else (12,)
    indices = torch.randint(0, ROWS, shape, generator=random)
    starts = None if offsets is None else torch.tensor(offsets)
    expected = plain(indices, starts)
    grad = torch.randn(expected.shape, generator=random)
    expected.backward(grad)

    module = tacit.share(plain)
    y = module(tacit.share(indices, owner="bob") if secret else indices, starts)
    y.backward(tacit.share(grad))

    close(y, expected)
    close(module.weight.grad, plain.weight.grad)


def test_bags_of_a_public_table_by_secret_indices(session: Session, random: torch.Generator) -> None:
    table, indices = torch.randn(ROWS, WIDTH, generator=random), torch.randint(0, ROWS, (3, 4), generator=random)

    y = F.embedding_bag(tacit.share(indices, owner="bob"), table)

    close(y, F.embedding_bag(indices, table))


@pytest.mark.parametrize("in_place", [True, False])
def test_sums_are_scattered_and_other_reductions_refused(
    in_place: bool, session: Session, random: torch.Generator
) -> None:
    x, source = torch.randn(2, 3, 4, generator=random)
    index = torch.randint(0, 3, (3, 4), generator=random)
    secret = tacit.share(x)

    name = "scatter_reduce_" if in_place else "scatter_reduce"
    y = getattr(secret, name)(0, index, tacit.share(source), "sum")

    close(y, x.scatter_reduce(0, index, source, "sum"))
    with pytest.raises(UnsupportedOperator, match="amax"):
        secret.scatter_reduce(0, index, source, "amax")


INDEXED: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "x[i]": lambda x, i: x[i],
    "x[:, i]": lambda x, i: x[:, i % 4 if not isinstance(i, tacit.SecretTensor) else i],
    "index_select": lambda x, i: x.index_select(-1, i.flatten()),
    "index_add": lambda x, i: x.index_add(0, i.flatten(), x[[0] * 4], alpha=2),
    "gather": lambda x, i: x.gather(0, i.repeat(2, 2)[:3].unsqueeze(-1).repeat(1, 1, 4)),
    "scatter_add": lambda x, i: x.scatter_add(1, i.repeat(3, 1)[:5].unsqueeze(-1).repeat(1, 1, 4), x[:, :2]),
    "one_hot": lambda x, i: x.sum() * F.one_hot(i, 4),
}


@pytest.mark.parametrize("secret", [True, False])
@pytest.mark.parametrize("name", INDEXED)
def test_indexing_agrees_with_pytorch(name: str, secret: bool, session: Session, random: torch.Generator) -> None:
    plain = torch.randn(5, 4, 4, generator=random).requires_grad_()
    indices = torch.randint(0, 4, (2, 2), generator=random)
    expected = INDEXED[name](plain, indices)
    grad = torch.randn(expected.shape, generator=random)
    expected.backward(grad)

    x = tacit.share(plain.detach(), owner="alice").requires_grad_()
    y = INDEXED[name](x, tacit.share(indices, owner="bob") if secret else indices)
    y.backward(tacit.share(grad))

    close(y, expected)
    close(x.grad, plain.grad)


def test_a_secret_mask_beside_an_index_is_refused(session: Session) -> None:
    x, i = tacit.share(torch.zeros(3, 3)), tacit.share(torch.tensor([0, 1]))

    with pytest.raises(UnsupportedOperator, match=r"torch\.gather"):
        x[tacit.share(torch.tensor([True, False, True])), i]


def close(secret: Tensor | None, expected: Tensor | None) -> None:
    assert secret is not None
    assert expected is not None
    torch.testing.assert_close(tacit.reveal(secret.detach()), expected.detach(), atol=2**-12, rtol=2**-12)


@pytest.mark.parametrize("mode", ["sum", "mean"])
@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("secret", [False, True])
def test_bags_take_public_gradients_and_a_last_offset(mode, last, secret, session):
    plain = nn.EmbeddingBag(6, 3, mode=mode, include_last_offset=last)
    shared, rows, offsets = tacit.share(plain), torch.tensor([0, 2, 2, 5, 1]), torch.tensor([0, 2, 5][: 2 + last])
    gradient = torch.tensor([[1.0, 2.0, 3.0], [0.5, 0.25, -1.0]])

    plain(rows, offsets).backward(gradient)
    shared(rows, offsets).backward(tacit.share(gradient) if secret else gradient)

    torch.testing.assert_close(tacit.reveal(shared.weight.grad), plain.weight.grad, atol=2**-12, rtol=0)

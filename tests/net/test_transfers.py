"""Oblivious transfers between two roles that each know only their own end."""

from __future__ import annotations

import torch
from torch import Tensor

from tacit.net.tcp import Tcp
from tacit.protocols.two_party.transfers import Transfers
from tacit.ring import kernels
from tacit.session.session import Session

from .conftest import Net


def chosen(choice: Tensor, zero: Tensor, one: Tensor) -> Tensor:
    return torch.where(choice == 1, one, zero)


def unpacked(planes: Tensor, count: int) -> Tensor:
    return torch.stack([kernels.on(p).unpack_bits(p, count) for p in planes])


def test_two_roles_over_a_network_have_what_fits_together(net: Net) -> None:
    config = net.config()

    def play(transport: Tcp) -> list[Tensor]:
        session = Session(transport, config)
        transfers = Transfers(session)
        outs = [*transfers.words(0, 5000), *transfers.digits(1, 20_000, 2), *transfers.bits(0, 12, 3)]
        assert min(session.meter.cost.prepared.values()) > 0
        return [t for out in outs for t in out]

    results = net.run({"alice": play, "bob": play, "crypto-producer": lambda transport: None}, config)

    zero, one, digit, entry, zeros, ones = results["alice"]
    choice, pad, pads, bit, bits = results["bob"]
    assert torch.equal(pad, chosen(choice, zero, one))
    assert torch.equal(entry, (pads >> 2 * digit & 3).to(torch.uint8))
    assert torch.equal(unpacked(bits, 12), chosen(unpacked(bit[None], 12), unpacked(zeros, 12), unpacked(ones, 12)))

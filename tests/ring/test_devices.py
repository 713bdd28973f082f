"""Kernels are found by device and by introspection: nothing lists them, and each refuses what is not its own."""

from __future__ import annotations

import inspect

import pytest
import torch

from tacit.errors import ConfigError
from tacit.protocols.additive import kernels as scheme
from tacit.protocols.additive.kernels import Reference
from tacit.ring import kernels
from tacit.ring.kernels import Kernels, devices, reference

from .cases import CASES
from .operands import names, native_kernels, written


def test_tensors_find_the_kernels_of_their_device() -> None:
    near, far = torch.zeros(3), torch.zeros(3, device="meta")

    assert type(scheme.on(near)) is type(scheme.at("cpu"))
    assert type(scheme.on(far)) is type(scheme.at("cuda")) is Reference
    assert type(kernels.on(far)) is reference.Reference
    assert isinstance(scheme.on(near), type(kernels.on(near)))


def test_a_device_gets_kernels_of_its_own_by_one_class() -> None:
    class Counting(Reference):
        def pack_bits(self, bits: torch.Tensor) -> torch.Tensor:
            raise NotImplementedError("elsewhere")

    found = Kernels(Reference(), meta=Counting())

    with pytest.raises(NotImplementedError, match="elsewhere"):
        found.on(torch.zeros(8, dtype=torch.uint8, device="meta")).pack_bits(torch.zeros(8, dtype=torch.uint8))
    assert found.on(torch.zeros(8, dtype=torch.uint8)).pack_bits(torch.ones(8, dtype=torch.uint8)).tolist() == [255]


def test_an_unknown_backend_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TACIT_KERNELS", "abacus")

    with pytest.raises(ConfigError, match="say native or reference"):
        devices._backend()


def test_every_kernel_has_a_case() -> None:
    assert names(Reference) == {case.kernel for case in CASES.values()}


def test_native_kernels_are_reference_kernels_of_the_same_signature() -> None:
    native = type(native_kernels())

    assert names(native) == names(Reference)
    for name in names(native):
        own, portable = (inspect.signature(getattr(kind, name)).parameters for kind in (native, Reference))
        assert own == portable, name


def test_what_no_native_kernel_overrides_falls_back() -> None:
    native = type(native_kernels())

    assert "selected" in written(native)
    assert "node_inputs" not in written(native)


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if not case.values])
def test_portable_kernels_run_on_any_device(name: str) -> None:
    inputs, outputs = ([t.to("meta") for t in row] for row in CASES[name].operands(70))

    made = CASES[name].call(Reference(), inputs, outputs)

    for t in made if isinstance(made, tuple) else (made,):
        assert not isinstance(t, torch.Tensor) or t.is_meta

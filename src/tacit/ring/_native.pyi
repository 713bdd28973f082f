"""The C++ module (native/module.cpp). Tensors are addresses and steps, in elements."""

Steps = tuple[int, ...]

def isa() -> str: ...
def use_isa(name: str) -> None: ...
def matmul(
    x: int,
    x_steps: Steps,
    y: int,
    y_steps: Steps,
    z: int,
    z_steps: Steps,
    batch: int,
    rows: int,
    inner: int,
    columns: int,
    threads: int,
) -> None: ...

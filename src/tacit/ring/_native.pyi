"""The C++ module (native/module.cpp). Tensors are addresses and steps, in elements."""

Steps = tuple[int, ...]
Table = tuple[int, int]  # the address and the length of an int64 tensor
Tables = tuple[Table, Table, Table]

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
def contract(x: int, x_at: Tables, y: int, y_at: Tables, z: int, z_at: Tables, threads: int) -> None: ...
def multiply_add(
    x: int, b: int, y: int, a: int, leader: bool, minus: bool, count: int, out: int, threads: int
) -> None: ...
def scaled_parts(a: int, m: int, bit: int, count: int, high: int, wrap: int, bytes: int, threads: int) -> None: ...
def scaled_share(
    opened: int, m: int, high: int, wrap: int, bytes: int, leader: bool, count: int, out: int, threads: int
) -> None: ...
def selected(
    opened: int,
    m: int,
    c: int,
    x: int,
    beta: int,
    high: int,
    wrap: int,
    bytes: int,
    count: int,
    out: int,
    threads: int,
) -> None: ...
def thermometer(a: int, count: int, out: int, threads: int) -> None: ...
def lookup(
    tables: int, width: int, numbers: int, count: int, leader: bool, less: int, equal: int, threads: int
) -> None: ...
def node_expand(masks: int, count: int, top: bool, out: int, threads: int) -> None: ...
def node_evaluate(
    opened: int,
    masks: int,
    monomials: int,
    less3: int,
    count: int,
    top: bool,
    leader: bool,
    less: int,
    equal: int,
    threads: int,
) -> None: ...
def pack_bits(bits: int, count: int, plane: int, threads: int) -> None: ...
def unpack_bits(plane: int, count: int, bits: int, threads: int) -> None: ...

class KeyStream:
    def __init__(self, key: bytes) -> None: ...
    @staticmethod
    def available() -> bool: ...
    def write(self, out: int, count: int, how: int, threads: int) -> None: ...

"""The native kernels under the address and undefined-behaviour sanitizers: a build of their own, in which reading or
writing a byte too many, an overflow of signed numbers or a shift too far ends the process."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = ROOT / "src" / "tacit" / "ring" / "cpp"

TESTS = (
    "tests/ring/test_bounds.py",
    "tests/ring/test_native.py",
    "tests/ring/test_tiles.py",
    "tests/protocols/two_party/test_transfer_kernels.py",
    "tests/protocols/two_party/test_lattice_kernels.py",
    "tests/protocols/two_party/test_lattice_apart.py",
    "tests/protocols/two_party/test_kernels.py",
    "tests/protocols/two_party/test_oblivious.py",
    "tests/hostile/test_tampering.py",
    "tests/records/test_digests.py",
    "tests/replay/test_steps.py",
)

RUN = """
import importlib.util, sys
spec = importlib.util.spec_from_file_location("tacit.ring._native", sys.argv[1])
module = importlib.util.module_from_spec(spec)
sys.modules["tacit.ring._native"] = module
spec.loader.exec_module(module)
if sys.argv[2] == "provoke":
    import torch
    bits, plane = torch.zeros(512, dtype=torch.uint8), torch.zeros(512, dtype=torch.uint8)
    module.pack_bits((bits.data_ptr(), 4096), (plane.data_ptr(), 512), 1)
else:
    import pytest
    sys.exit(pytest.main(sys.argv[2:]))
"""


def libraries() -> list[str]:
    """What is to be loaded first: the sanitizer, and the library whose exceptions it takes over."""
    ask = [["g++", f"-print-file-name={name}"] for name in ("libasan.so", "libstdc++.so.6")]
    return [subprocess.run(a, capture_output=True, text=True, check=True).stdout.strip() for a in ask]


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if not all(Path(library).is_absolute() for library in libraries()):
        pytest.skip("the address sanitizer needs g++ and its libasan")
    scripts = sysconfig.get_path("scripts")
    cmake = shutil.which("cmake", path=f"{scripts}{os.pathsep}{os.environ['PATH']}")
    assert cmake is not None, "pip install cmake ninja nanobind (the extra `dev`)"
    out = tmp_path_factory.mktemp("sanitized")
    options = ["-G", "Ninja", f"-DPython_EXECUTABLE={sys.executable}", "-DTACIT_SANITIZE=ON"]
    environment = {**os.environ, "PATH": f"{scripts}{os.pathsep}{os.environ['PATH']}"}
    for command in ([cmake, "-S", str(SOURCES), "-B", str(out), *options], [cmake, "--build", str(out)]):
        made = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=1800, check=False)
        assert made.returncode == 0, made.stdout + made.stderr
    (module,) = out.glob("_native*.so")
    return module


def run(module: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {
        **os.environ,
        "LD_PRELOAD": " ".join(libraries()),
        "ASAN_OPTIONS": "detect_leaks=0:halt_on_error=1:allocator_may_return_null=1",
        "UBSAN_OPTIONS": "halt_on_error=1:print_stacktrace=1",
        "TACIT_KERNELS": "native",
    }
    return subprocess.run(
        [sys.executable, "-c", RUN, str(module), *arguments],
        env=environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=3000,
        check=False,
    )


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_the_sanitizers_find_nothing(build: Path) -> None:
    fuzzed = run(build, "--capture=no", "-p", "no:cacheprovider", *TESTS)

    assert fuzzed.returncode == 0, (fuzzed.stdout + fuzzed.stderr)[-5000:]
    assert "passed" in fuzzed.stdout


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_the_sanitizers_would_find_a_byte_too_many(build: Path) -> None:
    lied_to = run(build, "provoke")  # 4,096 bytes are said to lie where 512 do

    assert lied_to.returncode != 0
    assert "heap-buffer-overflow" in lied_to.stderr

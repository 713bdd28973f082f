"""Real sentences that every machine has: the documentation of PyTorch, NumPy and Python's standard library.

The sentences are cut from docstrings. The names of the libraries are taken out of them, and so is everything that is no
prose: sections of parameters, examples, signatures. Which sentences there are depends on the versions installed; for
given versions and a given seed they are always the same.

A sentence becomes a *bag*: how often each word occurs in it, divided by the number of its words. Words are numbered by
a hash, so that owners need not agree on a vocabulary, which would say something about their texts.
"""

from __future__ import annotations

import hashlib
import importlib
import inspect
import random
import re
from collections.abc import Iterator
from types import ModuleType

import torch
from torch import Tensor

LIBRARIES = {
    "torch": ["torch", "torch.nn", "torch.nn.functional", "torch.optim", "torch.distributions", "torch.utils.data"],
    "numpy": ["numpy", "numpy.linalg", "numpy.random", "numpy.fft", "numpy.ma", "numpy.polynomial", "numpy.testing"],
    "python": [
        *("argparse", "asyncio", "collections", "concurrent.futures", "configparser", "csv", "datetime", "decimal"),
        *(
            "email.message",
            "fractions",
            "http.client",
            "inspect",
            "ipaddress",
            "itertools",
            "json",
            "logging",
            "mailbox",
        ),
        *("multiprocessing", "os", "pathlib", "random", "shutil", "socket", "sqlite3", "statistics", "string"),
        *("subprocess", "tarfile", "tempfile", "threading", "unittest", "urllib.request", "zipfile"),
    ],
}
"""The classes, and the modules whose documentation is read."""

NAMES = {"torch", "pytorch", "numpy", "np", "python", "cpython", "ndarray", "tensor", "tensors"}
"""Words that would give the library away."""
SHORTEST, LONGEST = 6, 40
"""Words of a sentence."""


def sentences(per_library: int, seed: int = 0) -> list[tuple[str, int]]:
    """Return as many sentences of each library, in random order, each with the number of its library."""
    chosen = random.Random(seed)
    found = []
    for label, modules in enumerate(LIBRARIES.values()):
        texts = sorted({text for module in modules for text in _prose(importlib.import_module(module))})
        if len(texts) < per_library:
            raise ValueError(f"there are only {len(texts)} sentences of {list(LIBRARIES)[label]}, not {per_library}")
        found += [(text, label) for text in chosen.sample(texts, per_library)]
    chosen.shuffle(found)
    return found


def words(sentence: str) -> list[str]:
    """Return the words in lower case, without names of libraries."""
    return [word for word in re.findall(r"[a-z]+", sentence.lower()) if word not in NAMES]


def number(word: str, buckets: int) -> int:
    """Return a number below `buckets` that is the same everywhere; few words share one."""
    return int.from_bytes(hashlib.sha256(word.encode()).digest()[:8], "little") % buckets


def bags(texts: list[str], buckets: int) -> Tensor:
    """[sentences, buckets]: the share of each word."""
    out = torch.zeros(len(texts), buckets)
    for row, text in zip(out, texts, strict=True):
        numbers = torch.tensor([number(word, buckets) for word in words(text)])
        row += torch.bincount(numbers, minlength=buckets) / len(numbers)
    return out


def _prose(module: ModuleType) -> Iterator[str]:
    """The sentences in the docstrings of a module's functions, classes and methods."""
    for thing in _documented(module):
        text = re.split(r"\n(?:\w+:?\n|Args|\.\. |>>> |Example|Note)", inspect.getdoc(thing) or "")[0]
        for paragraph in text.split("\n\n"):
            for sentence in re.split(r"(?<=[.!?])\s+", " ".join(paragraph.split())):
                prose = re.fullmatch(r"[A-Z][\w\s,;:'()\"`*./-]+[.!?]", sentence)
                if prose and SHORTEST <= len(words(sentence)) <= LONGEST:
                    yield sentence


def _home(thing: object, otherwise: str) -> str:
    """The package that something is defined in."""
    name = thing.__name__ if isinstance(thing, ModuleType) else getattr(thing, "__module__", None) or otherwise
    return name.split(".")[0].lstrip("_")


def _documented(module: ModuleType) -> Iterator[object]:
    for name, thing in sorted(vars(module).items()):
        if not name.startswith("_") and callable(thing) and _home(thing, module.__name__) == _home(module, ""):
            yield thing
            if inspect.isclass(thing):
                yield from (
                    method
                    for key, method in sorted(vars(thing).items())
                    if callable(method) and not key.startswith("_")
                )

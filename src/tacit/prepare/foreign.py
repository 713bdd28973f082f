"""scikit-learn's transformers: fitted, applied and kept, without pickle, by skops."""

from __future__ import annotations

from typing import Any

import numpy as np

from tacit.errors import ConfigError, DataError
from tacit.prepare.fitted import Array

__all__ = ["apply", "dump", "fit", "read"]


TRUSTED = ["numpy.dtype"]
"""What skops takes for no type of its own, and harms nobody."""


def fit(transformer: Any, frame: Any) -> list[str]:
    """Fit it on a data frame, and return the names of what comes out."""
    try:
        transformer.fit(frame)
    except Exception as error:
        raise _refused("be fitted on", error) from None
    try:
        return [str(name) for name in transformer.get_feature_names_out()]
    except Exception:
        width = apply(transformer, frame.iloc[:1], None).shape[1]
        return [f"column {k + 1}" for k in range(width)]


def apply(transformer: Any, frame: Any, names: list[str] | None) -> Array:
    """What comes out, as numbers, all of them finite."""
    try:
        found = transformer.transform(frame)
        if hasattr(found, "toarray"):
            found = found.toarray()
        out = np.asarray(found, dtype=np.float64)
    except Exception as error:
        raise _refused("take", error) from None
    if out.ndim != 2 or (names is not None and out.shape != (len(frame), len(names))):
        raise DataError(f"the transformer made a table of shape {out.shape} of {len(frame)} rows")
    wrong = ~np.isfinite(out).all(0)
    if wrong.any():
        where = "" if names is None else f" in {', '.join(repr(names[k]) for k in np.flatnonzero(wrong)[:20])}"
        raise DataError(f"the transformer left cells without a finite number{where}")
    return out


def dump(transformer: Any) -> bytes:
    """The fitted transformer in skops' format."""
    data: bytes = _skops().dumps(transformer)
    try:
        read(data)
    except DataError as error:
        raise DataError(f"this transformer cannot be kept: {error}") from None
    return data


def read(data: bytes) -> Any:
    """A transformer from a file, if it is made of nothing but scikit-learn's, SciPy's and NumPy's own types."""
    skops = _skops()
    try:
        unknown = sorted(set(skops.get_untrusted_types(data=data)) - set(TRUSTED))
        if not unknown:
            return skops.loads(data, trusted=TRUSTED)
    except Exception as error:
        raise DataError(f"what it holds is no transformer that skops has written ({type(error).__name__})") from None
    raise DataError(f"it holds types that are not scikit-learn's own, and might run code: {', '.join(unknown[:5])}")


def _skops() -> Any:
    try:
        import skops.io
    except ImportError:
        raise ConfigError("keeping a transformer of scikit-learn needs skops: pip install skops") from None
    return skops.io


def _refused(what: str, error: Exception) -> DataError:
    """scikit-learn's own messages hold values."""
    return DataError(
        f"the transformer did not {what} the table ({type(error).__name__}); its own message may hold values, so call "
        f"it by itself to see it"
    )

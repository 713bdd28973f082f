"""scikit-learn's calibration of linear classifiers, on ciphertexts."""

from __future__ import annotations

import numpy as np
from sklearn import calibration as sk

from tacit.errors import DataError
from tacit.fhe.compile.assemble import Compiled
from tacit.fhe.encode import Affine, Float
from tacit.fhe.estimator import WithProba, quantized
from tacit.fhe.joint import compile_members, joined, member_of
from tacit.fhe.joint_heads import CalibratedHead
from tacit.fhe.read import Classes

__all__ = ["CalibratedClassifierCV"]


@quantized(n_bits=None)
class CalibratedClassifierCV(WithProba, sk.CalibratedClassifierCV):
    """Linear classifiers with their scores made probabilities by sigmoids, on ciphertexts. The client learns the scores
    of each of them, and has the sigmoids."""

    def _lower(self, x: Float, before: Affine | None, n_bits: int) -> Compiled:
        parts = self.calibrated_classifiers_
        if any(part.method != "sigmoid" for part in parts):
            raise DataError("calibration on ciphertexts needs method='sigmoid'")
        for part in parts:
            inner = part.estimator
            if not hasattr(inner, "decision_function") or len(inner.classes_) != len(self.classes_):
                raise DataError(f"calibration on ciphertexts takes linear classifiers, not {type(inner).__name__}")
        members = [member_of(part.estimator, "calibration") for part in parts]
        program, encoder, heads, sizes = compile_members(members, x, n_bits, before, "calibration")
        slope = np.array([[one.a_ for one in part.calibrators] for part in parts])
        offset = np.array([[one.b_ for one in part.calibrators] for part in parts])
        return joined(program, encoder, CalibratedHead(heads, sizes, slope, offset, Classes.of(self.classes_)))

"""A model that was revealed says what the secret one says, in the clear and on ciphertexts."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import tacit
from tacit.ensemble import (
    GradientBoostingClassifier,
    GradientBoostingRegressor,
    PlainTrees,
    RandomForestClassifier,
    to_plain,
)
from tacit.errors import DataError, TacitError
from tacit.session.session import Session

from .conftest import Array, on_grid, shared

MODELS: dict[str, tuple[type[Any], dict[str, Any], int]] = {
    "two classes": (GradientBoostingClassifier, {"min_child_weight": 8.0}, 2),
    "three classes": (GradientBoostingClassifier, {}, 3),
    "numbers": (GradientBoostingRegressor, {}, 0),
    "forest": (RandomForestClassifier, {}, 2),
    "forest of three": (RandomForestClassifier, {}, 3),
}


def revealed_model(random: np.random.Generator, name: str) -> tuple[PlainTrees, Array, Any]:
    """A model that Bob was revealed, the rows that it was fitted to, and the secret one."""
    kind, options, classes = MODELS[name]
    x = on_grid(random.normal(size=(120, 4)))
    odds = x[:, 0] + x[:, 2] * x[:, 3]
    y = torch.from_numpy(np.digitize(odds, [-0.3, 0.6][: classes - 1]) if classes else on_grid(10 * odds + 40))
    labels = tacit.share(y, owner="bob", **({"classes": classes} if classes else {}))
    model = kind(n_estimators=3, max_depth=2, max_bins=6, **options).fit(shared(x, 2, 2), labels)

    plain = to_plain(model, to="bob")
    assert plain is not None
    return plain, x, model


@pytest.mark.parametrize("name", MODELS)
def test_a_revealed_model_predicts_the_same(session: Session, random: np.random.Generator, name: str) -> None:
    plain, x, model = revealed_model(random, name)

    assert {e.name for e in session.ledger.entries} == {"the model"}
    parts = shared(x, 2, 2)
    if plain.classes_:
        found = tacit.reveal(model.predict_proba(parts)).numpy()
        assert plain.predict_proba(x) == pytest.approx(found, abs=2e-3)
    else:
        assert plain.predict(x) == pytest.approx(tacit.reveal(model.predict(parts)).numpy(), abs=2e-2)
    with pytest.raises(DataError, match="4 columns"):
        plain.predict(x[:, :3])


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", MODELS)
def test_a_revealed_model_predicts_on_ciphertexts(session: Session, random: np.random.Generator, name: str) -> None:
    from_tacit_model = pytest.importorskip("tacit.fhe.boosted").from_tacit_model
    plain, x, _ = revealed_model(random, name)

    encrypted = from_tacit_model(plain, x)

    want, got = plain.predict(x), encrypted.predict(x, fhe="simulate")
    assert (np.abs(got - want) < (0.5 if plain.classes_ else 0.05)).mean() > 0.97
    if name == "two classes":
        assert (encrypted.predict(x[:3], fhe="execute") == encrypted.predict(x[:3], fhe="simulate")).all()


def test_a_model_that_is_not_fitted_is_not_revealed(session: Session) -> None:
    with pytest.raises(TacitError, match="not been fitted"):
        to_plain(GradientBoostingClassifier(), to="alice")

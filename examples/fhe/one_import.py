"""One import changed: a logistic regression and a boosted forest that predict on encrypted tumour measurements.

Trains on scikit-learn's breast-cancer data, then asks for the held-out patients three times: in clear, in clear with
the integers that the encrypted model uses, and on ciphertexts. The last two are equal to the bit.

    python examples/fhe/one_import.py
"""

from sklearn.datasets import load_breast_cancer
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler

from tacit.fhe import Pipeline
from tacit.fhe.ensemble import GradientBoostingClassifier  # was sklearn.ensemble
from tacit.fhe.linear_model import LogisticRegression  # was sklearn.linear_model

x, y = load_breast_cancer(return_X_y=True)
x_train, x_test, y_train, y_test = train_test_split(x, y, random_state=0)

models = {
    "logistic regression": Pipeline([("scale", StandardScaler()), ("model", LogisticRegression(n_bits=8))]),
    "boosted forest": GradientBoostingClassifier(n_estimators=20, n_bits=6, random_state=0),
}
for name, model in models.items():
    model.fit(x_train, y_train).compile(x_train)
    rows = x_test[:30]
    clear, simulated, executed = (model.predict(rows, fhe=mode) for mode in ("disable", "simulate", "execute"))
    print(f"{name}: encrypted and simulated predictions are equal: {(executed == simulated).all()}")
    print(f"  the same as in clear: {(executed == clear).mean():.0%}, right: {(executed == y_test[:30]).mean():.0%}")
    print("  " + str(model.fhe_report()).replace("\n", "\n  "))

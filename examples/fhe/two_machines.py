"""Client and server apart: the hospital has the patients, the laboratory has the model, and neither shows it.

The laboratory saves two folders: `server/` for its own machine and `client/` for anyone who asks. The hospital makes
a key, sends its public half once, then one encrypted message for its patients, and decrypts the one answer. Here the
messages are files in one folder; `tacit serve-fhe server/ --client client/` sends them over HTTP instead, and
`Client("https://...").predict(rows)` is then all that the hospital writes.

    python examples/fhe/two_machines.py
"""

from pathlib import Path

from sklearn.datasets import load_breast_cancer
from sklearn.ensemble import RandomForestClassifier
from sklearn.model_selection import train_test_split

from tacit.fhe import Client, Server, ensemble

x, y = load_breast_cancer(return_X_y=True)
x_train, patients, y_train, _ = train_test_split(x, y, random_state=0)

# The laboratory: a model that was trained long ago, by anyone, with plain scikit-learn.
trained = RandomForestClassifier(n_estimators=20, max_depth=4, random_state=0).fit(x_train, y_train)
model = ensemble.RandomForestClassifier.from_sklearn_model(trained, x_train)
model.save_server("server")
model.save_client("client")

# The hospital: makes its key, encrypts ten patients.
hospital = Client("client")
Path("key.public").write_bytes(hospital.public_key)
query = hospital.encrypt(patients[:10])
Path("query").write_bytes(query)

# The laboratory: sees ciphertexts only.
laboratory = Server("server")
laboratory.register(Path("key.public").read_bytes())
Path("answer").write_bytes(laboratory.answer(Path("query").read_bytes()))

# The hospital: decrypts.
values = hospital.decrypt(Path("answer").read_bytes(), query)
diagnoses = hospital.spec.head.predict(values, hospital.spec.encode(patients[:10]))
for name in ("key.public", "query", "answer"):
    print(f"{name}: {Path(name).stat().st_size:,} bytes")
print(f"diagnoses equal to the model's own: {(diagnoses == trained.predict(patients[:10])).all()}")

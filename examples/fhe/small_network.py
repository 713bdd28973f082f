"""A convolution with squares, trained in PyTorch, then asked on ciphertexts.

The client sends products of neighbouring pixels, the server answers with ten encrypted scores. `from_torch` says what
quantisation costs before anything is served, and refuses a network that is no polynomial.
"""

import torch
from sklearn.datasets import load_digits

from tacit.errors import DataError
from tacit.fhe import from_torch


class Square(torch.nn.Module):
    """The activation: a polynomial, so it needs no approximation."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return x^2."""
        return x * x


torch.manual_seed(1)
images, labels = load_digits(return_X_y=True)
x, y = torch.tensor(images.reshape(-1, 1, 8, 8) / 16, dtype=torch.float32), torch.tensor(labels)
net = torch.nn.Sequential(torch.nn.Conv2d(1, 8, 3), Square(), torch.nn.Flatten(), torch.nn.Linear(288, 10))
adam = torch.optim.Adam(net.parameters(), 0.01)
for rows in torch.arange(1400).repeat(6).split(64):
    adam.zero_grad()
    torch.nn.functional.cross_entropy(net(x[rows]), y[rows]).backward()
    adam.step()

model = from_torch(net, x[:1400], y[:1400], classes=range(10))
print(model.accuracy)

held = x[1400:1420]
encrypted, simulated = model.predict(held, fhe="execute"), model.predict(held, fhe="simulate")
print("on ciphertexts and in clear integers equal:", (encrypted == simulated).all())
print("right of 20:", int((encrypted == labels[1400:1420]).sum()))

try:
    from_torch(torch.nn.Sequential(net[0], torch.nn.ReLU(), net[2], net[3]), x)
except DataError as error:
    print(error)

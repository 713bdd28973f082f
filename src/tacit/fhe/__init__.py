"""scikit-learn on ciphertexts: the client sends one encrypted message and gets one encrypted answer.

::

    linear_model  svm  tree  ensemble  neighbors  neural_network  pipeline      scikit-learn's classes, with n_bits
    network.py                                                                  small networks from PyTorch
    hybrid/                                                                     encrypted linear layers of large ones
        estimator.py   what they share: compile, predict(fhe=...), save, report
        compile/       from a trained model to a program and an encoder
    client.py  server.py  service.py  remote.py                                 the two sides, in one process or over
    HTTP
        spec.py        the two halves of a compiled model, and their files
        encode.py  program.py  read.py     integers in, linear forms, predictions out
        wire.py        the three messages
        parameters.py  noise.py  layout.py which ring, how much noise hides the model, where things lie in it
        seal.py        Microsoft SEAL                       randomness.py   the operating system's
"""

from tacit.fhe.client import Client
from tacit.fhe.hybrid.model import Hybrid
from tacit.fhe.network import from_torch
from tacit.fhe.pipeline import Pipeline
from tacit.fhe.server import Server

__all__ = ["Client", "Hybrid", "Pipeline", "Server", "from_torch"]

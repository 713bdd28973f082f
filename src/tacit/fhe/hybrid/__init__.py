"""Transformers of which the server keeps the linear layers: `tacit.fhe.Hybrid`.

::

    model.py    Hybrid: takes a model apart, runs it, fine-tunes it with adapters at the client
    layer.py    one linear layer on ciphertexts, and its gradient
    files.py    what a client and a server keep of it
"""

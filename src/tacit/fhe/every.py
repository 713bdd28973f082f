"""Every module that has models: importing this one makes all of them known to `counterpart`."""

from tacit.fhe import ensemble, linear_model, neighbors, neural_network, svm, tree

MODULES = (linear_model, svm, tree, ensemble, neighbors, neural_network)

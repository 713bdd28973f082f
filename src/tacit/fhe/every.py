"""Every module that has models: importing this one makes all of them known to `counterpart`."""

from tacit.fhe import (
    cluster,
    decomposition,
    discriminant_analysis,
    ensemble,
    linear_model,
    multiclass,
    naive_bayes,
    neighbors,
    neural_network,
    svm,
    tree,
)

MODULES = (
    linear_model, svm, discriminant_analysis, naive_bayes, multiclass, cluster, decomposition, tree, ensemble,
    neighbors, neural_network,
)  # fmt: skip

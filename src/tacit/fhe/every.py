"""Every module that has models: importing this one makes all of them known to `counterpart`."""

from tacit.fhe import (
    calibration,
    cluster,
    covariance,
    cross_decomposition,
    decomposition,
    discriminant_analysis,
    ensemble,
    kernel_ridge,
    linear_model,
    mixture,
    multiclass,
    multioutput,
    naive_bayes,
    neighbors,
    neural_network,
    svm,
    tree,
)

MODULES = (
    linear_model, svm, discriminant_analysis, naive_bayes, multiclass, multioutput, cluster, mixture, covariance,
    decomposition, cross_decomposition, kernel_ridge, tree, ensemble, calibration, neighbors, neural_network,
)  # fmt: skip

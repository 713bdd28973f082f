"""XGBoost's trees, grown from gradients that are summed under masks.

::

    strategy.py   FedXgbHistogram, in the place of FedXgbBagging, at the server
    answers.py    answer_histograms, what a client adds up
    bins.py       how features are cut into bins, by counts over all sites
    splits.py     the best split of a node, by XGBoost's gain
    forest.py     trees as arrays, and as a model that XGBoost loads
    objectives.py gradients of losses
    settings.py   which of XGBoost's parameters there are
"""

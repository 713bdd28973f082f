"""Differential privacy for clients: each clips its update, noise that nobody knows is in the sum, and losses add up.

`noise.py` is clipping and noise, `accountant.py` what rounds cost together, `budget.py` a client's own account of that.
"""

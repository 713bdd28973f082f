"""What a risk department asks of a table first: moments, quantiles, correlations, weights of evidence, inflation."""

from tacit.statistics.description import Description, describe
from tacit.statistics.evidence import Evidence, weight_of_evidence

__all__ = ["Description", "Evidence", "describe", "weight_of_evidence"]

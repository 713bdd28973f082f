"""What a module would cost on secrets, and what of it does not work there, before a run."""

from tacit.check.checker import check
from tacit.check.report import Report, Unsupported

__all__ = ["Report", "Unsupported", "check"]

"""What a run costs, by module and operator."""

from tacit.profile.profiler import Profile, profile
from tacit.profile.row import Row

__all__ = ["Profile", "Row", "profile"]

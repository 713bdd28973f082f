"""What an owner does with its columns before they are shared: fitted on training rows, kept, applied the same later."""

from tacit.prepare.table import Table, load

__all__ = ["Table", "load"]

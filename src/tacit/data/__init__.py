"""Data of the owners: tables from files, and batches for training loops."""

from tacit.data.batches import batches
from tacit.data.read import columns, read_csv
from tacit.data.table import Table, read_table

__all__ = ["Table", "batches", "columns", "read_csv", "read_table"]

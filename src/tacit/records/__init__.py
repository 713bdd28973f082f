"""Records of people that several institutions hold: their tables, and the rows of these that belong together."""

from tacit.records.joined import Joined
from tacit.records.joining import join
from tacit.records.keys import either
from tacit.records.read import read_table
from tacit.records.table import Records

__all__ = ["Joined", "Records", "either", "join", "read_table"]

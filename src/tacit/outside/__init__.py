"""People who are no parties: how they share what they have with the servers, which are the computing parties.

`sharing.py` cuts and joins.
"""

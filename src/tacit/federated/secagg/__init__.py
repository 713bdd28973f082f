"""Secure aggregation with pairwise masks: one server learns the sum of its clients' vectors and nothing else.

Each client u adds to its vector x_u a self-mask and a mask for each neighbour v, which cancel in the sum:

    y_u = x_u + PRG(b_u) + sum over v > u of PRG(s_uv) - sum over v < u of PRG(s_uv)

s_uv is a Diffie-Hellman secret of u and v; b_u and u's half of all s_uv are secret-shared among the neighbours, so that
a round survives clients that vanish. For a client that survived, b_u is reconstructed; for one that did not, its key.
Ref: [BIKMMPRSS17] Fig. 4, [BBGLR20] Alg. 2.

::

    settings.py    what clients and server agree on in advance
    member.py      a client's five stages          collector.py   the server's
    packets.py     what they send each other       keys.py        agreement, masks, encryption
    shamir.py  graph.py  encoding.py
"""

from tacit.federated.secagg.collector import Collector
from tacit.federated.secagg.member import Member
from tacit.federated.secagg.settings import Settings

__all__ = ["Collector", "Member", "Settings"]

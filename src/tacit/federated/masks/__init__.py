"""Form 1, secure aggregation by pairwise masks: one server learns the sum of its clients' vectors and nothing else.

Each client u adds to its vector x_u a self-mask and a mask for each neighbour v, which cancel in the sum:

    y_u = x_u + PRG(b_u) + sum over v > u of PRG(s_uv) - sum over v < u of PRG(s_uv)

s_uv is a Diffie-Hellman secret of u and v; b_u and u's half of all s_uv are secret-shared among the neighbours, so that
a round survives clients that vanish. For a client that survived, b_u is reconstructed; for one that did not, its key.
Ref: [BIKMMPRSS17] Fig. 4, [BBGLR20] Alg. 2.

::

    form.py        what an app names; a client's end     server.py      Flower's server leads clients through a session
    member.py      a client's five stages                collector.py   the server's
    settings.py    what both agree on in advance         packets.py     what they send each other
    keys.py  shamir.py  graph.py  encoding.py            masks, shares, who with whom, vectors
"""

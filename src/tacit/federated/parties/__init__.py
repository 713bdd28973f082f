"""Form 2, secure aggregation by several computing parties that do not collude.

Clients share their updates to them, and under multi-party computation they clip, sort and average what none sees.

::

    form.py         what an app names; a client's end      intake.py       Flower's server takes what clients send
    terms.py        what all agree on in advance           submission.py   what a client signs   shares.py  and sends
    work.py         one round, as the parties know it      computation.py  what they compute      rules.py  and how
    aggregator.py   one of them, a process                 calls.py        asking them
    directory.py    who they are                           on_this_machine.py  all of them here, to try out
"""

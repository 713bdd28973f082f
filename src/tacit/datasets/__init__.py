"""Data sets that clients submit: `intake` takes them in at a door, `store` keeps a party's shares, `open` makes secrets
of them, and `files` reads what a client has on its disk."""

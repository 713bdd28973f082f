"""The reference scheme: plain integers in one process, which hides nothing and refuses a network."""

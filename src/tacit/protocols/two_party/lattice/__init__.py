"""Products by ring-LWE with coefficient packing and with slots, between two parties."""

from tacit.protocols.two_party.lattice.engine import BitProduct, Held, Lattice

__all__ = ["BitProduct", "Held", "Lattice"]

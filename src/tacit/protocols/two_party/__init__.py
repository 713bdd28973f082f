"""Two parties who compute alone: their own shares, oblivious transfers and lattices, and no crypto-producer."""

"""A Flower app: ten sites learn to read digits, and the server sees no one's update."""

"""quickstart: a Flower app for the tests."""

"""From a trained model to a program: one file a family (`linear`, `forest`, `neighbors`, `quadratic`), and `assemble`."""

"""A model as data, for a client that has none of its code: `form` is what travels, `trace` makes it of a model, and
`run` computes it on secrets."""

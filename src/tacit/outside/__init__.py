"""People who are no parties: `client` is their end, `door` a party's, over `wire`; `schema` and `sharing` say what goes
through it, `plan` what is served, `deployment` who the parties are, and `loop` runs it all beside a program."""

"""reachmap's collector and command line: it judges, keeps the map and answers.

`topology` says what should be, `planner` who has to check it, `fold` and `judge` what is,
`views` how people look at it; `app` and `service` carry that over the bus, and `cli` to people.
"""

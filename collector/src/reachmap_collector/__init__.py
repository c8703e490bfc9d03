"""reachmap's collector and command line: it judges, keeps the map and answers.

`topology` says what should be, `planner` who has to check it, `fold` and `judge` what is,
`views` how people look at it; `collector` and `queries` carry that over the bus, `cli` to people.
"""

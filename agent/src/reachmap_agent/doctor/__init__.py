"""`reachmap-agent doctor`: says why this host cannot report or listen.

It looks from here alone and changes nothing that lasts: it works exactly when nothing else does.
`table` has the steps in their order, `steps` what a step is and how they are gone through,
`patient` what one step leaves to those after it. `way`, `tls`, `responders` (over the pure `ocsp`),
`login`, `clock` and `host` take them.
"""

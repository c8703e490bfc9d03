"""What the collector keeps over restarts: transitions, roll-ups, and what came from whom.

`api` says what a store does, whichever it is.
"""

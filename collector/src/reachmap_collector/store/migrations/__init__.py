"""How a store of an older reachmap becomes one of this: alembic's, one file a step.

A step that was released is never changed, and imports nothing of ours: it has to do the same
forever.
"""

"""A websocket at `/`, in plain text. Pure."""

from reachmap_agent.wire import upgrade

check = upgrade.check
stand_in = upgrade.stand_in

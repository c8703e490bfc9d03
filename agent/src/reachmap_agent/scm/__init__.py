"""The agent as a service of Windows, by its service control manager (SCM).

`control` installs, removes, starts and stops it, `host` is what the SCM runs, `files` gives it
folders that are its own, `logfile` is where it logs, `firewall` writes the rules that it needs.
`control` and `host` need pywin32, which Windows alone has: nothing imports them elsewhere.
"""

from typing import Final

NAME: Final = "reachmap-agent"
DISPLAY: Final = "reachmap agent"
DESCRIPTION: Final = "Checks what this host must reach, and stands in for what it must offer."

ACCOUNT: Final = rf"NT SERVICE\{NAME}"
"""A virtual account: it has no password, no rights but a user's, and is nobody else's. LocalService
is shared with other services, which could then read this host's credentials."""

INSTEAD: Final = {
    "linux": "systemd runs it here: systemctl enable --now reachmap-agent, by the package's unit",
    "darwin": "launchd runs it here, by packaging/fleet/org.reachmap.agent.plist",
}
"""What to use on other systems than Windows."""

INSTEAD_ELSEWHERE: Final = "this system's own way to run services has to run `reachmap-agent run`"

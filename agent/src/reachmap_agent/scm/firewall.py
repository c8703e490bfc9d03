"""Rules for Windows's own firewall, as PowerShell, for the ports that this host's plan has. Pure.

They are for the service `reachmap-agent` alone, and so open no port to any other program: nor to
the real service on it, which needs a rule of its own.
"""

from collections.abc import Iterable, Iterator

from reachmap_agent.scm import NAME
from reachmap_shared.messages import ListenerSpec
from reachmap_shared.vocabulary import ListenMode, Transport

_SCRIPT = """\
#Requires -RunAsAdministrator
# Lets others reach the ports on which the reachmap agent stands in, and no other program on them.
# A service that is really there needs a rule of its own: the agent's tells nothing of it.
# As often as you like; -WhatIf only says what it would do, -Remove takes the rules away.
[CmdletBinding(SupportsShouldProcess)]
param([switch] $Remove)

$ErrorActionPreference = 'Stop'
$ports = @{{
{ports}
}}

# What this script was told is not passed on to the firewall's own commands by itself.
Get-NetFirewallRule -Group '{name}' -ErrorAction SilentlyContinue |
    Remove-NetFirewallRule -WhatIf:$WhatIfPreference
if (-not $Remove) {{
    foreach ($protocol in $ports.Keys | Where-Object {{ $ports[$_].Count }}) {{
        $rule = @{{
            Name        = "{name}-$protocol"
            DisplayName = "reachmap agent ($protocol)"
            Group       = '{name}'
            Direction   = 'Inbound'
            Action      = 'Allow'
            Protocol    = $protocol
            LocalPort   = $ports[$protocol]
            Service     = '{name}'
        }}
        New-NetFirewallRule @rule -WhatIf:$WhatIfPreference | Out-Null
    }}
}}
"""


def script(listeners: Iterable[ListenerSpec]) -> str:
    """The script for a plan's listeners; without any it only takes rules away."""
    return _SCRIPT.format(name=NAME, ports="\n".join(_ports(list(listeners))))


def _ports(listeners: list[ListenerSpec]) -> Iterator[str]:
    for transport in Transport:
        numbers = sorted(
            {
                spec.port
                for spec in listeners
                if spec.transport is transport and spec.mode is not ListenMode.NEVER
            }
        )
        yield f"    {transport.upper()} = @({', '.join(map(str, numbers))})"

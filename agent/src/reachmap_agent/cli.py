"""The command `reachmap-agent`."""

import argparse
import asyncio
import json
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Final

from reachmap_agent import settings
from reachmap_agent.ceded import Ceded
from reachmap_agent.memory import ceded_path
from reachmap_agent.service import Service
from reachmap_shared import __version__, log
from reachmap_shared.bundle import Bundle
from reachmap_shared.errors import BusUnavailable, InvalidSettings
from reachmap_shared.lifecycle import run_until_signal
from reachmap_shared.names import port_number
from reachmap_shared.notify import Notifier
from reachmap_shared.vocabulary import Transport

EXIT_FAILED: Final = 1
"""The bus could not be joined: trying again may help."""

EXIT_USAGE: Final = 2
"""Wrong usage or settings: starting again will not help."""

_START: Final = (
    "reachmap-agent service start"
    if sys.platform == "win32"
    else "systemctl restart reachmap-agent"
)

_EXAMPLES = f"""\
examples:
  reachmap-agent run --nats nats://nats-1.example:4222
        join as this machine's hostname; the collector's topology says what to do
  reachmap-agent run --id pc-17 --roles agent,agent-updater
        join under a name of your own, and say which roles this host has
  reachmap-agent run --id nats-1 --address 10.0.0.5 --address fd00::5
        say at which addresses others reach this host, and listen only there

Settings come from --config ({settings.DEFAULT_PATH} when it exists), then the environment
(REACHMAP_NATS_URL, REACHMAP_ID, REACHMAP_ROLES, REACHMAP_ADDRESSES, REACHMAP_STATE,
REACHMAP_CERTIFICATE, REACHMAP_KEY, REACHMAP_NATS_CREDENTIALS, REACHMAP_NATS_NKEY,
REACHMAP_NATS_CA, REACHMAP_NATS_CERTIFICATE, REACHMAP_NATS_KEY), then these options.
"""


Load = Callable[[], settings.Settings]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; exits 0 when done or told to stop, 1 or 2 on an error."""
    options = _parser().parse_args(arguments)
    log.configure(verbose=options.verbose, quiet=options.command != "run")
    if options.command == "join":
        sys.exit(_join(options))
    try:
        code = _COMMANDS[options.command](_loader(options), options)
    except InvalidSettings as error:
        print(f"reachmap-agent: {error}", file=sys.stderr)
        code = EXIT_USAGE
    if code:
        sys.exit(code)


def _loader(options: argparse.Namespace) -> Load:
    """What reads the settings, now and whenever it is asked."""
    arguments = {key: getattr(options, key, None) for key in settings.ARGUMENTS}
    arguments["addresses"] = getattr(options, "address", None)
    return lambda: settings.load(options.config, os.environ, arguments)


def _run(load: Load, _options: argparse.Namespace) -> int:
    run_until_signal(lambda: Service(load, Notifier()).run())
    return 0


def _doctor(load: Load, options: argparse.Namespace) -> int:
    # Here, since an agent at work has no use for it.
    from reachmap_agent.doctor import table
    from reachmap_agent.doctor.steps import Result

    found = asyncio.run(table.run(load()))
    if options.json:
        print(json.dumps([asdict(diagnosis) for diagnosis in found], indent=2))
    else:
        for diagnosis in found:
            print(f"{diagnosis.result:8}{diagnosis.name:14}{diagnosis.found}")
            if diagnosis.to_do:
                print(f"{'':22}to do: {diagnosis.to_do}")
    return int(any(diagnosis.result is Result.FAIL for diagnosis in found))


def _join(options: argparse.Namespace) -> int:
    from reachmap_agent import join  # likewise

    try:
        text = sys.stdin.read() if options.bundle == "-" else join.read(Path(options.bundle))
        joined = join.write(Bundle.parse(text), options.config, force=options.force)
    except InvalidSettings as error:
        print(f"reachmap-agent: {error}", file=sys.stderr)
        return EXIT_USAGE
    for line in joined.lines():
        print(line)
    try:
        loaded = settings.load(joined.config, os.environ, {})
        print(asyncio.run(join.try_out(loaded)))
    except InvalidSettings as error:
        print(f"reachmap-agent: {error}", file=sys.stderr)
        return EXIT_USAGE
    except BusUnavailable as error:
        print(f"reachmap-agent: {error}", file=sys.stderr)
        print("what was written stays; the agent goes on trying once it runs", file=sys.stderr)
        return EXIT_FAILED
    print(f"next: start or restart the agent ({_START})")
    return 0


def _reclaim(load: Load, options: argparse.Namespace) -> int:
    ceded = Ceded(ceded_path(load()))
    transport, _, number = options.port.rpartition("/")
    try:
        port = Transport(transport or Transport.TCP), port_number(int(number))
    except ValueError as error:
        print(
            f"reachmap-agent: {options.port}: expected a port, as in 8080 or udp/53: {error}",
            file=sys.stderr,
        )
        return EXIT_USAGE
    if not ceded.remove(port):
        print(f"{options.port} was not ceded")
        return 1
    print(f"{options.port} is the agent's again, as long as no service is seen there")
    return 0


def _service(load: Load, options: argparse.Namespace) -> int:
    # Here, since it is Windows's alone.
    from reachmap_agent import scm

    if sys.platform == "win32":
        from reachmap_agent.scm import command

        return command.run(options.action, load)
    instead = scm.INSTEAD.get(sys.platform, scm.INSTEAD_ELSEWHERE)
    print(f"reachmap-agent: services of this kind are Windows's; {instead}", file=sys.stderr)
    return EXIT_USAGE


_COMMANDS: Final = {"run": _run, "doctor": _doctor, "reclaim": _reclaim, "service": _service}


_SERVICE_ACTIONS: Final = ("install", "remove", "start", "stop", "status", "firewall")

_BUS_FILES: Final = {
    "--nats-credentials": "what to show to the NATS server: credentials from `reachmap enroll`",
    "--nats-nkey": "the seed of a key that the NATS server knows, instead",
    "--nats-ca": "PEM of who vouches for the NATS server; demands TLS",
    "--nats-certificate": "PEM to show to the NATS server (mutual TLS)",
    "--nats-key": "the key for it, if in a file of its own",
}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="reachmap-agent",
        description="Check from this host what it must reach, and stand in for what it must offer.",
    )
    parser.add_argument("--version", action="version", version=f"reachmap-agent {__version__}")
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--config", type=Path, metavar="FILE", help="settings, as TOML")
    common.add_argument("--nats", metavar="URL", help="NATS server; several, separated by commas")
    common.add_argument("--id", metavar="NAME", help="this host's name in the topology")
    common.add_argument(
        "--address",
        action="append",
        metavar="ADDR",
        help="where others reach this host; listen only there (repeatable)",
    )
    common.add_argument("--state", metavar="DIR", help="where to keep what must survive a restart")
    common.add_argument(
        "--certificate",
        metavar="FILE",
        help="PEM that checks show to servers that ask for a certificate (mutual TLS)",
    )
    common.add_argument("--key", metavar="FILE", help="the key for it, if in a file of its own")
    for name, what in _BUS_FILES.items():
        common.add_argument(name, metavar="FILE", help=what)
    common.add_argument("--verbose", action="store_true", help="log more")
    commands = parser.add_subparsers(required=True, metavar="COMMAND", dest="command")
    run = commands.add_parser(
        "run",
        parents=[common],
        help="run the agent in the foreground",
        description="Run the agent in the foreground until SIGINT or SIGTERM.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    run.add_argument(
        "--roles", metavar="A,B", help="what this host is, where the topology leaves it open"
    )
    look = commands.add_parser(
        "doctor",
        parents=[common],
        help="say why this host cannot report or listen",
        description="Look at this host's settings, its way to the bus, its plan, and who holds "
        "each of its ports. Changes nothing. Exit code 1 when something fails.",
    )
    look.add_argument("--json", action="store_true", help="for programs")
    enter = commands.add_parser(
        "join",
        help="take up who this host is on the bus",
        description="Write what a bundle from `reachmap enroll` says into the agent's settings, "
        "its secrets into files beside them that their owner alone may read, and see whether the "
        "NATS server lets this host in. Other settings stay. Exit code 1: it did not yet.",
        epilog="examples:\n  reachmap-agent join pc-17.toml\n"
        "  ssh collector reachmap enroll pc-17 | reachmap-agent join -",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    enter.add_argument("bundle", metavar="BUNDLE", help="the file, or - for standard input")
    enter.add_argument(
        "--config",
        type=Path,
        metavar="FILE",
        default=settings.DEFAULT_PATH,
        help=f"the settings to write; secrets go beside them [default: {settings.DEFAULT_PATH}]",
    )
    enter.add_argument(
        "--force", action="store_true", help="replace what this host was enrolled as before"
    )
    enter.add_argument("--verbose", action="store_true", help="log more")
    reclaim = commands.add_parser(
        "reclaim",
        parents=[common],
        help="take a port back that was ceded to a service",
        description="A port that a service was ever seen on is ceded for good. Take it back once "
        "that service has gone from this host; a running agent notices within seconds.",
        epilog="example:\n  reachmap-agent reclaim tcp/8000",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    reclaim.add_argument("port", metavar="[TRANSPORT/]PORT")
    manage = commands.add_parser(
        "service",
        help="run the agent as a service of Windows",
        description="Install the agent as a service of Windows, remove it, start or stop it, say "
        "how it fares (exit code 1 unless it runs), or print the firewall rules that this host's "
        "plan needs, as PowerShell. The service reads %ProgramData%\\reachmap\\agent.toml. "
        "On other systems it says what to use instead, with exit code 2.",
        epilog="example:\n  reachmap-agent service firewall > firewall.ps1\n"
        "  powershell -ExecutionPolicy Bypass -File firewall.ps1 -WhatIf",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    manage.add_argument("action", choices=_SERVICE_ACTIONS)
    other = manage.add_argument_group("for firewall, where its plan is not the service's")
    other.add_argument("--config", type=Path, metavar="FILE", help="settings, as TOML")
    other.add_argument("--id", metavar="NAME", help="this host's name in the topology")
    other.add_argument("--state", metavar="DIR", help="where the agent keeps its plan")
    manage.add_argument("--verbose", action="store_true", help="log more")
    return parser

"""As much of Windows as the service sees of it: pywin32's modules, on a manager that is none.

Run as a program, it takes from this process what Windows has not, hosts the service as pywin32's
PythonService.exe does (SvcDoRun in a thread of its own, SvcStop in another when standard input
says so), and writes what the manager and the event log were told.
"""

import json
import logging.handlers
import os
import select
import signal
import socket
import subprocess
import sys
import threading
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

CONSTANTS = {
    "win32service": (
        *("SERVICE_AUTO_START", "SERVICE_ALL_ACCESS", "SC_MANAGER_CONNECT", "SC_ACTION_RESTART"),
        *("SERVICE_STOPPED", "SERVICE_START_PENDING", "SERVICE_STOP_PENDING", "SERVICE_RUNNING"),
        *("SERVICE_CONFIG_FAILURE_ACTIONS", "SERVICE_CONFIG_FAILURE_ACTIONS_FLAG"),
        *("SERVICE_CONFIG_SERVICE_SID_INFO", "SERVICE_CONFIG_REQUIRED_PRIVILEGES_INFO"),
        "SERVICE_SID_TYPE_UNRESTRICTED",
    ),
    "servicemanager": ("PYS_SERVICE_STARTED", "PYS_SERVICE_STOPPED", "EVENTLOG_INFORMATION_TYPE"),
}
"""By their names: nothing rests on their numbers."""

ACCESS_DENIED, NOT_THERE, RUNS_ALREADY, THERE, MARKED = 5, 1060, 1056, 1073, 1072


class WinError(Exception):
    """pywintypes.error."""

    def __init__(self, winerror: int, function: str, strerror: str) -> None:
        super().__init__(winerror, function, strerror)
        self.winerror, self.funcname, self.strerror = winerror, function, strerror


@dataclass
class Installed:
    """A service that the manager knows."""

    options: dict[str, Any]
    config: dict[str, Any] = field(default_factory=dict)
    state: str = "SERVICE_STOPPED"


@dataclass
class Manager:
    """What was done to the service control manager."""

    services: dict[str, Installed] = field(default_factory=dict)
    events: list[str] = field(default_factory=list)
    sources: dict[str, str] = field(default_factory=dict)
    open_handles: int = 0
    denied: bool = False
    broken: str = ""
    """A level of ChangeServiceConfig2 that fails."""
    no_host: bool = False

    def get(self, name: str) -> Installed:
        """Raise as Windows does where it is not there."""
        if self.denied:
            raise WinError(ACCESS_DENIED, "OpenSCManager", "Access is denied.")
        if name not in self.services:
            raise WinError(NOT_THERE, "OpenService", "The service does not exist.")
        return self.services[name]

    def modules(self) -> dict[str, ModuleType]:
        """pywin32's, by their names."""
        made = {
            name: ModuleType(name)
            for name in (
                *("pywintypes", "servicemanager", "win32evtlogutil", "win32service"),
                *("win32serviceutil", "winerror"),
            )
        }
        for name, constants in CONSTANTS.items():
            for constant in constants:
                setattr(made[name], constant, constant)
        for name, number in (
            ("ERROR_ACCESS_DENIED", ACCESS_DENIED),
            ("ERROR_SERVICE_EXISTS", THERE),
            ("ERROR_SERVICE_DOES_NOT_EXIST", NOT_THERE),
            ("ERROR_SERVICE_MARKED_FOR_DELETE", MARKED),
        ):
            setattr(made["winerror"], name, number)
        made["pywintypes"].__dict__["error"] = WinError
        made["servicemanager"].__file__ = r"C:\Python\servicemanager.pyd"
        vars(made["servicemanager"]).update(
            {
                "LogMsg": lambda kind, event, inserts: self.events.append(f"{event} {inserts[0]}"),
                "LogErrorMsg": lambda text: self.events.append(f"ERROR {text}"),
            }
        )
        made["win32evtlogutil"].__dict__["AddSourceToRegistry"] = self.sources.__setitem__
        vars(made["win32service"]).update(
            {
                "OpenSCManager": self._open,
                "OpenService": lambda _manager, name, _access: self._opened(name),
                "CloseServiceHandle": self._close,
                "ChangeServiceConfig2": self._change,
            }
        )
        vars(made["win32serviceutil"]).update(
            {
                "error": RuntimeError,
                "InstallService": self._install,
                "RemoveService": self._remove,
                "StartService": self._start,
                "StopServiceWithDeps": self._stop,
                "QueryServiceStatus": lambda name: (0x10, self.get(name).state, 0, 0, 0, 0, 0),
                "ServiceFramework": framework(self),
            }
        )
        return made

    def _open(self, _machine: None, _database: None, _access: str) -> str:
        if self.denied:
            raise WinError(ACCESS_DENIED, "OpenSCManager", "Access is denied.")
        self.open_handles += 1
        return "manager"

    def _opened(self, name: str) -> Installed:
        found = self.get(name)
        self.open_handles += 1
        return found

    def _close(self, _handle: Any) -> None:
        self.open_handles -= 1

    def _change(self, handle: Installed, level: str, info: Any) -> None:
        if level == self.broken:
            raise WinError(87, "ChangeServiceConfig2", "The parameter is incorrect.")
        handle.config[level] = info

    def _install(self, class_: str, name: str, display: str, **options: Any) -> None:
        if self.denied:
            raise WinError(ACCESS_DENIED, "OpenSCManager", "Access is denied.")
        if self.no_host:
            raise RuntimeError("Can't find 'pythonservice.exe'")
        if name in self.services:
            raise WinError(THERE, "CreateService", "The service exists already.")
        self.services[name] = Installed({"class": class_, "display": display, **options})

    def _remove(self, name: str) -> None:
        self.get(name)
        del self.services[name]

    def _start(self, name: str) -> None:
        found = self.get(name)
        if found.state == "SERVICE_RUNNING":
            raise WinError(RUNS_ALREADY, "StartService", "It is running already.")
        found.state = "SERVICE_RUNNING"

    def _stop(self, name: str, waitSecs: int = 30) -> None:  # noqa: N803  pywin32's name
        assert waitSecs > 5
        self.get(name).state = "SERVICE_STOPPED"


def framework(manager: Manager) -> type:
    """win32serviceutil.ServiceFramework, as far as it is used."""

    class ServiceFramework:
        def __init__(self, args: Any) -> None:
            assert args[0] == "reachmap-agent"

        def ReportServiceStatus(  # noqa: N802  pywin32's name
            self,
            status: str,
            waitHint: int = 5000,  # noqa: N803  likewise
        ) -> None:
            manager.events.append(f"{status} {waitHint}")

    return ServiceFramework


WINDOWS_HAS_NOT = {
    os: ("uname", "geteuid", "getegid", "getuid", "chown"),
    select: ("epoll", "poll"),
    signal: ("SIGHUP", "SIGKILL"),
    socket: (
        # AF_UNIX stays: Python's own pairs of sockets are made of it here.
        *("AF_PACKET", "AF_NETLINK", "SO_REUSEPORT", "SOCK_NONBLOCK", "SOCK_CLOEXEC"),
        "TCP_USER_TIMEOUT",
    ),
}
NOR_THESE = ("fcntl", "termios", "resource", "pwd", "grp")


def be_windows() -> None:
    """Take away what Windows has not; asyncio and the libraries are in already, as Linux's."""
    import asyncio

    import msgpack  # noqa: F401  they look at the system as they are loaded, as do the next
    import nats.js
    import nats.micro  # noqa: F401
    import psutil  # noqa: F401

    assert asyncio and subprocess and logging.handlers
    for module, names in WINDOWS_HAS_NOT.items():
        for name in names:
            if hasattr(module, name):
                delattr(module, name)
    for name in NOR_THESE:
        sys.modules[name] = None  # type: ignore[assignment]  # Python's own way to say so
    sys.platform = "win32"


def import_all() -> None:
    """Every module of the agent's."""
    import importlib
    import pkgutil

    import reachmap_agent
    import reachmap_shared

    for package in (reachmap_agent, reachmap_shared):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if not module.name.endswith("__main__"):
                importlib.import_module(module.name)


def main() -> None:
    manager = Manager()
    be_windows()
    sys.modules.update(manager.modules())
    import_all()
    from reachmap_agent.scm.host import AgentService

    service: Any = AgentService(["reachmap-agent"])

    def stop_when_told() -> None:
        sys.stdin.readline()
        service.SvcStop()

    threading.Thread(target=stop_when_told, daemon=True).start()
    failure = ""

    def run() -> None:
        nonlocal failure
        try:
            service.SvcDoRun()
        except BaseException as error:  # noqa: BLE001  as the host does
            failure = repr(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    sys.stdout.write(json.dumps({"events": manager.events, "failure": failure}) + "\n")


if __name__ == "__main__":
    main()

"""Installs the service and removes it, starts and stops it, and says how it fares."""

import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

import pywintypes
import servicemanager
import win32evtlogutil
import win32service
import win32serviceutil
import winerror

from reachmap_agent import paths
from reachmap_agent.scm import ACCOUNT, DESCRIPTION, DISPLAY, NAME, files

_CLASS: Final = "reachmap_agent.scm.host.AgentService"
"""By its name, since to import it needs a service's host."""

_AGAIN_MS: Final = (5_000, 30_000, 60_000)
"""Until it is started again after a failure: the first, the second, and all later ones."""

_RESET_S: Final = 86_400
"""Without a failure for so long, the next is the first."""

_RIGHTS: Final = ("SeChangeNotifyPrivilege",)
"""What is left of an account's privileges: to walk through folders."""

_STOP_S: Final = 15

RUNNING: Final = "running"

_STATES: Final = {
    win32service.SERVICE_STOPPED: "stopped",
    win32service.SERVICE_START_PENDING: "starting",
    win32service.SERVICE_STOP_PENDING: "stopping",
    win32service.SERVICE_RUNNING: RUNNING,
}

_MEANINGS: Final = {
    winerror.ERROR_ACCESS_DENIED: "run it as an administrator",
    winerror.ERROR_SERVICE_EXISTS: "it is installed already; remove it first",
    winerror.ERROR_SERVICE_DOES_NOT_EXIST: "install it first: reachmap-agent service install",
    winerror.ERROR_SERVICE_MARKED_FOR_DELETE: "close what shows services, or restart the system",
}


class ControlFailed(Exception):
    """Windows did not do it; says why, and what to do."""


def install() -> str:
    """Have Windows start the agent with itself, a while after what matters more."""
    with _told():
        win32serviceutil.InstallService(
            _CLASS,
            NAME,
            DISPLAY,
            startType=win32service.SERVICE_AUTO_START,
            userName=ACCOUNT,
            description=DESCRIPTION,
            delayedstart=True,
        )
        try:
            with _service() as handle:
                _configure(handle)
            folder = paths.program_data(os.environ)
            files.make(folder)  # the account is there from now on
            win32evtlogutil.AddSourceToRegistry(NAME, servicemanager.__file__)
        except BaseException:
            win32serviceutil.RemoveService(NAME)
            raise
    return f"installed, as {ACCOUNT}; settings, state and log are in {folder}"


def remove() -> str:
    """Stop it and take it out; settings and state stay."""
    with _told():
        _stop()
        win32serviceutil.RemoveService(NAME)
    return f"removed; what is in {paths.program_data(os.environ)} stays"


def start() -> str:
    """Start it now."""
    with _told():
        win32serviceutil.StartService(NAME)
    return "started"


def stop() -> str:
    """Stop it now, and wait for its end."""
    with _told():
        _stop()
    return "stopped"


def status() -> str:
    """How it fares: `running`, or another word."""
    with _told():
        state = win32serviceutil.QueryServiceStatus(NAME)[1]
    return _STATES.get(state, f"in state {state}")


ACTIONS: Final[dict[str, Callable[[], str]]] = {
    "install": install,
    "remove": remove,
    "start": start,
    "stop": stop,
    "status": status,
}


def _stop() -> None:
    """Also where it is stopped already."""
    win32serviceutil.StopServiceWithDeps(NAME, waitSecs=_STOP_S)


def _configure(handle: Any) -> None:
    """Again after failures, and with no more rights than it needs."""
    for level, info in (
        (
            win32service.SERVICE_CONFIG_FAILURE_ACTIONS,
            {
                "ResetPeriod": _RESET_S,
                "RebootMsg": "",
                "Command": "",
                "Actions": [(win32service.SC_ACTION_RESTART, after) for after in _AGAIN_MS],
            },
        ),
        # Also when it says itself that it failed, and not only when it dies.
        (win32service.SERVICE_CONFIG_FAILURE_ACTIONS_FLAG, True),
        # Firewall rules can name it then.
        (
            win32service.SERVICE_CONFIG_SERVICE_SID_INFO,
            win32service.SERVICE_SID_TYPE_UNRESTRICTED,
        ),
        (win32service.SERVICE_CONFIG_REQUIRED_PRIVILEGES_INFO, _RIGHTS),
    ):
        win32service.ChangeServiceConfig2(handle, level, info)


@contextmanager
def _service() -> Iterator[Any]:
    manager = win32service.OpenSCManager(None, None, win32service.SC_MANAGER_CONNECT)
    try:
        handle = win32service.OpenService(manager, NAME, win32service.SERVICE_ALL_ACCESS)
        try:
            yield handle
        finally:
            win32service.CloseServiceHandle(handle)
    finally:
        win32service.CloseServiceHandle(manager)


@contextmanager
def _told() -> Iterator[None]:
    """What Windows says, for people."""
    try:
        yield
    except pywintypes.error as error:
        to_do = _MEANINGS.get(error.winerror)
        raise ControlFailed(f"{error.strerror}{f': {to_do}' if to_do else ''}") from error
    except subprocess.CalledProcessError as error:
        said = (error.stderr or error.stdout or b"").decode(errors="replace").strip()
        raise ControlFailed(f"{error.cmd[0]}: {said or error.returncode}") from error
    except win32serviceutil.error as error:  # what hosts services is not where it should be
        raise ControlFailed(str(error)) from error
    except OSError as error:
        raise ControlFailed(f"{error.filename}: {error.strerror}") from error

"""What Windows's service control manager runs: the agent, as `reachmap-agent run` has it.

pywin32's PythonService.exe finds the class by its name, calls `SvcDoRun` in a thread of the
service's own, and `SvcStop` in another.
"""

import os
from typing import Any, Final

import servicemanager
import win32service
import win32serviceutil

from reachmap_agent import paths, settings
from reachmap_agent.scm import DESCRIPTION, DISPLAY, NAME, files
from reachmap_agent.scm.logfile import LogFile
from reachmap_agent.service import Service
from reachmap_shared import log
from reachmap_shared.errors import InvalidSettings
from reachmap_shared.lifecycle import Stopper, run_until_stopped
from reachmap_shared.notify import Notifier

_STOP_MS: Final = 10_000
"""How long the SCM should wait for our end; it comes in half of that, also without a bus."""


class AgentService(win32serviceutil.ServiceFramework):
    """One start of the service."""

    _svc_name_ = NAME
    _svc_display_name_ = DISPLAY
    _svc_description_ = DESCRIPTION

    def __init__(self, args: Any) -> None:
        super().__init__(args)
        self._stopper = Stopper()

    def SvcStop(self) -> None:  # noqa: N802  the framework's name
        """Begin to end, and say so; the SCM hears that it is over when SvcDoRun has returned."""
        self.ReportServiceStatus(win32service.SERVICE_STOP_PENDING, waitHint=_STOP_MS)
        self._stopper.stop()

    def SvcShutdown(self) -> None:  # noqa: N802  likewise
        """The system goes down."""
        self.SvcStop()

    def SvcDoRun(self) -> None:  # noqa: N802  likewise
        """Run until stopped.

        Settings that cannot be used end it as if it had been stopped: to begin again would not
        help. Any other failure is raised, which the SCM hears as one, and starts it again.
        """
        file = LogFile(paths.program_data(os.environ) / files.LOG / "agent.log")
        log.configure(stream=file)  # type: ignore[arg-type]  # it has all that is used of a file
        started, stopped = servicemanager.PYS_SERVICE_STARTED, servicemanager.PYS_SERVICE_STOPPED
        try:
            _tell(started)
            run_until_stopped(lambda: Service(_load, Notifier()).run(), self._stopper)
            _tell(stopped)
        except InvalidSettings as error:
            servicemanager.LogErrorMsg(f"{NAME}: {error}")
        finally:
            file.close()


def _tell(event: int) -> None:
    servicemanager.LogMsg(servicemanager.EVENTLOG_INFORMATION_TYPE, event, (NAME, ""))


def _load() -> settings.Settings:
    return settings.load(None, os.environ, {})

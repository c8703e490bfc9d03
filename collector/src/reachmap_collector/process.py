"""Programs that we start ourselves, and that must not outlive us."""

import asyncio
import ctypes
import importlib.util
import shutil
import signal
import sys
from asyncio.subprocess import Process
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Final

from reachmap_shared import log
from reachmap_shared.waits import within

_PR_SET_PDEATHSIG: Final = 1  # linux/prctl.h

_log = log.get("process")

_STOP_S: Final = 5.0
"""For a program to end by itself once it was told to."""


def own_program(module: str, command: str) -> tuple[str, ...] | None:
    """How to start one of reachmap's own programs; None where it is not installed."""
    if getattr(sys, "frozen", False):  # from a package: there are commands, and no modules to run
        own = sys.executable if Path(sys.executable).name == command else shutil.which(command)
        return (own,) if own else None
    return (sys.executable, "-m", module) if importlib.util.find_spec(module) else None


async def start(*command: str, output: IO[bytes]) -> Process:
    """Start a program in a session of its own: Ctrl-C is for us, who stop it in good order."""
    return await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        start_new_session=True,
        preexec_fn=_end_with_parent if sys.platform == "linux" else None,
    )


async def stop(*processes: Process) -> None:
    """End programs: ask all of them first, and kill those that do not listen."""
    running = [process for process in processes if process.returncode is None]
    for process in running:
        process.terminate()
    try:
        if not await within(_STOP_S, _ended(running)):
            _log.warning("killing what did not stop", pids=[process.pid for process in running])
    finally:
        for process in running:
            if process.returncode is None:
                process.kill()
                await process.wait()


async def _ended(processes: Sequence[Process]) -> None:
    for process in processes:
        await process.wait()


def _end_with_parent() -> None:
    """Run in the child before exec: the kernel ends it should we be killed outright."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)

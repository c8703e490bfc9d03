"""What a whole agent takes of a core, against prometheus-blackbox-exporter at the same rate.

A real agent checks one accept loop at many addresses of loopback once a second, and its reports are
acknowledged by a real stream; the exporter is asked for as many TCP probes a second over kept-alive
HTTP connections, as Prometheus asks it. Both have the same core, one after the other; the CPU of
either process alone is counted, from what the kernel says.
"""

import asyncio
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from common import ADDRESS, accepting, figure, free_port, left_out, on_core
from deployment import Deployment, cpu_s, deployed, plan, rss_kib, until

EXPORTER = "prometheus-blackbox-exporter"
GOALS = {200: 0.35, 2_000: 0.25}
"""The agent's share of what the exporter takes for a check, by checks a second."""

WARM_S = 6.0
MEASURED_S = 15.0
CONNECTIONS = 24


def main() -> None:
    """At either rate."""
    for rate, goal in GOALS.items():
        print(f"\na whole agent at {rate:,} checks a second")
        asyncio.run(_compare(rate, goal))


async def _compare(rate: int, goal: float) -> None:
    with accepting() as port:
        ours, rate_of_ours, rss = await _agent(rate, port)
        figure("checks a second", f"{rate_of_ours:,.0f}", f"{0.98 * rate:,.0f} or more",
               rate_of_ours >= 0.98 * rate)  # fmt: skip
        figure("the agent, for each check", f"{ours * 1e6:.0f} us")
        figure("its memory (RSS)", f"{rss / 1024:.1f} MiB")
        if shutil.which(EXPORTER) is None:
            left_out(f"{EXPORTER} is not installed")
            return
        theirs, rate_of_theirs = await _exporter(rate, port)
    figure("the exporter's probes a second", f"{rate_of_theirs:,.0f}")
    figure("the exporter, for each probe", f"{theirs * 1e6:.0f} us")
    ratio = ours / theirs
    figure("ours as a part of theirs", f"{ratio:.3f}", f"{goal:g} or less", ratio <= goal)


async def _agent(rate: int, port: int) -> tuple[float, float, int]:
    """CPU for each check, checks a second, and memory in KiB."""
    async with deployed() as there:
        with there.agent("pc-17", core=0) as process:
            await asyncio.sleep(1)
            await there.put_plan(plan("pc-17", rate, port, 1.0))
            await until(lambda: there.pulse.plan)
            await asyncio.sleep(WARM_S)
            made, at_ms = await _pulse(there)
            began = cpu_s(process)
            await asyncio.sleep(MEASURED_S - 6)
            made_then, at_ms_then = await _pulse(there)
            spent = cpu_s(process) - began
            count = made_then - made
            return spent / count, count / ((at_ms_then - at_ms) / 1000), rss_kib(process)


async def _pulse(there: Deployment) -> tuple[int, int]:
    """Observations made by the next pulse, and its time: just when it comes."""
    there.pulsed.clear()
    await there.pulsed.wait()
    return there.pulse.made, there.pulse.sent_ms


async def _exporter(rate: int, port: int) -> tuple[float, float]:
    """CPU for each probe, and probes a second."""
    with _exporting() as (process, own):
        await asyncio.sleep(1)
        probes = 0

        async def ask(number: int) -> None:
            nonlocal probes
            reader, writer = await asyncio.open_connection(ADDRESS, own)
            loop = asyncio.get_running_loop()
            due = loop.time() + number / rate
            request = (
                f"GET /probe?module=tcp_connect&target={ADDRESS}:{port} HTTP/1.1\r\n"
                f"Host: {ADDRESS}\r\n\r\n"
            ).encode()
            while True:
                await asyncio.sleep(due - loop.time())
                due += CONNECTIONS / rate
                writer.write(request)
                head = await reader.readuntil(b"\r\n\r\n")
                length = head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]
                body = await reader.readexactly(int(length))
                assert b"probe_success 1" in body, body
                probes += 1

        async with asyncio.TaskGroup() as tasks:
            asking = [tasks.create_task(ask(number)) for number in range(CONNECTIONS)]
            await asyncio.sleep(2)
            before, began, started = probes, cpu_s(process), time.monotonic()
            await asyncio.sleep(MEASURED_S - 5)
            count, spent, took = probes - before, cpu_s(process) - began, time.monotonic() - started
            for one in asking:
                one.cancel()
        return spent / count, count / took


@contextmanager
def _exporting() -> Iterator[tuple[int, int]]:
    """The exporter at work; its process's number and its port."""
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        configuration = Path(folder) / "blackbox.yml"
        configuration.write_text("modules:\n  tcp_connect:\n    prober: tcp\n    timeout: 3s\n")
        command = [EXPORTER, f"--config.file={configuration}"]
        command += [f"--web.listen-address={ADDRESS}:{port}", "--log.level=error"]
        with subprocess.Popen(on_core(0, command), stderr=subprocess.DEVNULL) as process:
            try:
                yield process.pid, port
            finally:
                process.kill()

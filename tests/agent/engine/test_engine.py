"""The engine on real sockets: what is this host's own doing, what is left behind, many at once."""

import asyncio
import contextlib
import errno
import os
import resource
import socket
import struct
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from examples import examples
from hypothesis import given
from hypothesis import strategies as st
from talk import NOWHERE, PATIENCE_S, ask, echo, hear, linux, raises, seen, silence
from visitors import TIME_WAIT

from reachmap_agent.engine.attempt import Attempt
from reachmap_agent.engine.deadlines import TICK_S
from reachmap_agent.engine.engine import Engine
from reachmap_agent.engine.poller import LoopPoller, best_poller
from reachmap_agent.wire.exchange import Exchange, Verdict
from reachmap_shared.vocabulary import Outcome, Transport

# What is this host's own doing.


async def test_no_descriptor_left(bench, neighbours, few_descriptors) -> None:
    """Out of descriptors is a local error, and when there are some again, all is well."""
    where = neighbours.address(neighbours.listening())
    give_back = few_descriptors()
    ended = bench.start(where)
    give_back()
    outcome, why = seen(await ended)
    assert outcome is Outcome.LOCAL_ERROR
    assert why == "EMFILE: Too many open files"
    assert seen(await bench.check(where))[0] is Outcome.OPEN


@pytest.mark.parametrize(
    "address",
    [("nonsense:", 1), ("127.0.0.1", 70_000), ("127.0.0.1", -1), ("127.0.0.1",), (":", 1)],
)
async def test_an_address_that_is_none(bench, address: Any) -> None:
    """It is told like any other end, and does not raise at whoever starts the check."""
    assert seen(await bench.check(address, ask()))[0] is Outcome.LOCAL_ERROR


async def test_thousands_fail_at_once(bench) -> None:
    """A check that fails as it starts is told later, so that one may start another, for ever."""
    left = 5_000
    loop = asyncio.get_running_loop()
    over = loop.create_future()

    def again(attempt: Attempt) -> None:
        nonlocal left
        assert seen(attempt)[0] is not Outcome.OPEN
        left -= 1
        if left:
            bench.start(NOWHERE, also=again)
        else:
            over.set_result(None)

    bench.start(NOWHERE, also=again)
    assert left == 5_000, "told from within start"
    async with asyncio.timeout(20):
        await over
    assert len(bench.engine) == 0


async def test_thousands_fail_side_by_side(bench) -> None:
    """Each is told, once."""
    async with asyncio.timeout(20):
        attempts = await asyncio.gather(*(bench.start(NOWHERE) for _ in range(5_000)))
    assert {seen(attempt)[0] for attempt in attempts} <= {Outcome.UNREACHABLE, Outcome.REJECTED}
    assert len(bench.told) == 5_000


async def test_a_stalled_loop_is_nobodys_timeout(bench, neighbours) -> None:
    """When this process itself was held up, the time does not count against the other side."""
    server = neighbours.listening()
    server.setblocking(True)

    def slow_but_there() -> None:
        accepted, _ = server.accept()
        with accepted:
            for _ in range(3):
                accepted.sendall(accepted.recv(10))

    def three_turns() -> Exchange:
        for _ in range(3):
            yield b"?"
        return Verdict(Outcome.OPEN)

    thread = threading.Thread(target=slow_but_there)
    thread.start()
    ended = bench.start(neighbours.address(server), three_turns(), timeout_s=0.4)
    time.sleep(0.8)  # noqa: ASYNC251  the stall itself
    assert seen(await ended)[0] is Outcome.OPEN
    thread.join()


async def test_one_who_cannot_be_told_stops_nobody(bench, neighbours) -> None:
    """A `done` that raises is complained of; all the others that ended with it are told still."""
    complaints: list[dict[str, Any]] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: complaints.append(context))

    def fail(_: Attempt) -> None:
        raise OSError(errno.ECONNRESET, "cannot")

    where = neighbours.address(neighbours.listening())
    crowd = neighbours.crowd()
    deaf = [
        *(bench.start(where, also=fail) for _ in range(20)),
        *(bench.start(crowd, timeout_s=0.2, also=fail) for _ in range(20)),
        *(bench.start(NOWHERE, also=fail) for _ in range(20)),
    ]
    others = [bench.start(where), bench.start(crowd, timeout_s=0.3), bench.start(NOWHERE)]
    async with asyncio.timeout(PATIENCE_S):
        await asyncio.gather(*deaf, *others)
    assert len(complaints) == 60


# What is left behind.


def kernel_states(attempt: Attempt) -> set[str]:
    """Of both ends of an attempt's connection, as far as the kernel still remembers them."""
    ports = [int(attempt.local.rpartition(":")[2]), attempt.address[1]]
    rows = [
        line.split()
        for line in Path("/proc/self/net", "tcp6" if ":" in attempt.address[0] else "tcp")
        .read_text()
        .splitlines()[1:]
    ]
    return {
        state
        for _, *ends, state in (row[:4] for row in rows)
        if sorted(int(end.rpartition(":")[2], 16) for end in ends) == sorted(ports)
    }


@linux
async def test_no_time_wait_is_left(bench, neighbours, eventually: Any) -> None:
    """A check that may end with RST leaves nothing in the kernel; one that may not does."""
    where = neighbours.serving(echo)
    politely = await bench.check(where, ask(), reset=False)
    at_once = await bench.check(where, ask())
    await eventually(lambda: kernel_states(politely) == {TIME_WAIT})
    await eventually(lambda: kernel_states(at_once) <= {TIME_WAIT})
    assert not kernel_states(at_once)


@linux
async def test_close_drops_what_is_under_way(bench, neighbours, eventually: Any) -> None:
    """No descriptor, no TIME_WAIT, no word to anyone, nor of what comes too late."""
    where = neighbours.serving(silence)
    mute = neighbours.address(neighbours.bound(socket.SOCK_DGRAM))
    going = [
        bench.start(where, ask()),
        bench.start(neighbours.crowd(), ask()),
        bench.start(mute, ask(), transport=Transport.UDP),
        bench.start(NOWHERE),
    ]
    first = next(iter(bench.engine._attempts.values()))
    await eventually(lambda: first.connected_ns and going[-1].done())
    going += [bench.start(NOWHERE), bench.start(where, ask())]
    bench.engine.close()
    bench.engine.close()
    going.append(bench.start(where, ask()))
    assert len(bench.engine) == 0
    await asyncio.sleep(4 * TICK_S)  # nobody is told of anything in them
    assert [ended.done() for ended in going] == [False, False, False, True, False, False, False]
    assert TIME_WAIT not in kernel_states(first)


@linux
async def test_a_number_that_was_anothers_before(bench, neighbours) -> None:
    """News of a closed socket that a forked process still holds is not taken for the next one's.

    The copy keeps the old registration alive, under a number that the next check has got since.
    """
    server = neighbours.listening()
    server.setblocking(True)
    crowd = neighbours.crowd()
    numbers: list[int] = []
    copies: list[int] = []

    def keep_a_copy() -> Exchange:
        numbers.extend(bench.engine._attempts)
        copies.append(os.dup(numbers[0]))
        return Verdict(Outcome.OPEN)
        yield b""

    await bench.check(neighbours.address(server), keep_a_copy(), reset=False)
    ended = bench.start(crowd, timeout_s=0.3)
    assert list(bench.engine._attempts) == numbers
    accepted, _ = server.accept()
    accepted.sendall(b"news of the one before")
    assert seen(await ended)[0] is Outcome.TIMEOUT
    accepted.close()
    os.close(copies[0])


# Many at once.


@pytest.mark.timeout(60)
async def test_five_thousand_at_once(bench, neighbours) -> None:
    """All are under way together, and all are told."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    try:
        count = min(5_000, hard - 200)
        servers = [neighbours.address(neighbours.listening(1024)) for _ in range(10)]
        nobody = neighbours.nobody()
        async with asyncio.timeout(30):
            where = [servers[place % 10] if place % 2 else nobody for place in range(count)]
            ended = [bench.start(address, timeout_s=20) for address in where]
            assert len(bench.engine) == count
            outcomes = [seen(attempt)[0] for attempt in await asyncio.gather(*ended)]
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert outcomes.count(Outcome.OPEN) == outcomes.count(Outcome.REFUSED) == count / 2
    assert len(bench.told) == count
    assert len(bench.engine._deadlines) <= count


async def test_ended_attempts_are_forgotten(bench, neighbours, eventually: Any) -> None:
    """What has ended takes no room for longer than its time."""
    where = neighbours.address(neighbours.listening(1024))
    for _ in range(10):
        await asyncio.gather(*(bench.start(where, timeout_s=0.1) for _ in range(50)))
    await eventually(lambda: bench.engine._deadlines._tick is None)
    assert len(bench.engine._deadlines) == 0


# Whatever the other side does.

ACTIONS = st.sampled_from(["say", "shout", "wait", "hear", "end", "reset", "shut"])
EXCHANGES = st.sampled_from(["ask", "hear", "much", "fail", "none"])


def exchange_of(kind: str) -> Exchange | None:
    """One of several tempers."""
    match kind:
        case "ask":
            return ask()
        case "hear":
            return hear(3)
        case "much":
            return ask(bytes(300_000), 100_000)
        case "fail":
            return raises(ValueError("oops"), 2)
        case _:
            return None


async def behave(connection: socket.socket, script: list[str]) -> None:
    """Do as the script says, then end."""
    loop = asyncio.get_running_loop()
    for action in script:
        match action:
            case "say":
                await loop.sock_sendall(connection, b"!")
            case "shout":
                await loop.sock_sendall(connection, bytes(100_000))
            case "wait":
                await asyncio.sleep(0.005)  # its temper
            case "hear":
                await asyncio.wait_for(loop.sock_recv(connection, 100_000), 0.01)
            case "shut":
                connection.shutdown(socket.SHUT_WR)
            case "reset":
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                return
            case "end":
                return


@pytest.mark.parametrize("make_poller", [best_poller, LoopPoller])
@examples(60)
@given(
    st.lists(
        st.tuples(
            EXCHANGES, st.lists(ACTIONS, max_size=5), st.booleans(), st.sampled_from([None, 0.01])
        ),
        min_size=1,
        max_size=8,
    )
)
def test_whatever_happens_each_is_told_once(make_poller: Any, plays: list[Any]) -> None:
    """Checks side by side against servers of any behaviour: one end each, and an honest one."""
    told: list[Attempt] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        its = Engine(loop, make_poller)
        over = asyncio.Event()

        def done(attempt: Attempt) -> None:
            told.append(attempt)
            if len(told) == len(plays):
                over.set()

        with contextlib.ExitStack() as stack:
            async with asyncio.TaskGroup() as tasks:
                for kind, script, reset, patience_s in plays:
                    server = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
                    server.setblocking(False)
                    tasks.create_task(serve(server, script))
                    attempt = Attempt(
                        Transport.TCP,
                        server.getsockname(),
                        exchange_of(kind),
                        patience_s,
                        reset=reset,
                        done=done,
                    )
                    its.start(attempt, 0.1)
                async with asyncio.timeout(PATIENCE_S):
                    await over.wait()
            await asyncio.sleep(0)
            assert len(its) == 0
            its.close()

    async def serve(server: socket.socket, script: list[str]) -> None:
        connection, _ = await asyncio.get_running_loop().sock_accept(server)
        with connection, contextlib.suppress(OSError, TimeoutError):
            await asyncio.wait_for(behave(connection, script), 0.2)

    asyncio.run(main())
    assert len({id(attempt) for attempt in told}) == len(told) == len(plays)
    for attempt, (kind, _, _, _) in zip(
        sorted(told, key=lambda attempt: attempt.started_ns), plays, strict=True
    ):
        outcome, _ = seen(attempt)
        assert outcome in {Outcome.OPEN, Outcome.RESET, Outcome.STALLED, Outcome.LOCAL_ERROR}
        assert attempt.connection is None
        if kind != "fail":
            assert outcome is not Outcome.LOCAL_ERROR

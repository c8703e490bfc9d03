"""Plans on their way in: from the bus's key-value bucket, or from the disk where there is no bus.

A plan is taken up whole or refused whole; a refused one leaves the one before at work.
"""

import ssl
from collections.abc import Callable
from typing import Final

from reachmap_agent.credentials import Contexts
from reachmap_agent.memory import load_plan, save_plan
from reachmap_agent.protocols import REGISTRY
from reachmap_agent.settings import Settings
from reachmap_shared import codec, keys, log, subjects
from reachmap_shared.bus import Bus, Delivery
from reachmap_shared.errors import InvalidSettings, MalformedMessage
from reachmap_shared.messages import CheckSpec, ListenerSpec, Plan

TakeUp = Callable[[Plan, Contexts], None]
"""Is given a plan that is good, and what its checks and listeners need for TLS."""

_ANSWER_S: Final = 2.0
"""For the bucket's answer: the server has it at hand."""

_OPERATION: Final = "KV-Operation"
"""The header of what takes a key's value away (NATS architecture record 8)."""

_log = log.get("plans")


class Plans:
    """The plan at work, and what became of the one that came last.

    Args:
        settings: Whose plans they are, and where the last is kept.
        take_up: Is called with each new one.
        news: Is called when there is something to tell of plans.
    """

    def __init__(self, settings: Settings, take_up: TakeUp, news: Callable[[], None]) -> None:
        self._settings = settings
        self._take_up = take_up
        self._news = news
        self._revision: str | None = None
        self._heard = 0
        self.refused = ""
        """Why the last one was refused; empty when it was not."""

    def take_up_kept(self) -> None:
        """Work by the plan of the last start until the bus has another."""
        try:
            plan = load_plan(self._settings)
            contexts = self._accepted(plan)
        except FileNotFoundError:
            return
        except (MalformedMessage, InvalidSettings, ssl.SSLError, ValueError, OSError) as error:
            _log.warning("plan on disk is of no use", reason=str(error))
            return
        self._use(plan, contexts)

    async def listen(self, connection: Bus) -> None:
        """Hear of each plan that is put. Raises BusUnavailable."""
        await connection.listen(subjects.plan(self._settings.id), self._hear)

    async def fetch(self, connection: Bus) -> None:
        """Get the plan that was put last. Raises BusUnavailable when nobody knows."""
        before = self._heard
        subject = subjects.last_plan(self._settings.id)
        answer = await connection.request(subject, b"", _ANSWER_S)
        if "Status" in answer.headers:  # 404: none was put yet
            return
        if self._heard == before:  # else a newer one came meanwhile
            self._hear(answer)

    def _hear(self, message: Delivery) -> None:
        self._heard += 1
        if _OPERATION in message.headers:
            _log.info("plan taken away, the one at work stays")
            return
        try:
            plan = codec.decode(Plan, message.payload)
            contexts = self._accepted(plan)
        except (MalformedMessage, InvalidSettings, ssl.SSLError, ValueError, OSError) as error:
            self.refused = f"plan refused: {error}"[:300]
            _log.warning("plan refused", reason=str(error))
        else:
            self.refused = ""
            if plan.revision != self._revision:
                self._use(plan, contexts)
                self._keep(plan)
        self._news()

    def _accepted(self, plan: Plan) -> Contexts:
        if plan.agent != self._settings.id:
            raise MalformedMessage(f"it is for {plan.agent!r}")
        specs: list[CheckSpec | ListenerSpec] = [*plan.checks, *plan.listeners]
        for spec in specs:
            if spec.protocol not in REGISTRY:
                raise MalformedMessage(f"this agent does not speak {spec.protocol!r}")
            if not 1 <= spec.port <= 65535:
                raise MalformedMessage(f"{spec.port} is not a port")
        if not (plan.interval_s >= 0.1 and plan.timeout_s > 0):
            raise MalformedMessage("its interval or timeout is too short")
        for key in (plan.deployment_key, plan.host_key, *(check.key for check in plan.checks)):
            keys.from_text(key)  # a ValueError when it is no such thing
        settings = self._settings
        return Contexts.from_pem(plan.certificate, settings.certificate, settings.key)

    def _use(self, plan: Plan, contexts: Contexts) -> None:
        self._revision = plan.revision
        self._take_up(plan, contexts)
        _log.info(
            "plan taken up",
            revision=plan.revision,
            checks=len(plan.checks),
            listeners=len(plan.listeners),
        )

    def _keep(self, plan: Plan) -> None:
        try:
            save_plan(self._settings, plan)
        except OSError as error:
            _log.warning("plan not kept", reason=str(error))

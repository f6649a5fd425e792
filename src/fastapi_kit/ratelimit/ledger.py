"""What the limits of one request have charged, and what its response will say of it."""

import logging
from collections.abc import Awaitable, Collection, Mapping, Sequence
from dataclasses import dataclass

from starlette.types import Scope

from fastapi_kit._layers import on_response
from fastapi_kit.errors import Problem
from fastapi_kit.ratelimit.counters import Counters, Standing, Taken
from fastapi_kit.ratelimit.errors import RateLimitExceededError
from fastapi_kit.ratelimit.fields import Fields

__all__ = ["Charge", "Ledger", "ledger_of"]

_KEY = "fastapi_kit.ratelimit"
_log = logging.getLogger("fastapi_kit.ratelimit")


@dataclass(slots=True, eq=False)
class Charge:
    """What one limit charged; `only`: the statuses for which that stays, None for all."""

    owner: object
    counters: Counters
    taken: Taken | None
    standings: Sequence[Standing] = ()
    fields: Fields | None = None
    only: Collection[int] | None = None
    returned: int = 0

    async def give_back(self) -> None:
        """Give it back; if the storage fails it stays counted, with a warning in the log."""
        if self.taken is None:
            return
        taken, self.taken = self.taken, None
        try:
            await self.counters.give_back(taken)
        except Exception as exc:  # noqa: BLE001 (whatever it is, the request itself was served)
            _log.warning("A request that should not count stays counted: %s", type(exc).__name__)
        else:
            self.returned = taken.cost


class Ledger:
    """The charges of one request, in the order in which its limits were asked."""

    __slots__ = ("_charges", "_judges", "_refusal", "sees_response")

    def __init__(self, scope: Scope) -> None:
        self._charges: list[Charge] = []
        self._judges = False
        self._refusal: Mapping[str, str] = {}
        self.sees_response: bool = on_response(scope, self._begin_response)
        """Whether the response passes here, so that it can be judged by its status and given its fields."""

    def add(self, charge: Charge) -> None:
        """Note what a limit charged."""
        self._charges.append(charge)
        self._judges = self._judges or charge.only is not None

    def has(self, owner: object) -> bool:
        """Return whether this one has charged the request before."""
        return any(charge.owner is owner for charge in self._charges) if self._charges else False

    async def refuse(self, error: Problem) -> None:
        """Give back all charges, since a limit refuses the request; their fields would be wrong."""
        charges, self._charges = self._charges, []
        if isinstance(error, RateLimitExceededError):
            self._refusal = error.headers or {}
        for charge in charges:
            await charge.give_back()

    async def give_back(self, owner: object) -> None:
        """Give back what this one charged."""
        for charge in self._charges:
            if charge.owner is owner:
                await charge.give_back()

    def _begin_response(self, status: int, headers: list[tuple[bytes, bytes]]) -> Awaitable[None] | None:
        if self._judges:
            return self._give_back_and_write(status, headers)
        self._write(status, headers)
        return None

    async def _give_back_and_write(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        for charge in self._charges:
            if charge.only is not None and status not in charge.only:
                await charge.give_back()
        self._write(status, headers)

    def _write(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        for charge in self._charges:
            if charge.fields is not None:
                charge.fields.add_to(headers, charge.standings, charge.returned)
        if self._refusal and status == RateLimitExceededError.status:
            present = {name for name, _ in headers}  # slowapi's own handler for one writes none
            raw = ((name.lower().encode(), value.encode()) for name, value in self._refusal.items())
            headers.extend((name, value) for name, value in raw if name not in present)


def ledger_of(scope: Scope) -> Ledger:
    """Return the ledger of a request or a WebSocket."""
    ledger: Ledger | None = scope.get(_KEY)
    if ledger is None:
        ledger = scope[_KEY] = Ledger(scope)
    return ledger

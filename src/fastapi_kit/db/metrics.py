"""The connections of a database as OpenTelemetry metrics."""

from collections.abc import Iterable
from typing import Protocol

from opentelemetry.metrics import CallbackOptions, Meter, Observation, get_meter

from fastapi_kit.db.engines import PoolState

__all__ = ["HasPools", "observe_pools"]

_POOL_NAME = "db.client.connection.pool.name"
_STATE = "db.client.connection.state"


class HasPools(Protocol):
    """A `Database` or a `SyncDatabase`."""

    def pool_states(self) -> dict[str, PoolState]:
        """Return the state of each pool by its name."""
        ...


def observe_pools(*, meter: Meter | None = None, **databases: HasPools) -> None:
    """Report how many connections each pool has in use, idle and at most, whenever OpenTelemetry collects.

    `db.client.connection.count`, with the state `used` or `idle`, and `db.client.connection.max`, after OpenTelemetry's
    semantic conventions for database clients. A pool is named by its keyword: `observe_pools(shop=db)` reports
    `shop.primary`, and `shop.replicas` if there are any. A pool that does not count its connections is left out.

    Call it once, with all databases: OpenTelemetry ignores a second instrument of the same name. They are observed,
    and so kept, until the process ends. The numbers are of this process; workers differ by what the resource says of
    them (`service.instance.id`). Requests that waited, and those that got no connection, are not counted: the latter
    are the 503s among FastAPI's own metrics.

    - `meter`: whose instruments these are; that of the global meter provider if left out.
    """
    meter = meter or get_meter("fastapi_kit.db")

    def pools() -> Iterable[tuple[str, PoolState]]:
        for name, database in databases.items():
            for pool, state in database.pool_states().items():
                if state.limit:
                    yield f"{name}.{pool}", state

    def count(_: CallbackOptions) -> Iterable[Observation]:
        for name, state in pools():
            yield Observation(state.in_use, {_POOL_NAME: name, _STATE: "used"})
            yield Observation(state.idle, {_POOL_NAME: name, _STATE: "idle"})

    def limit(_: CallbackOptions) -> Iterable[Observation]:
        return [Observation(state.limit, {_POOL_NAME: name}) for name, state in pools()]

    meter.create_observable_up_down_counter(
        "db.client.connection.count",
        [count],
        unit="{connection}",
        description="The number of connections that are currently in state described by the `state` attribute.",
    )
    meter.create_observable_up_down_counter(
        "db.client.connection.max",
        [limit],
        unit="{connection}",
        description="The maximum number of open connections allowed.",
    )

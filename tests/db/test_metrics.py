"""The state of the pools: as metrics, behind the readiness probe, and in the log at start-up."""

import logging
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from sqlalchemy import text

from fastapi_kit import errors
from fastapi_kit.db import Database, PoolState, SyncDatabase
from fastapi_kit.db.engines import Engines
from fastapi_kit.db.metrics import observe_pools
from fastapi_kit.db.options import Settings
from fastapi_kit.health import health_router
from tests.db.support import on_sqlite, served

pytestmark = pytest.mark.anyio


class Collected:
    """What OpenTelemetry collects of the pools."""

    def __init__(self) -> None:
        self._reader = InMemoryMetricReader()
        self.meter = MeterProvider([self._reader], shutdown_on_exit=False).get_meter("test")

    def now(self) -> dict[tuple[object, ...], object]:
        """Return each value by its metric, its pool and its state."""
        data: Any = self._reader.get_metrics_data()
        return {
            (metric.name, *(point.attributes[key] for key in sorted(point.attributes))): point.value
            for metric in data.resource_metrics[0].scope_metrics[0].metrics
            for point in metric.data.data_points
        }


def values(pool: str, *, used: int, idle: int, limit: int) -> dict[tuple[object, ...], object]:
    return {
        ("db.client.connection.count", pool, "used"): used,
        ("db.client.connection.count", pool, "idle"): idle,
        ("db.client.connection.max", pool): limit,
    }


async def test_each_pool_is_reported_under_its_name(tmp_path: Path, postgres_url: str) -> None:
    collected, sync = Collected(), SyncDatabase("sqlite+pysqlite://")
    replicated = Database(postgres_url, replicas=[postgres_url], pool_size=3)
    async with on_sqlite(tmp_path) as database:
        observe_pools(meter=collected.meter, shop=database, audit=sync, stock=replicated)
        async with database.session() as session, replicated.session(read_only=True) as other:
            await session.execute(text("SELECT 1"))
            await other.execute(text("SELECT 1"))
            assert collected.now() == {
                **values("shop.primary", used=1, idle=0, limit=15),
                **values("audit.primary", used=0, idle=0, limit=1),
                **values("stock.primary", used=0, idle=0, limit=13),
                **values("stock.replicas", used=1, idle=0, limit=13),
            }
        assert collected.now().items() >= values("shop.primary", used=0, idle=1, limit=15).items()
        assert collected.now().items() >= values("stock.replicas", used=0, idle=1, limit=13).items()
    await replicated.dispose()


def test_the_metrics_have_the_units_and_kinds_of_the_conventions() -> None:
    reader = InMemoryMetricReader()
    observe_pools(
        meter=MeterProvider([reader], shutdown_on_exit=False).get_meter("test"), db=SyncDatabase("sqlite+pysqlite://")
    )
    data: Any = reader.get_metrics_data()
    metrics = data.resource_metrics[0].scope_metrics[0].metrics
    assert [(metric.unit, metric.data.is_monotonic) for metric in metrics] == [("{connection}", False)] * 2
    assert {key for metric in metrics for point in metric.data.data_points for key in point.attributes} == {
        "db.client.connection.pool.name",
        "db.client.connection.state",
    }


def test_a_pool_that_does_not_count_is_left_out() -> None:
    class Uncounted:
        def pool_states(self) -> dict[str, PoolState]:
            return {"primary": PoolState(0, 0, 0)}

    collected = Collected()
    observe_pools(meter=collected.meter, counted=SyncDatabase("sqlite+pysqlite://"), uncounted=Uncounted())
    assert {pool for _, pool, *_ in collected.now()} == {"counted.primary"}


def test_without_a_meter_the_global_one_is_used() -> None:
    observe_pools(db=SyncDatabase("sqlite+pysqlite://"))  # no SDK is set up in this process: nothing to see


@pytest.mark.parametrize("is_async", [True, False])
async def test_readiness_is_a_503_while_the_pool_is_exhausted(
    is_async: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    options: Any = {"pool_size": 1, "max_overflow": 0, "pool_timeout_seconds": 0.1}
    database = Database(f"sqlite+aiosqlite:///{tmp_path}/app.db", **options)
    sync = SyncDatabase(f"sqlite+pysqlite:///{tmp_path}/sync.db", **options)
    app = FastAPI(lifespan=database.lifespan)
    errors.install(app)

    @app.get("/ping")
    async def ping() -> None:
        await (database if is_async else sync).ping(30)  # the pool gives up sooner

    app.include_router(health_router(timeout_seconds=60, database=ping))

    async with served(app) as client:
        assert (await client.get("/health/ready")).status_code == 200
        async with database.session() as session:
            await session.execute(text("SELECT 1"))
            with sync.session() as other:
                other.execute(text("SELECT 1"))
                refused = await client.get("/health/ready")
                told = await client.get("/ping")
        assert (await client.get("/health/ready")).status_code == 200
    sync.dispose()
    assert (refused.status_code, refused.headers["retry-after"]) == (503, "5")
    assert (told.status_code, told.json()["detail"]) == (503, "The database does not answer.")
    assert "the readiness check 'database' failed" in caplog.text
    assert "primary: 1 of 1 connections in use" in caplog.text


# The log at start-up


def started(caplog: pytest.LogCaptureFixture, server_limit: int | None) -> tuple[int, str]:
    engines = Engines("sqlite+pysqlite:///app.db", (), Settings(), fall_back_to_primary=True, is_async=False)
    with caplog.at_level(logging.INFO, "fastapi_kit.db"):
        engines.log_limits(server_limit)
    [record] = caplog.records
    return record.levelno, record.getMessage()


@pytest.mark.parametrize("workers", [None, "", "auto", "0", "-3", "1"])
def test_one_worker_is_taken_for_granted(
    workers: str | None, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("WEB_CONCURRENCY", raising=False)
    if workers is not None:
        monkeypatch.setenv("WEB_CONCURRENCY", workers)
    assert started(caplog, 97) == (
        logging.INFO,
        "sqlite: 15 connections at most for each worker process, 15 for 1 workers; the server takes 97: 6 workers",
    )


@pytest.mark.parametrize(("workers", "level"), [("6", logging.INFO), ("7", logging.WARNING)])
def test_more_workers_than_the_server_has_connections_for_are_a_warning(
    workers: str, level: int, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WEB_CONCURRENCY", workers)
    assert started(caplog, 97)[0] == level


def test_a_database_without_a_limit_is_told_as_it_is(caplog: pytest.LogCaptureFixture) -> None:
    assert started(caplog, None) == (logging.INFO, "sqlite: 15 connections at most for each worker process")


async def test_the_lifespan_logs_what_the_server_takes(postgres_url: str, caplog: pytest.LogCaptureFixture) -> None:
    database = Database(postgres_url, pool_size=2, max_overflow=1)
    with caplog.at_level(logging.INFO, "fastapi_kit.db"):
        async with database.lifespan(FastAPI()):
            pass
    assert "postgresql: 3 connections at most for each worker process, 3 for 1 workers; the server takes" in caplog.text

"""A database whose server is behind a proxy, under each driver, and what must be true of it after a fault."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from sqlalchemy import make_url, text

from fastapi_kit.db import Database
from tests.db.support import Base
from tests.proxy import Proxy

POSTGRES = ("asyncpg", "psycopg")
DRIVERS = (*POSTGRES, "asyncmy", "aiomysql")


@dataclass
class Behind:
    """A database through a proxy, and one beside it."""

    proxy: Proxy
    database: Database
    admin: Database
    name: str

    @property
    def is_postgres(self) -> bool:
        return self.admin.engine.dialect.name == "postgresql"

    @property
    def sleep(self) -> str:
        """A query that takes long; MariaDB sees only at its end that the client has gone."""
        return "SELECT pg_sleep(60)" if self.is_postgres else "SELECT SLEEP(0.3)"

    async def is_sleeping(self) -> bool:
        """Return whether the server runs `sleep`."""
        return any(state.lower() in {"active", "query"} for state, _ in await self.connections())

    async def names(self) -> list[str]:
        """Return the names that are stored, as another connection sees them."""
        async with self.admin.session() as session:
            return list(await session.scalars(text(f"SELECT name FROM {self.name}.owners ORDER BY id")))

    async def connections(self) -> list[tuple[str, bool]]:
        """Return the connections that the server has, with what each does and whether it is in a transaction."""
        query = (
            "SELECT coalesce(state, 'starts'), xact_start IS NOT NULL FROM pg_stat_activity"
            " WHERE application_name = :name"
            if self.is_postgres
            else "SELECT command, trx_id IS NOT NULL FROM information_schema.processlist p"
            " LEFT JOIN information_schema.innodb_trx ON trx_mysql_thread_id = p.id WHERE db = :name"
        )
        async with self.admin.session() as session:
            return [(row[0], bool(row[1])) for row in await session.execute(text(query), {"name": self.name})]

    async def is_clean(self) -> None:
        """Return when the server has the pool's idle connections and no other, none of them in a transaction."""

        async def expected() -> bool:
            found = await self.connections()
            pool = self.database.pool_states()["primary"]
            return not pool.in_use and len(found) <= pool.idle and all((s.lower(), busy) in IDLE for s, busy in found)

        # InnoDB shows the transactions of a tenth of a second ago, and the same ones to who asks more often.
        await until(expected, interval_seconds=0.01 if self.is_postgres else 0.15)


IDLE = {("idle", False), ("sleep", False)}


async def until(condition: Callable[[], Awaitable[bool]], seconds: float = 10, interval_seconds: float = 0.01) -> None:
    """Wait for what a server does in its own time."""
    async with asyncio.timeout(seconds):
        while not await condition():
            await asyncio.sleep(interval_seconds)


@asynccontextmanager
async def behind(url: str, driver: str, *, is_direct: bool = False, **options: Any) -> AsyncGenerator[Behind]:
    """Give a database with empty tables, in a schema of its own that is dropped at the end.

    `is_direct`: whether the proxy is left out after all, for what has to be fast.
    """
    name, there = f"kit_{uuid4().hex}", make_url(url)
    is_postgres = driver in POSTGRES
    here = there.set(drivername=f"{there.get_backend_name()}+{driver}", host="127.0.0.1")
    match driver:
        case "asyncpg":
            # Not asked for TLS: asyncpg logs an error of its own when it is cancelled there.
            connect_args: dict[str, Any] = {"server_settings": {"search_path": name}, "ssl": False}
        case "psycopg":
            connect_args = {"options": f"-c search_path={name}"}
        case _:
            here, connect_args = here.set(database=name), {}
    async with AsyncExitStack() as stack:
        proxy = await stack.enter_async_context(Proxy(there.host or "", there.port or 0).serving())
        engine_options = {"connect_args": connect_args, **options.pop("engine_options", {})}
        database = Database(
            here.set(port=there.port if is_direct else proxy.port),
            application_name=name,
            engine_options=engine_options,
            **options,
        )
        admin = Database(there)
        stack.push_async_callback(admin.dispose)
        async with admin.session() as session:
            await session.execute(text(f"CREATE SCHEMA {name}"))
        try:
            if is_postgres:
                await database.create_all(Base.metadata)
            else:
                async with database.session() as session:
                    columns = "id INT AUTO_INCREMENT PRIMARY KEY, name VARCHAR(90) UNIQUE, visits INT"
                    await session.execute(text(f"CREATE TABLE owners ({columns}) ENGINE = InnoDB"))
            yield Behind(proxy, database, admin, name)
        finally:
            proxy.release()
            await database.dispose()
            async with admin.session() as session:
                await session.execute(text(f"DROP SCHEMA {name}" + (" CASCADE" if is_postgres else "")))

"""What env.py calls."""

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from fastapi_kit.db.migrations.autogenerate import drop_indexes_with_tables, import_own_types
from fastapi_kit.db.migrations.connecting import HasEngine, run_now
from fastapi_kit.db.migrations.guards import guarded, refuse_foreign_keys, refuse_orphans
from fastapi_kit.errors import ConfigurationError, needs_extra

with needs_extra("db"):
    from sqlalchemy import MetaData
    from sqlalchemy.engine import Connection
with needs_extra("migrations"):
    from alembic import context

__all__ = ["OWN_CONNECTION", "run_migrations"]

OWN_CONNECTION = "fastapi_kit.connection"
"""The attribute of Alembic's configuration in which the kit's own functions hand their connection to env.py."""


def run_migrations(
    db: HasEngine,
    metadata: MetaData | Sequence[MetaData],
    *,
    wait_seconds: float = 600.0,
    table_lock_seconds: float = 10.0,
    context_options: Mapping[str, Any] | None = None,
) -> None:
    """Run the migrations that Alembic's command asks for; the one call in env.py.

    It works for `alembic` on the command line, for `alembic.command` with or without a running event loop, for
    `upgrade` and `require_head`, and for scripts (`--sql`). It connects as `db` does, outside of its pool and without
    its time-outs on statements.

    - `metadata`: what the models declare, which `--autogenerate` compares with the database.
    - `wait_seconds`: how long to wait for another who migrates the same database; then there is nothing left to do.
    - `table_lock_seconds`: how long a statement on PostgreSQL or MariaDB waits for a table that is in use. While it
      waits, whoever needs the table waits behind it.
    - `context_options`: for Alembic's `context.configure`, over what is set here.

    Each migration is one transaction, on PostgreSQL. On SQLite all of them are one, and `transaction_per_migration`
    changes nothing. MariaDB commits at each statement that changes a table, so that a migration that fails may be
    half done. On SQLite foreign keys are off during the migration, so that a table can be made anew without its
    children being deleted; they are checked before the commit.

    A connection in `config.attributes["connection"]` is used as it is: its transaction, its time-outs and a lock
    are its owner's.

    Raises `MigrationError` when another migration takes longer than `wait_seconds`, when rows refer to rows that do not
    exist (SQLite), and for an in-memory database, which only `upgrade` can migrate. Raises `ConfigurationError` for
    an injected connection that is not SQLAlchemy's sync one.
    """
    options = {
        "target_metadata": metadata,
        "render_item": import_own_types,
        "process_revision_directives": drop_indexes_with_tables,
        **(context_options or {}),
    }
    attributes = context.config.attributes

    def run(connection: Connection) -> None:
        _configure(connection, options)
        if _only_reads():
            context.run_migrations()
            return
        with guarded(connection, wait_seconds=wait_seconds, table_lock_seconds=table_lock_seconds):
            context.run_migrations()

    if context.config.cmd_opts is not None:  # it is the command, and nobody else has set up logging
        logging.basicConfig(format="%(levelname)-5.5s [%(name)s] %(message)s")
        for name in ("alembic.autogenerate", "alembic.runtime.migration", "fastapi_kit.db.migrations"):
            logging.getLogger(name).setLevel(logging.INFO)
    if context.is_offline_mode():
        _write_script(db, options)
    elif (injected := attributes.get("connection")) is not None:
        _run_injected(injected, options)
    elif own := attributes.get(OWN_CONNECTION):
        run(own)
    else:
        run_now(db, run)


def _run_injected(connection: Any, options: dict[str, Any]) -> None:
    if not isinstance(connection, Connection):
        raise ConfigurationError(
            f'config.attributes["connection"] is a {type(connection).__name__}: give a sqlalchemy.Connection, as'
            " `await connection.run_sync(function)` gives it to the function"
        )
    _configure(connection, options)
    if not _only_reads():
        refuse_foreign_keys(connection)
    with context.begin_transaction():
        context.run_migrations()


def _write_script(db: HasEngine, options: dict[str, Any]) -> None:
    ours = _defaults(db.engine.dialect.name)
    context.configure(url=db.engine.url, literal_binds=True, dialect_opts={"paramstyle": "named"}, **ours | options)
    with context.begin_transaction():
        context.run_migrations()


def _configure(connection: Connection, options: dict[str, Any]) -> None:
    merged = _defaults(connection.dialect.name) | options
    if connection.dialect.name == "sqlite":
        theirs: Callable[..., None] | Iterable[Callable[..., None]] = merged.get("on_version_apply", ())
        merged["on_version_apply"] = [*([theirs] if callable(theirs) else theirs), refuse_orphans]
        merged["transaction_per_migration"] = False  # the one transaction is the lock
    context.configure(connection=connection, **merged)


def _defaults(dialect: str) -> dict[str, Any]:
    if dialect == "sqlite":
        # Python's own connections have no transactional DDL; the kit's have.
        return {"compare_server_default": True, "render_as_batch": True, "transactional_ddl": True}
    # A revision is the same unit where it is one of many as where it was tried alone: PostgreSQL does not let a
    # transaction use the value of an enum that it added, or alter a table whose deferred checks it has yet to do.
    # MariaDB renders defaults in its own words, so that each of them would seem to have changed.
    return {"compare_server_default": dialect == "postgresql", "transaction_per_migration": True}


def _only_reads() -> bool:
    return bool(context.get_context().opts.get("dont_mutate"))  # `alembic current`, and `require_head`

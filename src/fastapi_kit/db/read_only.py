"""Sessions that a server keeps from writing, without a transaction around their reads."""

from typing import Any

from fastapi_kit.errors import needs_extra

with needs_extra("db"):
    from sqlalchemy import event
    from sqlalchemy.engine import Connection, Engine

__all__ = ["READ_ONLY", "keep_read_only"]

READ_ONLY = "fastapi_kit_read_only"


def keep_read_only(engine: Engine) -> None:
    """Make the connections of an engine refuse writes wherever its execution options have `READ_ONLY`.

    The refusal stays on the connection, and is changed only where the next use wants the other: reads after reads
    need not one round trip for it, where BEGIN READ ONLY and ROLLBACK would be two each time. On MariaDB it also holds
    for what ends a transaction, as DROP TABLE does, which a transaction that is READ ONLY lets pass.
    """
    event.listen(engine, "begin", _set_access)


def _set_access(connection: Connection) -> None:
    wanted = READ_ONLY in connection.get_execution_options()
    info = connection.info
    if info.get(READ_ONLY, False) == wanted:
        return
    try:
        if connection.dialect.name == "postgresql":
            _execute_alone(connection, f"SET default_transaction_read_only = {'on' if wanted else 'off'}")
        else:
            connection.exec_driver_sql(f"SET SESSION TRANSACTION READ {'ONLY' if wanted else 'WRITE'}")
    except BaseException:
        connection.invalidate()  # nobody knows which of the two it has now
        raise
    info[READ_ONLY] = wanted


def _execute_alone(connection: Connection, statement: str) -> None:
    """Execute outside of a transaction, with which it would be undone, and whose successor alone it would reach."""
    driver: Any = connection.connection.dbapi_connection
    transactional = not driver.autocommit
    driver.autocommit = True
    connection.exec_driver_sql(statement)
    driver.autocommit = not transactional

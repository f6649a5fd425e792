"""What `alembic revision --autogenerate` needs so that nobody has to edit what it writes."""

from typing import Any, Literal

from fastapi_kit.errors import needs_extra

with needs_extra("migrations"):
    from alembic.autogenerate.api import AutogenContext
    from alembic.operations.ops import DropIndexOp, DropTableOp, MigrationScript, ModifyTableOps, OpContainer

__all__ = ["drop_indexes_with_tables", "import_own_types"]


def import_own_types(kind: str, item: Any, autogen_context: AutogenContext) -> Literal[False]:
    """Let a revision import the module of a column type that is not SQLAlchemy's; render all as Alembic does."""
    module: str = type(item).__module__
    if kind == "type" and not module.startswith("sqlalchemy."):
        autogen_context.imports.add(f"import {module}")
    return False


def drop_indexes_with_tables(context: object, revision: object, directives: list[MigrationScript]) -> None:
    """Leave the indexes of a table that is dropped to the drop: MariaDB refuses to drop that of a foreign key first."""
    for script in directives:
        for operations in (*script.upgrade_ops_list, *script.downgrade_ops_list):
            _drop_indexes_with_tables(operations)


def _drop_indexes_with_tables(operations: OpContainer) -> None:
    dropped = {(each.table_name, each.schema) for each in operations.ops if isinstance(each, DropTableOp)}
    kept: list[Any] = []
    for each in operations.ops:
        if isinstance(each, ModifyTableOps) and (each.table_name, each.schema) in dropped:
            each.ops = [of_table for of_table in each.ops if not isinstance(of_table, DropIndexOp)]
        if not isinstance(each, ModifyTableOps) or each.ops:
            kept.append(each)
    operations.ops = kept

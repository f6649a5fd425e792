"""What sessions of the kit load: no rows that are marked as deleted, and nothing that nobody asked for."""

import asyncio
from collections.abc import Callable
from typing import Any, Final, TypeVar, cast

from fastapi_kit.db.models import SoftDelete
from fastapi_kit.errors import needs_extra

with needs_extra("db"):
    from sqlalchemy import ColumnElement, event
    from sqlalchemy.exc import InvalidRequestError
    from sqlalchemy.orm import ORMExecuteState, Session, with_loader_criteria
    from sqlalchemy.util.concurrency import in_greenlet

__all__ = ["LazyLoadError", "end_stray_task", "guarded_session"]

SessionT = TypeVar("SessionT", bound=Session)


class LazyLoadError(InvalidRequestError):
    """Raised where reading an attribute would run a query unseen; says which one, and what to write instead.

    It is a defect of the service, a 500, and stands in the place of SQLAlchemy's `MissingGreenlet`. When Pydantic
    reads the attribute for a response, its text is in FastAPI's `ResponseValidationError`.
    """


def guarded_session(session_class: type[SessionT], *, is_async: bool, lazy_loads: bool = False) -> type[SessionT]:
    """Return a subclass of a session class that leaves out rows marked as deleted, and raises `LazyLoadError`.

    For `async_sessionmaker(sync_session_class=...)` with `is_async`, and `sessionmaker(class_=...)` without, which
    needs no greenlet. Give it a class that it has not made itself. The listener for `SoftDelete` is added by the first
    session that is made when a model has it: a statement costs nothing more until then, about 20 µs from then on.

    - `is_async`: what the methods of the session, `run_sync` and `awaitable_attrs` load was asked for; whatever else
      loads a relationship, or a column that is deferred or expired, raises.
    - `lazy_loads`: without `is_async`, whether a relationship may be loaded when it is read. A column always may.
    """
    kind = _AsyncSession if is_async else _LiveSession if lazy_loads else _SyncSession
    return cast(type[SessionT], type(session_class.__name__, (kind, session_class), {}))


def _counted(counter: str, method: str) -> Callable[..., Any]:
    """Return the method of `Session`, with a count of the calls that are under way."""

    def call(self: "_LiveSession", *args: Any, **options: Any) -> Any:
        setattr(self, counter, getattr(self, counter) + 1)
        try:
            return getattr(super(_LiveSession, self), method)(*args, **options)
        finally:
            setattr(self, counter, getattr(self, counter) - 1)

    return call


class _LiveSession(Session):
    cascades = 0
    _is_listening = False

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        cls = type(self)
        if not cls._is_listening and SoftDelete.__subclasses__():
            event.listen(cls, "do_orm_execute", _leave_out_deleted)
            cls._is_listening = True

    delete = _counted("cascades", "delete")
    delete_all = _counted("cascades", "delete_all")
    flush = _counted("cascades", "flush")


def _is_live(model: type[SoftDelete]) -> ColumnElement[bool]:
    return model.deleted_at.is_(None)


_LIVE: Final = with_loader_criteria(SoftDelete, _is_live, include_aliases=True)


def _leave_out_deleted(state: ORMExecuteState) -> None:
    if not (state.is_select or state.is_update) or not state.is_orm_statement:
        return
    if state.execution_options.get("include_deleted"):
        return
    if state.is_relationship_load:
        session = cast(_LiveSession, state.session)
        parent = state.lazy_loaded_from
        if parent is not None and session.cascades:
            # What a delete takes along has to be complete. Nothing public takes back what the options of the object
            # have brought; the statement was made for this load.
            statement: Any = state.statement
            options = statement._with_options  # noqa: SLF001
            statement._with_options = tuple(one for one in options if one is not _LIVE)  # noqa: SLF001
            return
        # The options of a statement hold for what it loads besides, those of an object for what is loaded when read.
        if parent is None or _LIVE in parent.load_options:
            return
    state.statement = state.statement.options(_LIVE)


def _in_turn(method: str) -> Callable[..., Any]:
    """Return the method of `Session`, which is refused while another task waits for a statement."""

    def call(self: "_AsyncSession", *args: Any, **options: Any) -> Any:
        unguarded = getattr(super(_AsyncSession, self), method)
        if in_greenlet():
            return self.in_one_task(unguarded, args, options)
        return unguarded(*args, **options)

    return call


class _AsyncSession(_LiveSession):
    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.task: asyncio.Task[Any] | None = None
        """The task that waits for a statement of this session."""

    def execute(self, *args: Any, **options: Any) -> Any:
        if not in_greenlet():
            return _execute(self, super().execute, args, options, refuse=_refuse_loads)
        return self.in_one_task(super().execute, args, options)

    scalar = _in_turn("scalar")  # it does not call `execute`
    flush = _in_turn("flush")
    commit = _in_turn("commit")
    rollback = _in_turn("rollback")
    close = _in_turn("close")

    def in_one_task(self, call: Callable[..., Any], args: tuple[Any, ...], options: dict[str, Any]) -> Any:
        """Call, or refuse it while another task waits: the two would share a transaction, and one its connection."""
        task = asyncio.current_task()
        if self.task is task:
            return call(*args, **options)
        if self.task is not None:
            raise InvalidRequestError(
                "another task waits for a statement of this session, and a session is for one task at a time: await"
                " one after the other, or open db.session() in each task"
            )
        self.task = task
        try:
            return call(*args, **options)
        finally:
            self.task = None


async def end_stray_task(session: Session) -> bool:
    """Cancel the task that still waits for a statement of a session, and wait for it; return whether there was one."""
    task: asyncio.Task[Any] | None = getattr(session, "task", None)
    if task is None or task is asyncio.current_task():
        return False
    task.cancel()
    await asyncio.wait([task])
    return True


# Execution options of SQLAlchemy's, which have no public name: the first is on statements that the ORM makes itself,
# the second on those that load what the options of a statement ask for.
_OF_ORM: Final = "_sa_orm_load_options"
_OF_STATEMENT: Final = "sa_top_level_orm_context"


class _SyncSession(_LiveSession):
    _merges = 0

    def execute(self, *args: Any, **options: Any) -> Any:
        given = options.get("execution_options", {})
        if self.cascades or self._merges or _OF_ORM not in given or _OF_STATEMENT in given:
            return super().execute(*args, **options)
        return _execute(self, super().execute, args, options, refuse=_refuse_relationships)

    merge = _counted("_merges", "merge")
    merge_all = _counted("_merges", "merge_all")


def _execute(
    session: Session,
    execute: Callable[..., Any],
    args: tuple[Any, ...],
    options: dict[str, Any],
    *,
    refuse: Callable[[ORMExecuteState], None],
) -> Any:
    # For this statement only: a listener costs each one 4 µs, and nothing else tells, publicly, what it loads.
    event.listen(session, "do_orm_execute", refuse)
    try:
        return execute(*args, **options)
    finally:
        event.remove(session, "do_orm_execute", refuse)


def _refuse_relationships(state: ORMExecuteState) -> None:
    if state.is_select and state.lazy_loaded_from is not None:
        raise LazyLoadError(_for_relationship(state, "session.refresh"))


def _refuse_loads(state: ORMExecuteState) -> None:
    if not state.is_select:
        return
    if state.lazy_loaded_from is not None:
        raise LazyLoadError(_for_relationship(state, "await session.refresh"))
    if state.is_column_load:
        raise LazyLoadError(_for_columns(state))


def _for_relationship(state: ORMExecuteState, refresh: str) -> str:
    path: Any = state.loader_strategy_path
    parent: Any = state.lazy_loaded_from
    model, key = parent.class_.__name__, path.prop.key
    return (
        f"{model}.{key} is not loaded, and to read it runs no query: write"
        f" select({model}).options(selectinload({model}.{key})), or {refresh}({model.lower()}, [{key!r}]) before"
    )


def _for_columns(state: ORMExecuteState) -> str:
    mapper: Any = state.bind_mapper
    statement: Any = state.statement
    keys = sorted(statement._compile_options._only_load_props)  # noqa: SLF001  they have no public name
    model = mapper.class_.__name__
    return (
        f"{', '.join(f'{model}.{key}' for key in keys)}: deferred or expired, and to read it runs no query: write"
        f" await session.refresh({model.lower()}, {keys}) before, or undefer() in the statement"
    )

"""Any `Select`, its total and its order, on each database."""

import re
from typing import Any

import pytest
from sqlalchemy import Integer, and_, column, exists, func, literal_column, select, union
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from sqlalchemy.orm import aliased, contains_eager, joinedload, selectinload, with_loader_criteria

from fastapi_kit.pagination import Page, SkipLimitParams, paginate
from fastapi_kit.schemas import ReadModel
from tests.pagination.support import Item, ItemRead, Owner, Shelf, ShopOwner, Tag

pytestmark = pytest.mark.anyio

FIRST_FIVE = SkipLimitParams(skip=0, limit=5)
PAST_THE_END = SkipLimitParams(skip=1000, limit=5)


class Named(ReadModel):
    name: str


class OwnerCount(ReadModel):
    owner_id: int
    items: int


class ShelfRead(ReadModel):
    aisle: int
    number: int


class Number(ReadModel):
    n: int


class ItemAndOwner(ReadModel):
    Item: ItemRead
    Owner: Named


other = aliased(Item)
expensive = select(Item.id).where(Item.id > 20).cte("expensive")

EACH_KIND = {
    "entity": (select(Item), ItemRead, 23),
    "filter": (select(Item).where(Item.owner_id == 2), ItemRead, 12),
    "in": (select(Item).where(Item.id.in_([1, 2, 99])), ItemRead, 2),
    "nothing": (select(Item).where(Item.id > 100), ItemRead, 0),
    "inheritance": (select(ShopOwner), Named, 1),
    "alias": (select(other).where(other.id < 7), ItemRead, 6),
    "columns": (select(Item.id, Item.name), ItemRead, 23),
    "labels": (select(Item.id.label("n")), Number, 23),
    "table": (select(Item.__table__), ItemRead, 23),
    "subquery": (select(select(Item.id, Item.name).where(Item.id > 3).subquery()), ItemRead, 20),
    "cte": (select(Item).join(expensive, expensive.c.id == Item.id), ItemRead, 3),
    "union": (
        select(union(select(Item.id.label("n")), select(Owner.id + 100)).subquery()),
        Number,
        26,
    ),
    "join to one": (select(Item).join(Item.owner).where(Owner.name == "ada"), ItemRead, 11),
    "join to a subclass": (select(Item).join(Item.owner.of_type(ShopOwner)), ItemRead, 12),
    "outer join": (select(Owner.name).outerjoin(Item), Named, 24),
    "two entities": (select(Item, Owner).join(Item.owner), ItemAndOwner, 23),
    "implicit join": (select(Item).where(Item.owner_id == Owner.id, Owner.name == "bob"), ItemRead, 12),
    "exists": (select(Item).where(exists().where(and_(Tag.item_id == Item.id, Item.id < 5))), ItemRead, 4),
    "join to many": (select(Item.id, Item.name).join(Item.tags), ItemRead, 46),
    "distinct entities": (select(Item).join(Item.tags).distinct(), ItemRead, 23),
    "distinct": (select(Item.name).distinct().order_by(Item.name), Named, 4),
    "group by": (
        select(Item.owner_id, func.count().label("items")).group_by(Item.owner_id).order_by("items"),
        OwnerCount,
        2,
    ),
    "having": (
        select(Item.owner_id, func.count().label("items")).group_by(Item.owner_id).having(func.count() > 11),
        OwnerCount,
        1,
    ),
    "having alone": (select(func.count().label("n")).select_from(Item).having(func.count() > 99), Number, 0),
    "aggregate": (select(func.max(Item.id).label("n")), Number, 1),
    "aggregate as text": (select(literal_column("max(id)", Integer).label("n")).select_from(Item), Number, 1),
    "lone column": (select(column("name")).select_from(Item), Named, 23),
    "loader criteria": (select(Item).options(with_loader_criteria(Item, Item.id > 20)), ItemRead, 3),
    "joined load of one": (select(Item).options(joinedload(Item.owner)), ItemRead, 23),
    "selectin load": (select(Item).options(selectinload(Item.tags)), ItemRead, 23),
    "composite key": (select(Shelf), ShelfRead, 9),
    "no table": (select(literal_column("1", Integer).label("n")), Number, 1),
}


@pytest.mark.parametrize(("statement", "model", "total"), EACH_KIND.values(), ids=EACH_KIND)
async def test_total_and_rows_are_those_of_the_whole_statement(
    session: AsyncSession, statement: Any, model: type[ReadModel], total: int
) -> None:
    whole = (await session.execute(statement)).all()
    assert len(whole) == total  # or the table above is wrong

    first = await paginate(session, statement, FIRST_FIVE, model)
    everything = await paginate(session, statement, SkipLimitParams(skip=0, limit=100), model)
    past_the_end = await paginate(session, statement, PAST_THE_END, model)

    assert (first.total, len(first.items)) == (total, min(5, total))
    assert first.items == everything.items[:5]
    assert len(everything.items) == total
    assert (past_the_end.total, past_the_end.items) == (total, [])


async def test_rows_are_read_by_the_names_of_their_columns(session: AsyncSession) -> None:
    statement = select(Item.owner_id, func.count().label("items")).group_by(Item.owner_id)

    page = await paginate(session, statement.order_by(Item.owner_id), FIRST_FIVE, OwnerCount)

    assert page.items == [OwnerCount(owner_id=1, items=11), OwnerCount(owner_id=2, items=12)]


async def test_several_entities_are_read_by_their_names(session: AsyncSession) -> None:
    page = await paginate(session, select(Item, Owner).join(Item.owner), FIRST_FIVE, ItemAndOwner)

    assert [(row.Item.id, row.Owner.name) for row in page.items[:2]] == [(1, "bob"), (2, "ada")]


async def test_set_returning_function_is_counted_by_its_rows(session: AsyncSession) -> None:
    if session.get_bind().dialect.name != "postgresql":
        pytest.skip("PostgreSQL alone has functions that return several rows from the list of columns")
    statement = select(func.generate_series(1, 12).label("n"))

    page = await paginate(session, statement, FIRST_FIVE, Number)

    assert (page.total, [row.n for row in page.items]) == (12, [1, 2, 3, 4, 5])


async def test_having_without_groups_filters_before_the_count(session: AsyncSession) -> None:
    if session.get_bind().dialect.name != "mysql":
        pytest.skip("MariaDB alone takes HAVING for a filter of plain columns")

    page = await paginate(session, select(Item.id, Item.name).having(Item.id > 20), FIRST_FIVE, ItemRead)

    assert (page.total, len(page.items)) == (3, 3)


@pytest.mark.parametrize("limit", [1, 4, 23, 24])
@pytest.mark.parametrize(
    "statement",
    [
        select(Item).order_by(Item.name),
        select(Item).order_by(Item.name.desc(), Item.owner_id),
        select(Item.id, Item.name).order_by(Item.name),
        select(other).order_by(other.name),
        select(Item).distinct().order_by(Item.name),
    ],
    ids=["entity", "descending", "columns", "alias", "distinct"],
)
async def test_walk_over_tied_rows_sees_each_once(session: AsyncSession, statement: Any, limit: int) -> None:
    seen = list[ItemRead]()
    for skip in range(0, 30, limit):
        seen += (await paginate(session, statement, SkipLimitParams(skip=skip, limit=limit), ItemRead)).items

    assert sorted(item.id for item in seen) == list(range(1, 24))


@pytest.mark.parametrize(
    ("statement", "order"),
    [
        (select(Item), "item.id"),
        (select(Item).order_by(Item.name), "item.name, item.id"),
        (select(Item).order_by(Item.id), "item.id"),
        (select(Item).order_by(Item.name, Item.id.desc()), "item.name, item.id desc"),
        (select(Item).order_by(other.id).join(other, other.id == Item.id), "item_1.id, item.id"),
        (select(other).order_by(other.id.desc()), "item_1.id desc"),
        (select(Shelf).order_by(Shelf.number.desc()), "shelf.number desc, shelf.aisle desc"),
        (select(Item, Owner).join(Item.owner), "item.id"),
        (select(Owner, Item).join(Item), "owner.id, item.id"),
        (select(Item.id, Item.name), "item.id"),
        (select(Item.name).distinct(), "item.name"),
        (select(Item.name, func.count()).group_by(Item.name), "item.name"),
        (select(func.max(Item.id)), None),
        (select(func.lower(Item.name).label("l")).distinct(), "l"),
        (select(Item, func.count(Tag.id)).join(Item.tags).group_by(Item.id), "item.id"),
        (select(Item.__table__), "item.id"),
    ],
)
async def test_primary_key_ends_the_order_once(
    session: AsyncSession, sent: list[str], statement: Any, order: str | None
) -> None:
    class Nothing(ReadModel):
        pass

    await paginate(session, statement, FIRST_FIVE, Nothing)

    found = re.findall(r"order by (.*?)\s+limit", sent[0].replace("\n", " "), re.IGNORECASE)
    assert [text.lower() for text in found] == ([order] if order else [])


NULLS = {
    "nulls_first": {
        "sqlite": "item.id DESC NULLS FIRST",
        "postgresql": "item.id DESC",
        "mysql": "item.id IS NULL DESC, item.id DESC",
    },
    "nulls_last": {"sqlite": "item.id DESC", "postgresql": "item.id DESC NULLS LAST", "mysql": "item.id DESC"},
}


@pytest.mark.parametrize("nulls", NULLS)
async def test_place_of_nulls_is_said_once_and_only_where_it_is_not_the_database_s_own(
    session: AsyncSession, sent: list[str], nulls: str
) -> None:
    order = getattr(Item.id.desc(), nulls)()

    await paginate(session, select(Item).order_by(order), FIRST_FIVE, ItemRead)

    [found] = re.findall(r"ORDER BY (.*?)\s+LIMIT", sent[0].replace("\n", " "))
    assert found == NULLS[nulls][session.get_bind().dialect.name]


async def test_one_round_trip_and_a_count_without_order(session: AsyncSession, sent: list[str]) -> None:
    page = await paginate(session, select(Item).order_by(Item.name), FIRST_FIVE, ItemRead)

    assert page.total == 23
    assert len(sent) == 1
    assert sent[0].lower().count("order by") == 1
    assert "over (" not in sent[0].lower()


async def test_second_round_trip_only_past_the_end(session: AsyncSession, sent: list[str]) -> None:
    await paginate(session, select(Item).where(Item.id > 100), FIRST_FIVE, ItemRead)
    assert len(sent) == 1

    await paginate(session, select(Item), PAST_THE_END, ItemRead)
    assert len(sent) == 3


async def test_without_total_nothing_is_counted(session: AsyncSession, sent: list[str]) -> None:
    page: Page[ItemRead] = await paginate(session, select(Item), FIRST_FIVE, ItemRead, total=False)
    past = await paginate(session, select(Item), PAST_THE_END, ItemRead, total=False)

    assert (page.total, len(page.items)) == (None, 5)
    assert (past.total, past.items) == (None, [])
    assert len(sent) == 2
    assert not [statement for statement in sent if "count(" in statement.lower()]


async def test_pages_share_one_compiled_statement(engine: AsyncEngine) -> None:
    compiled: dict[Any, Any] = {}
    async with AsyncSession(engine.execution_options(compiled_cache=compiled)) as session:
        for owner, skip, limit in [(1, 0, 5), (2, 5, 5), (1, 10, 20), (3, 1000, 1)]:
            statement = select(Item).where(Item.owner_id == owner).order_by(Item.name)
            await paginate(session, statement, SkipLimitParams(skip=skip, limit=limit), ItemRead)

    assert len(compiled) == 1


@pytest.mark.parametrize(
    "option",
    [joinedload(Item.tags), contains_eager(Item.tags)],
    ids=["joinedload", "contains_eager"],
)
@pytest.mark.parametrize("params", [FIRST_FIVE, PAST_THE_END], ids=["first", "past the end"])
async def test_collection_loaded_by_a_join_is_refused(
    session: AsyncSession, option: Any, params: SkipLimitParams
) -> None:
    # a distinct entity for each tag: without .distinct() the join itself is refused
    statement = select(Item).join(Item.tags).distinct().options(option)

    with pytest.raises(TypeError, match=r"selectinload\(\) in place of joinedload"):
        await paginate(session, statement, params, ItemRead)


@pytest.mark.parametrize("statement", [select(Item).limit(3), select(Item).offset(3), select(Item).fetch(3)], ids=str)
async def test_limit_of_its_own_is_refused(session: AsyncSession, statement: Any) -> None:
    with pytest.raises(ValueError, match=r"LIMIT.*remove it, or select from statement\.subquery\(\)"):
        await paginate(session, statement, FIRST_FIVE, ItemRead)


async def test_locks_are_for_the_page_and_never_for_the_count(session: AsyncSession) -> None:
    locking = select(Item).with_for_update()

    with pytest.raises(ValueError, match=r"FOR UPDATE.*pass total=False"):
        await paginate(session, locking, FIRST_FIVE, ItemRead)

    assert len((await paginate(session, locking, FIRST_FIVE, ItemRead, total=False)).items) == 5


async def test_limited_statement_has_pages_as_a_subquery(session: AsyncSession) -> None:
    latest = aliased(Item, select(Item).order_by(Item.id.desc()).limit(8).subquery())

    page = await paginate(session, select(latest).order_by(latest.id.desc()), FIRST_FIVE, ItemRead)

    assert (page.total, [item.id for item in page.items]) == (8, [23, 22, 21, 20, 19])


async def test_what_is_no_select_is_refused(session: AsyncSession) -> None:
    statement: Any = union(select(Item.id), select(Owner.id))

    with pytest.raises(TypeError, match=r"not from a CompoundSelect.*select\(union\.subquery\(\)\)"):
        await paginate(session, statement, FIRST_FIVE, ItemRead)

"""Tables for the tests of pagination, and what their rows are read as."""

from sqlalchemy import ForeignKey, String
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

from fastapi_kit.schemas import ReadModel

__all__ = ["Base", "Item", "ItemRead", "Owner", "Shelf", "ShopOwner", "Tag", "rows"]


class Base(DeclarativeBase):
    pass


class Owner(Base):
    __tablename__ = "owner"
    __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "person"}  # noqa: RUF012

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(20))
    kind: Mapped[str] = mapped_column(String(20))


class ShopOwner(Owner):
    __mapper_args__ = {"polymorphic_identity": "shop"}  # noqa: RUF012


class Item(Base):
    __tablename__ = "item"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(20))
    owner_id: Mapped[int] = mapped_column(ForeignKey("owner.id"))
    owner: Mapped[Owner] = relationship()
    tags: Mapped[list["Tag"]] = relationship()


class Tag(Base):
    __tablename__ = "tag"

    id: Mapped[int] = mapped_column(primary_key=True)
    item_id: Mapped[int] = mapped_column(ForeignKey("item.id"))
    name: Mapped[str] = mapped_column(String(20))


class Shelf(Base):
    __tablename__ = "shelf"

    aisle: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)


class ItemRead(ReadModel):
    id: int
    name: str


def rows() -> list[Base]:
    """Three owners, one a shop; 23 items of the first two, with four names, each of two tags; 9 shelves."""
    return [
        Owner(id=1, name="ada"),
        ShopOwner(id=2, name="bob"),
        Owner(id=3, name="cleo"),
        *(
            Item(id=n, name=f"name {n * 7 % 4}", owner_id=1 + n % 2, tags=[Tag(name="new"), Tag(name="red")])
            for n in range(1, 24)
        ),
        *(Shelf(aisle=aisle, number=number) for aisle in range(1, 4) for number in range(1, 4)),
    ]

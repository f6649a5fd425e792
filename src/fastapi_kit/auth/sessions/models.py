"""The tables of `SQLAlchemySessionStore`, as mixins for the application's own models."""

from fastapi_kit.errors import needs_extra

with needs_extra("db"):
    from sqlalchemy import BigInteger, String, Text
    from sqlalchemy.orm import Mapped, mapped_column, unmapped_dataclass

__all__ = ["RevocationMixin", "SessionMixin"]


@unmapped_dataclass(init=False, repr=False, eq=False)  # so that a MappedAsDataclass can inherit it
class SessionMixin:
    """The columns of log-ins: `class LoginSession(SessionMixin, Base): __tablename__ = "login_sessions"`.

    Times are milliseconds since the epoch. Add columns of your own as you like, with defaults: a device's name, for
    one. To show users where they are logged in, select by `subject`, with `ended_at` 0, `expires_at` to come, and an
    `epoch` of at least `await store.epoch(subject)`: `end_all` ends those with a lower one, and leaves their rows.
    """

    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    subject: Mapped[str] = mapped_column(String(255), index=True)
    scopes: Mapped[str] = mapped_column(Text)
    claims: Mapped[str] = mapped_column(Text)
    epoch: Mapped[int] = mapped_column(BigInteger)
    secret_hash: Mapped[str] = mapped_column(String(64))
    expires_at: Mapped[int] = mapped_column(BigInteger, index=True)
    ends_at: Mapped[int] = mapped_column(BigInteger)
    previous_hash: Mapped[str] = mapped_column(String(64))
    nonce: Mapped[str] = mapped_column(String(64))
    rotated_at: Mapped[int] = mapped_column(BigInteger)
    ended_at: Mapped[int] = mapped_column(BigInteger)


@unmapped_dataclass(init=False, repr=False, eq=False)
class RevocationMixin:
    """The columns of what was revoked: `class Revocation(RevocationMixin, Base): __tablename__ = "revocations"`.

    A row is the epoch of a subject, or a revoked access token.
    """

    key: Mapped[str] = mapped_column(String(64), primary_key=True)
    value: Mapped[int] = mapped_column(BigInteger)
    keep_until: Mapped[int] = mapped_column(BigInteger, index=True)

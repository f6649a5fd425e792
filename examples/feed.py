"""A feed with endless scrolling: pages of 20 by cursor, while others write. No front-end library.

pip install 'fastapi-service-kit[db,pagination]' uvicorn
uvicorn feed:app
"""

import os
import secrets
from base64 import b64encode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Annotated

from fastapi import FastAPI
from fastapi.responses import HTMLResponse
from sqlalchemy import DateTime, Index, insert, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from fastapi_kit import errors
from fastapi_kit.db import Database
from fastapi_kit.pagination import CursorPage, CursorParams, Cursors, cursor_limit, paginate
from fastapi_kit.schemas import ReadModel, ShortText

SCRIPT = """
const list = document.querySelector("ol"), end = document.querySelector("#end");
let cursor = null;
async function load() {
  const answer = await fetch("/posts?" + new URLSearchParams(cursor === null ? {} : { cursor }));
  const body = await answer.json();
  if (body.code === "invalid_cursor") {  // the server has another secret now: start again
    cursor = null;
    list.replaceChildren();
    return load();
  }
  if (!answer.ok) throw new Error(body.detail);
  for (const post of body.items) {
    const item = list.appendChild(document.createElement("li"));
    item.textContent = post.text;  // not innerHTML: others wrote it
  }
  cursor = body.next_cursor;
}
const observer = new IntersectionObserver(async (seen) => {
  if (!seen.some((entry) => entry.isIntersecting)) return;
  observer.unobserve(end);  // one page at a time
  try {
    await load();
    if (cursor === null) end.textContent = "That is all.";
    else observer.observe(end);
  } catch (error) {
    end.textContent = `${error.message}. Reload the page to go on.`;
  }
}, { rootMargin: "300px" });
observer.observe(end);
document.querySelector("form").addEventListener("submit", async (event) => {
  event.preventDefault();
  await fetch("/posts?" + new URLSearchParams(new FormData(event.target)), { method: "POST" });
  event.target.reset();
});
"""
PAGE = f"""<!doctype html><html lang="en"><meta charset="utf-8"><title>Feed</title><h1>Feed</h1>
<form><input name="text" required aria-label="Text"> <button>Post</button> It is on top after a reload.</form>
<ol></ol><p id="end">Loading</p><script>{SCRIPT}</script></html>"""
HASH = b64encode(sha256(SCRIPT.encode()).digest()).decode()
POLICY = f"default-src 'none'; connect-src 'self'; script-src 'sha256-{HASH}'"


class Base(DeclarativeBase): ...


class Post(Base):
    __tablename__ = "posts"
    id: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str]
    written: Mapped[datetime] = mapped_column(DateTime(timezone=True))
    __table_args__ = (Index("ix_posts_newest", "written", "id"),)


class PostRead(ReadModel):
    id: int
    text: str


# A secret made at the start is gone with it, and another worker has another. Set one on a server.
cursors = Cursors(os.environ.get("CURSOR_SECRET") or secrets.token_urlsafe(64))
db = Database(os.environ.get("DATABASE_URL", "sqlite+aiosqlite:///./feed.db"), create_all=Base.metadata)


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    async with db.lifespan(app):
        async with db.session() as session:
            if await session.scalar(select(Post.id).limit(1)) is None:
                now = datetime.now(UTC)
                rows = [{"text": f"Post {n}", "written": now - timedelta(minutes=(199 - n) // 3)} for n in range(200)]
                await session.execute(insert(Post), rows)
        yield


app = FastAPI(title="Feed", lifespan=lifespan)
errors.install(app)


@app.get("/", response_class=HTMLResponse)
async def show() -> HTMLResponse:
    return HTMLResponse(PAGE, headers={"Content-Security-Policy": POLICY})


@app.get("/posts")
async def list_posts(
    session: Annotated[AsyncSession, db.per_request_read_only], page: Annotated[CursorParams, cursor_limit(cursors)]
) -> CursorPage[PostRead]:
    return await paginate(session, select(Post).order_by(Post.written.desc()), page, PostRead)


@app.post("/posts", status_code=201)
async def write(text: ShortText, session: Annotated[AsyncSession, db.per_request]) -> None:
    session.add(Post(text=text, written=datetime.now(UTC)))

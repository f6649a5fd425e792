"""The catalogue of problems as a page of a manual."""

from collections.abc import Iterable, Iterator

from fastapi_kit.errors.kinds import Kind, describe_kind, general_kinds, phrase_kinds
from fastapi_kit.errors.problem import Problem
from fastapi_kit.errors.render import Renderer

__all__ = ["catalogue_markdown"]


def catalogue_markdown(kinds: Iterable[type[Problem]], *, type_base: str | None = None) -> str:
    """Return a page in Markdown that describes these kinds of problems, and those that any app answers with.

    For a site of documents: each code is a heading, so that with `type_base="https://docs.example.com/problems/#"` a
    `type` leads to its section. The last section has an anchor for each code that is made of a status, which an
    `HTTPException` answers with. `type_base` is what the examples have before the code, that of `errors.install`.

    What is said of a kind is the first paragraph of its docstring, as Markdown. The titles are those of the classes,
    whatever `title_of` makes of them.

    >>> from fastapi_kit.errors import ConflictError
    >>> print(catalogue_markdown([ConflictError]).partition("## `conflict`")[2].partition("```")[0].strip())
    **Conflict.** Answer 409: the state of the thing does not allow it.
    <BLANKLINE>
    - Status: 409 Conflict
    """
    renderer = Renderer(type_base)
    described = {kind.code: kind for kind in general_kinds(renderer)}
    described |= {kind.code: describe_kind(kind, renderer) for kind in kinds if kind.code != Problem.code}
    in_order = sorted(described.values(), key=lambda kind: (kind.status or 0, kind.code))
    others = [kind for kind in phrase_kinds(renderer) if kind.code not in described]
    return "\n".join([*(line for kind in in_order for line in _section(kind)), *_list(others)])


def _section(kind: Kind) -> Iterator[str]:
    yield from (f"## `{kind.code}`", "", f"**{kind.title}.** {kind.text}", "", f"- Status: {kind.status_line}")
    yield from (f"- Member `{name}`: {words}" for name, words in kind.extensions.items())
    yield from (f"- Header `{name}`: {words}" for name, words in kind.headers.items())
    yield from ("", "```json", kind.example_json, "```", "")


def _list(kinds: Iterable[Kind]) -> Iterator[str]:
    yield from ("## Codes of a status", "", "These have no section: the status says what there is to say.", "")
    yield from (f'- <a id="{kind.code}"></a>`{kind.code}`: {kind.status_line}' for kind in kinds)
    yield ""

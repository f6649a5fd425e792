"""Write docs/reference/problems.md: every kind of problem of the kit. Run it after a kind was added or changed."""

import importlib
import pkgutil
from pathlib import Path

import fastapi_kit
from fastapi_kit.errors import catalogue, catalogue_markdown

PAGE = Path(__file__).parent.parent / "docs" / "reference" / "problems.md"
HEAD = """\
# Problems

Every kind of problem that the blocks answer with, by status. The examples are as `errors.install(app)` writes them.
With `type_base` each has a `type` of its own, which may [lead to a page](../howto/errors.md#give-each-problem-a-page).

Made of the classes by `python -m scripts.problems`.

"""


def page() -> str:
    """Return the text of the page; the kinds of all blocks are imported for it."""
    for module in pkgutil.walk_packages(fastapi_kit.__path__, "fastapi_kit."):
        importlib.import_module(module.name)
    return HEAD + catalogue_markdown(kind for kind in catalogue() if kind.__module__.startswith("fastapi_kit."))


if __name__ == "__main__":
    PAGE.write_text(page())

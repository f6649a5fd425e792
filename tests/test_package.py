"""What holds the package together: one version, its changelog, whole extras, pages that are all linked."""

import ast
import re
from importlib.metadata import requires, version
from importlib.resources import files
from pathlib import Path

import pytest

import fastapi_kit

ROOT = Path(__file__).parent.parent
MODULES = sorted((ROOT / "src" / "fastapi_kit").rglob("*.py"))


def test_version_is_the_installed_one() -> None:
    assert version("fastapi-service-kit") == fastapi_kit.__version__


def test_head_of_the_changelog_is_the_version() -> None:
    released = re.findall(r"^## \[(\d[^\]]*)\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert released[0] == fastapi_kit.__version__


def test_installed_package_is_typed() -> None:
    assert files(fastapi_kit).joinpath("py.typed").is_file()


def test_extra_all_holds_every_other_extra() -> None:
    requirements: dict[str, set[str]] = {}
    for line in requires("fastapi-service-kit") or ():
        requirement, _, extra = line.partition("; extra == ")
        requirements.setdefault(extra.strip("'"), set()).add(requirement)
    del requirements[""]
    everything = requirements.pop("all")
    assert everything == set().union(*requirements.values())


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT / "src")))
def test_module_has_a_docstring_and_names_what_is_public(path: Path) -> None:
    tree = ast.parse(path.read_text())
    assert ast.get_docstring(tree)
    assigned = {ast.unparse(node.targets[0]) for node in tree.body if isinstance(node, ast.Assign)}
    assert assigned & {"__all__", "__version__"} or len(tree.body) == 1


def test_navigation_and_pages_are_the_same() -> None:
    linked = re.findall(r"^ +- .*: (\S+\.md)$", (ROOT / "mkdocs.yml").read_text(), re.MULTILINE)
    pages = (path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs").rglob("*.md"))
    assert sorted(linked) == sorted(pages)


def test_example_of_the_readme_fits_on_one_screen() -> None:
    example = (ROOT / "README.md").read_text().split("```python\n")[1].split("```")[0]
    assert len(example.splitlines()) <= 40

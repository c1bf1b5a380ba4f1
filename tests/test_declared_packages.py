"""What the package imports is declared in pyproject.toml, and in an extra only if it can do without."""

import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

from declared_packages import canonical
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
ARROW = "gradual/data/arrow.py"  # says how to get pyarrow
TOOLS = {"docs", "benchmarks", "dev"}  # extras that are no part of the program


def names(requirements):
    return {canonical(Requirement(line).name) for line in requirements}


CORE = names(PROJECT["dependencies"])
EXTRAS = {extra: names(lines) for extra, lines in PROJECT["optional-dependencies"].items() if extra not in TOOLS}


def imports(path):
    """The packages that a module imports, each with whether it is imported together with the module."""
    found = []

    def look(node, at_once):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            return
        if isinstance(node, ast.Import):
            found.extend((alias.name, at_once) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            found.append((node.module, at_once))
        inside = isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
        for child in ast.iter_child_nodes(node):
            look(child, at_once and not inside)

    look(ast.parse(path.read_text(encoding="utf-8")), True)
    return [(name.partition(".")[0], at_once) for name, at_once in found]


def test_each_package_that_is_imported_is_declared():
    distributions = packages_distributions()
    optional = set().union(*EXTRAS.values())
    undeclared, too_early = set(), set()
    for path in (ROOT / "gradual").rglob("*.py"):
        place = str(path.relative_to(ROOT))
        for package, at_once in imports(path):
            if package == "gradual" or package in sys.stdlib_module_names:
                continue
            found = {canonical(name) for name in distributions.get(package, [package])}
            if not found & (CORE | optional):
                undeclared.add((place, package))
            elif not found & CORE and at_once:
                too_early.add(place)
    assert undeclared == set()
    assert too_early == {ARROW}


def test_each_extra_that_a_message_names_exists():
    text = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "gradual").rglob("*.py"))
    assert set(re.findall(r"gradual\[(\w+)\]", text)) == {*EXTRAS}

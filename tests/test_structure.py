"""By the syntax tree: no attribute is assigned from outside its class, no class is large without a written reason."""

from __future__ import annotations

import ast
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[1]

MEASURED = ("consumers", "publisher", "statecast")
"""The packages that are measured."""

MOST_ATTRIBUTES = 15
MOST_LINES = 300

ASSIGNED_FROM_OUTSIDE = {
    ("consumers/nofx/auto_trader.py", "self.trader.user_stream_enabled"): (
        "users of the NOFX bot may set this attribute of a trader at any time, and AutoTrader passes it on"
    ),
    **{
        ("publisher/__main__.py", f"parser.{name}"): "argparse takes a sub-command's texts only so"
        for name in ("description", "epilog", "formatter_class")
    },
    ("statecast/venues/http.py", "record.args"): "a filter of the standard library's logging changes the record",
}
"""Assignments to another object's attribute that stay, by file and target, with the reason."""


class Assignment(NamedTuple):
    line: int
    target: str


class Size(NamedTuple):
    name: str
    attributes: int
    lines: int

    @property
    def is_large(self) -> bool:
        return self.attributes > MOST_ATTRIBUTES or self.lines > MOST_LINES


def modules() -> list[Path]:
    return sorted(path for package in MEASURED for path in (ROOT / package).rglob("*.py"))


def in_module(path: Path) -> str:
    return path.relative_to(ROOT).with_suffix("").as_posix().replace("/", ".").removesuffix(".__init__")


# Assignments


def assignments_from_outside(source: str) -> list[Assignment]:
    """Every `x.y = …`, `x.y += …`, `del x.y`, `setattr(x, …)`, where x is neither `self` or `cls` in a class, nor an
    object that a method of its own class is making."""
    return sorted(_foreign(ast.parse(source), in_class=False, made=frozenset()))


def _foreign(node: ast.AST, *, in_class: bool, made: frozenset[str]) -> Iterator[Assignment]:
    if isinstance(node, ast.ClassDef):
        in_class, made = True, frozenset()
    elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and in_class:
        made |= _made_in(node)
    target: ast.expr | None = None
    if isinstance(node, ast.Attribute) and isinstance(node.ctx, (ast.Store, ast.Del)):
        target = node.value
    elif isinstance(node, ast.Call) and ast.unparse(node.func) in ("setattr", "delattr", "object.__setattr__"):
        target = node.args[0]
    if target is not None and not (
        in_class and isinstance(target, ast.Name) and (target.id in ("self", "cls") or target.id in made)
    ):
        yield Assignment(node.lineno, ast.unparse(node))  # type: ignore[attr-defined]  # an expression has a line
    for child in ast.iter_child_nodes(node):
        yield from _foreign(child, in_class=in_class, made=made)


def _made_in(method: ast.FunctionDef | ast.AsyncFunctionDef) -> frozenset[str]:
    """Local names for new objects of the method's own class."""
    makers = ("cls", "cls.__new__", "type(self)", "type(self).__new__", "object.__new__")
    return frozenset(
        target.id
        for node in ast.walk(method)
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call) and ast.unparse(node.value.func) in makers
        for target in node.targets
        if isinstance(target, ast.Name)
    )


def test_no_attribute_is_assigned_from_outside_its_class() -> None:
    found = [
        f"{name}:{assignment.line}: {assignment.target}"
        for path in modules()
        for name in [path.relative_to(ROOT).as_posix()]
        for assignment in assignments_from_outside(path.read_text("utf-8"))
        if (name, assignment.target) not in ASSIGNED_FROM_OUTSIDE
    ]
    assert not found, "give the class a method for it:\n" + "\n".join(found)


def test_the_exceptions_are_still_needed() -> None:
    there = {
        (path.relative_to(ROOT).as_posix(), assignment.target)
        for path in modules()
        for assignment in assignments_from_outside(path.read_text("utf-8"))
    }
    assert ASSIGNED_FROM_OUTSIDE.keys() <= there


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("class A:\n def f(self):\n  self.x = 1", []),
        ("class A:\n def f(self):\n  self.x.y = 1", ["self.x.y"]),
        ("class A:\n def f(self, other):\n  other.x += 1", ["other.x"]),
        ("class A:\n def f(self, other):\n  self.x, other.y = 1, 2", ["other.y"]),
        ("class A:\n def f(self, other):\n  del other.x", ["other.x"]),
        ("class A:\n def f(self, other):\n  setattr(other, 'x', 1)", ["setattr(other, 'x', 1)"]),
        ("class A:\n def f(self, others):\n  for others.x in ():\n   pass", ["others.x"]),
        ("class A:\n def f(self):\n  def g():\n   self.x = 1", []),
        ("def f(self):\n self.x = 1", ["self.x"]),
        ("def f(a):\n a.x = 1", ["a.x"]),
        ("class A:\n @classmethod\n def f(cls):\n  a = cls()\n  a.x = 1\n  return a", []),
        ("class A:\n def f(self):\n  a = object.__new__(type(self))\n  object.__setattr__(a, 'x', 1)", []),
        ("class A:\n def f(self):\n  a = B()\n  a.x = 1", ["a.x"]),
        ("class A:\n def f(self):\n  a = cls()\n def g(self, a):\n  a.x = 1", ["a.x"]),
    ],
)
def test_what_counts_as_an_assignment_from_outside(source: str, found: list[str]) -> None:
    assert [assignment.target for assignment in assignments_from_outside(source)] == found


# Sizes


def sizes(source: str, module: str) -> list[Size]:
    """Every class, how many attributes its methods assign to `self`, and its lines.

    The fields of a dataclass that can be changed count as well, those of a frozen one or a NamedTuple do not.
    """
    return [
        Size(f"{module}.{node.name}", len(_attributes(node)), (node.end_lineno or 0) - node.lineno + 1)
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.ClassDef)
    ]


def _attributes(kind: ast.ClassDef) -> set[str]:
    found = set()
    for node in _own_nodes(kind):
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and ast.unparse(node.value) == "self":
            found.add(node.attr)
    decorators = [ast.unparse(decorator) for decorator in kind.decorator_list]
    if any(decorator.startswith("dataclass") and "frozen=True" not in decorator for decorator in decorators):
        found |= {
            node.target.id
            for node in kind.body
            if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)
            if "ClassVar" not in ast.unparse(node.annotation)
        }
    return found


def _own_nodes(node: ast.AST) -> Iterator[ast.AST]:
    """All nodes within, but those of a class inside."""
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, ast.ClassDef):
            yield child
            yield from _own_nodes(child)


def large_classes() -> list[Size]:
    every = (size for path in modules() for size in sizes(path.read_text("utf-8"), in_module(path)))
    return [size for size in every if size.is_large]


def reasons() -> dict[str, str]:
    """By class, why it is large: the table under the heading "Large classes" of ARCHITECTURE.md."""
    text = (ROOT / "ARCHITECTURE.md").read_text("utf-8")
    _, heading, after = text.partition("\n## Large classes\n")
    assert heading, "ARCHITECTURE.md has no heading `## Large classes`"
    section = after.partition("\n## ")[0]
    return dict(re.findall(r"^\| `([\w.]+)` \| (\S.*?) \|$", section, re.MULTILINE))


def test_no_class_is_large_without_a_reason() -> None:
    unexplained = [
        f"{size.name}: {size.attributes} attributes, {size.lines} lines"
        for size in large_classes()
        if size.name not in reasons()
    ]
    limits = f"more than {MOST_ATTRIBUTES} attributes or {MOST_LINES} lines, and no reason in ARCHITECTURE.md"
    assert not unexplained, f"{limits}:\n" + "\n".join(unexplained)


def test_every_reason_is_that_of_a_large_class() -> None:
    assert reasons().keys() <= {size.name for size in large_classes()}


def test_what_counts_as_a_size() -> None:
    source = textwrap.dedent(
        """
        class A:
            limit = 5

            def __init__(self, other):
                self.a, self.b = 1, 2
                other.c = 3

            def f(self):
                self.a += 1
                self.d: int = 4

                class Inner:
                    def g(self):
                        self.e = 5


        @dataclass
        class B:
            a: int
            kind: ClassVar[str] = "b"


        @dataclass(frozen=True, slots=True)
        class C:
            a: int
        """
    )
    found = {size.name: (size.attributes, size.lines) for size in sizes(source, "m")}
    assert found == {"m.A": (3, 14), "m.Inner": (1, 3), "m.B": (1, 3), "m.C": (0, 2)}
    assert Size("m.A", MOST_ATTRIBUTES + 1, 1).is_large
    assert Size("m.A", 1, MOST_LINES + 1).is_large
    assert not Size("m.A", MOST_ATTRIBUTES, MOST_LINES).is_large

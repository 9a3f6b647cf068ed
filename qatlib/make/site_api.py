"""A page for each part of the package, from its docstrings: public names alone. Nothing is imported for it."""

import ast
import re

from qatlib.system import paths


def write(folder):
    """api/<room>.md for every room."""
    folder.mkdir()
    for room in paths.ROOMS:
        (folder / f"{room}.md").write_text(_page(room))


def _page(room):
    modules = sorted(path for path in (paths.PACKAGE / room).glob("*.py") if path.name != "__init__.py")
    package = ast.parse((paths.PACKAGE / room / "__init__.py").read_text())
    handed = [alias.name for node in package.body if isinstance(node, ast.ImportFrom) for alias in node.names]
    lines = [f"# {_escaped(f'qatlib.{room}')}", "", _text(package), ""]
    if handed:
        lines += [f"To import from `qatlib.{room}`: " + ", ".join(f"`{name}`" for name in sorted(handed)) + ".", ""]
    for path in modules:
        lines += _module(f"qatlib.{room}.{path.stem}", ast.parse(path.read_text()))
    return "\n".join(lines)


def _module(name, tree):
    yield from (f"## {_escaped(name)}", "", _text(tree), "")
    for node in _public(tree.body):
        yield from (f"### {_escaped(node.name)}", "", "```python", _signature(node), "```", "", _text(node), "")
        if isinstance(node, ast.ClassDef):
            for method in _public(node.body):
                yield from ("```python", f"{node.name}.{_signature(method)}", "```", "", _text(method), "")


def _public(body):
    """Functions and classes without an underscore that say what they are for."""
    kinds = (ast.FunctionDef, ast.ClassDef)
    return [node for node in body if isinstance(node, kinds) and node.name[0] != "_" and ast.get_docstring(node)]


def _signature(node):
    if isinstance(node, ast.FunctionDef):
        plain = any(
            getattr(d, "id", getattr(d, "attr", "")) in ("property", "cached_property") for d in node.decorator_list
        )
        return node.name if plain else f"{node.name}({ast.unparse(node.args)})"
    fields = [ast.unparse(part) for part in node.body if isinstance(part, ast.AnnAssign)]
    return f"class {node.name}" + (f"({', '.join(fields)})" if fields else "")


def _text(node):
    """A docstring as Markdown: indented lines stay as they are, elsewhere code between backticks is marked, no more."""
    lines = (ast.get_docstring(node) or "").splitlines()
    return "\n".join(line if line.startswith("    ") else _escaped(line) for line in lines)


def _escaped(line):
    parts = re.split(r"(`[^`]*`)", line)
    return "".join(part if i % 2 else re.sub(r"([\\*_{}<>\[\]$|#])", r"\\\1", part) for i, part in enumerate(parts))

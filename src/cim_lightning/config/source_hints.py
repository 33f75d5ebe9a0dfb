"""Type hints from the source of a module, without importing the classes that they name."""

import ast
import functools
import importlib
import sys
import typing
from typing import Any

from cim_lightning.config import source_code
from cim_lightning.config.source_code import SourceModule

BUILTINS: dict[str, Any] = {
    t.__name__: t for t in (int, float, str, bool, bytes, list, dict, tuple, set, object)
}


def evaluate_hint(node: ast.AST | None, source: SourceModule) -> Any:
    """Return a type hint. A class that is not imported becomes an empty class of the same name.

    No value of a configuration file is an instance of a class that would have to be imported.

    Args:
        node: of the hint; None: no hint, so any value.
        source: the module of the hint.
    """
    if node is None:
        return Any
    if isinstance(node, ast.Constant):
        return (
            evaluate_hint(ast.parse(node.value, mode="eval").body, source)
            if isinstance(node.value, str)
            else node.value
        )
    if isinstance(node, ast.Name | ast.Attribute):
        return _named(ast.unparse(node), source)
    if isinstance(node, ast.BinOp):
        return evaluate_hint(node.left, source) | evaluate_hint(node.right, source)
    if isinstance(node, ast.List):
        return [evaluate_hint(item, source) for item in node.elts]
    if isinstance(node, ast.Subscript):
        return _parametrized(node, source)
    return Any


def _parametrized(node: ast.Subscript, source: SourceModule) -> Any:
    """Return a hint with arguments, such as list[int]."""
    generic = evaluate_hint(node.value, source)
    items = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
    if generic is typing.Literal:
        return typing.Literal[tuple(ast.literal_eval(item) for item in items)]
    if getattr(generic, "is_stand_in", False) or generic is Any:  # such as an array with a shape
        return generic
    arguments = tuple(evaluate_hint(item, source) for item in items)
    return generic[arguments if isinstance(node.slice, ast.Tuple) else arguments[0]]


def _named(name: str, source: SourceModule) -> Any:
    head, _, rest = name.partition(".")
    if name in source.definitions:
        return _defined(source, source.definitions[name])
    if head in source.imports:
        return _imported(f"{source.imports[head]}.{rest}".rstrip("."))
    return BUILTINS.get(name, Any)


def _imported(name: str) -> Any:
    module, _, attribute = name.rpartition(".")
    if name.partition(".")[0] in sys.stdlib_module_names or module == "typing_extensions":
        return getattr(importlib.import_module(module), attribute)
    found = source_code.find(name)
    return stand_in(name) if found is None else _defined(*found)


def _defined(source: SourceModule, node: ast.AST) -> Any:
    """Return the hint that a definition means: a class, or the value of an alias."""
    return (
        stand_in(f"{source.name}.{node.name}")
        if isinstance(node, ast.ClassDef)
        else evaluate_hint(node, source)
    )


@functools.cache
def stand_in(name: str) -> type:
    """Return an empty class in place of one that is not imported.

    Its module has another name: beartype takes hints with the same text, such as "module.Class | None", for
    the same hint.
    """
    module, _, attribute = name.rpartition(".")
    return type(attribute, (), {"is_stand_in": True, "__module__": f"stand_in.{module}"})

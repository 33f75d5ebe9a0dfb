"""Mutants of Python sources: small changes of the syntax tree that should turn a test red."""

import ast
import random
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from operators import (
    ARITHMETIC,
    COMPARISONS,
    FIGURES,
    MESSAGE_ARGUMENTS,
    MESSAGES,
    MODES,
    NEUTRAL_ARGUMENTS,
    REMOVABLE,
    SWAPPED,
)


class Mutant(NamedTuple):
    """A replacement of bytes start:end of a file.

    Args:
        path: relative to the root of the repository.
        line, last_line: first and last line of the replaced code, from 1.
    """

    path: str
    function: str
    line: int
    last_line: int
    kind: str
    start: int
    end: int
    old: str
    new: str

    def apply(self, source: bytes) -> bytes:
        assert source[self.start : self.end].decode() == self.old, "the file has changed"
        return source[: self.start] + self.new.encode() + source[self.end :]


def sample(root: Path, packages: list[str], total: int, seed: int) -> list[Mutant]:
    """Return random mutants of packages, in proportion to their lines, at most one per line."""
    files = {package: sorted((root / "src/cim_lightning" / package).rglob("*.py")) for package in packages}
    lines = {name: sum(len(p.read_text().splitlines()) for p in paths) for name, paths in files.items()}
    chosen = []
    for package, paths in files.items():
        found = [mutant for path in paths for mutant in mutants(path, root)]
        random.Random(f"{seed} {package}").shuffle(found)
        by_line = {(mutant.path, mutant.line): mutant for mutant in reversed(found)}  # the first of each line
        first = [mutant for mutant in found if by_line[mutant.path, mutant.line] is mutant]
        chosen += first[: round(total * lines[package] / sum(lines.values()))]
    return chosen


def mutants(path: Path, root: Path) -> list[Mutant]:
    """Return all mutants of a file that compile."""
    source = path.read_bytes()
    starts = [0]
    for line in source.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))
    found = []
    for node, kind, new, function in _Visitor().changes(ast.parse(source)):
        start, end = (
            starts[node.lineno - 1] + node.col_offset,
            starts[node.end_lineno - 1] + node.end_col_offset,
        )
        old = source[start:end].decode()
        place = (str(path.relative_to(root)), function, node.lineno, node.end_lineno)
        mutant = Mutant(*place, kind, start, end, old, new)
        try:
            compile(mutant.apply(source), path, "exec")
        except SyntaxError:
            continue
        if ast.dump(ast.parse(mutant.apply(source))) != ast.dump(ast.parse(source)):
            found.append(mutant)
    return found


class _Visitor:
    """Walk a syntax tree, without code that only a reader sees: messages, annotations and figures."""

    def changes(self, node: ast.AST, function: str = "") -> Iterator[tuple[ast.AST, str, str, str]]:
        """Yield (replaced node, kind, new code, enclosing function)."""
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            function = f"{function}.{node.name}".lstrip(".")
            if (
                function.endswith(FIGURES)
                or "Figure" in ast.unparse(getattr(node, "returns", None) or ast.Constant(""))
                or node.name == "__repr__"
            ):
                return
            for decorator in node.decorator_list:
                if any(mode in ast.unparse(decorator) for mode in MODES):
                    yield decorator, "decorator", "(lambda f: f)", function
        for kind, new in _replacements(node):
            yield node, kind, new, function
        if isinstance(node, ast.If | ast.While):
            yield node.test, "condition", f"not ({ast.unparse(node.test)})", function
        if isinstance(node, ast.With) and not node.items[0].optional_vars:
            yield node.items[0].context_expr, "context", '__import__("contextlib").nullcontext()', function
        for child in _behavior(node):
            yield from self.changes(child, function)


def _behavior(node: ast.AST) -> Iterator[ast.AST]:
    """Yield the child nodes that can change behavior."""
    if isinstance(node, ast.Raise | ast.JoinedStr | ast.Assert):
        return
    if isinstance(node, ast.Call):
        name = _name(node.func)
        if name in MESSAGES or ast.unparse(node.func).startswith(
            ("log.", "axes.", "figure.", "logging.", "warn")
        ):
            # The iterable of a progress bar is code.
            yield from node.args[:1] if name == "tqdm" else ()
            return
        yield node.func
        yield from node.args
        yield from (
            word.value for word in node.keywords if word.arg not in MESSAGE_ARGUMENTS | NEUTRAL_ARGUMENTS
        )
        return
    for field, value in ast.iter_fields(node):
        if field not in ("annotation", "returns", "decorator_list", "bases"):
            yield from (
                item for item in (value if isinstance(value, list) else [value]) if isinstance(item, ast.AST)
            )


def _replacements(node: ast.AST) -> Iterator[tuple[str, str]]:
    """Yield (kind, new code) for one node."""
    match node:
        case ast.Compare():
            for i, op in enumerate(node.ops):
                ops = [*node.ops[:i], COMPARISONS[type(op)](), *node.ops[i + 1 :]]
                yield "comparison", f"({ast.unparse(ast.Compare(node.left, ops, node.comparators))})"
        case ast.BinOp(op=op) if type(op) in ARITHMETIC:
            yield "arithmetic", f"({ast.unparse(ast.BinOp(node.left, ARITHMETIC[type(op)](), node.right))})"
        case ast.BoolOp():
            other = ast.And() if isinstance(node.op, ast.Or) else ast.Or()
            yield "boolean", f"({ast.unparse(ast.BoolOp(other, node.values))})"
        case ast.UnaryOp(op=ast.Not() | ast.USub()):
            yield "unary", f"({ast.unparse(node.operand)})"
        case ast.IfExp():
            yield "condition", f"({ast.unparse(ast.IfExp(node.test, node.orelse, node.body))})"
        case ast.Constant(value=bool()):
            yield "constant", str(not node.value)
        case ast.Constant(value=int()):
            yield "constant", str(node.value + 1)
        case ast.Constant(value=float()):
            yield "constant", repr(node.value * 2 or 1.0)
        case ast.Slice() if node.lower or node.upper:
            yield "slice", ":" + (f":{ast.unparse(node.step)}" if node.step else "")
        case ast.AugAssign():
            yield "statement", "pass"
        case ast.Expr(value=ast.Call() as call) if not _is_message(call):
            yield "statement", "pass"
        case ast.Call() if not _is_message(node):
            yield from _changed_calls(node)


def _changed_calls(node: ast.Call) -> Iterator[tuple[str, str]]:
    name = _name(node.func)
    method = isinstance(node.func, ast.Attribute)
    if name in SWAPPED and not ast.unparse(node.func).startswith("self."):  # self.log
        prefix = f"{ast.unparse(node.func.value)}." if method else ""
        yield "swapped", ast.unparse(node).replace(f"{prefix}{name}(", f"{prefix}{SWAPPED[name]}(", 1)
    if name in REMOVABLE:
        is_module = (
            method
            and isinstance(node.func.value, ast.Name)
            and node.func.value.id in ("F", "torch", "copy", "math", "np")
        )
        kept = node.args[0] if (is_module or not method or name == "normalize") and node.args else None
        kept = kept or (node.func.value if method else None)
        if kept is not None:
            yield "removed call", f"({ast.unparse(kept)})"
    for word in node.keywords:
        if word.arg and word.arg not in MESSAGE_ARGUMENTS | NEUTRAL_ARGUMENTS:
            others = [other for other in node.keywords if other is not word]
            yield "removed argument", ast.unparse(ast.Call(node.func, node.args, others))


def _is_message(call: ast.Call) -> bool:
    code = ast.unparse(call.func)
    return _name(call.func) in MESSAGES or code.startswith(
        ("log.", "logging.", "warn", "bar.", "axes.", "figure.")
    )


def _name(function: ast.expr) -> str:
    return getattr(function, "attr", getattr(function, "id", ""))

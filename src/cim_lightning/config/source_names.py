"""Values of names in the source of a module: constants, checks, and what is unknown without an import."""

import ast
import contextlib
import copy
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from cim_lightning import checks, errors
from cim_lightning.config import source_code
from cim_lightning.config.source_code import SourceModule
from cim_lightning.data.files import check_path, existing_folder
from cim_lightning.errors import ConfigError

FUNCTIONS = (
    abs,
    all,
    any,
    dict,
    enumerate,
    float,
    int,
    len,
    list,
    max,
    min,
    round,
    set,
    sorted,
    str,
    sum,
    tuple,
    zip,
)
IMPORTED: dict[str, Any] = {"math": math}
IMPORTED |= {
    f"{module.__name__}.{name}": value for module in (checks, errors) for name, value in vars(module).items()
}
FILE_CHECKS = {f"{check.__module__}.{check.__name__}": check for check in (check_path, existing_folder)}


@contextlib.contextmanager
def checks_of_files() -> Iterator[None]:
    """Run the checks of data/files.py in the block as well: they depend on the disk, not only on settings."""
    IMPORTED.update(FILE_CHECKS)
    try:
        yield
    finally:
        for name in FILE_CHECKS:
            del IMPORTED[name]


class Undecided(Exception):
    """The source alone cannot tell."""


class Unknown:
    """A value that only an import can tell. Its attributes are unknown, too; other uses raise Undecided."""

    def _undecided(self, *args: Any, **kwargs: Any) -> Any:
        raise Undecided

    __bool__ = __len__ = __iter__ = __call__ = __getitem__ = __contains__ = __hash__ = _undecided
    __eq__ = __ne__ = __lt__ = __le__ = __gt__ = __ge__ = __str__ = __repr__ = __format__ = _undecided
    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __truediv__ = __rtruediv__ = _undecided
    __floordiv__ = __rfloordiv__ = __mod__ = __rmod__ = __pow__ = __rpow__ = __neg__ = __abs__ = _undecided
    __and__ = __rand__ = __or__ = __ror__ = __int__ = __float__ = __index__ = __round__ = _undecided

    def __getattr__(self, name: str) -> "Unknown":
        if name.startswith("__"):
            raise AttributeError(name)
        return UNKNOWN

    def __deepcopy__(self, memo: Any) -> "Unknown":
        return self


class Instance:
    """An object of which only the attributes that were set are known."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return UNKNOWN


UNKNOWN, BUILT = Unknown(), Unknown()  # BUILT: an object, so not None


class Names(dict[str, Any]):
    """The names that a function of a module sees: `exec` looks them up here.

    Args:
        source: the module.
        local: names of the function.
        construct: returns what stands for a class of this project: it runs the checks of its constructor.
    """

    def __init__(
        self,
        source: SourceModule,
        local: Mapping[str, Any],
        construct: Callable[[SourceModule, ast.ClassDef], Any] = lambda source, node: UNKNOWN,
    ):
        super().__init__(local, __builtins__={}, _is=_is, isinstance=_isinstance, getattr=_getattr)
        self.update((function.__name__, function) for function in FUNCTIONS)
        self.update(local)
        self.source, self.construct = source, construct

    def __missing__(self, name: str) -> Any:
        self[name] = UNKNOWN  # while a definition refers to itself
        imported = self.source.imports.get(name)
        if name in self.source.definitions:
            self[name] = self._defined(self.source, self.source.definitions[name])
        elif imported in IMPORTED:
            self[name] = IMPORTED[imported]
        elif imported and (found := source_code.find(imported)):
            self[name] = self._defined(*found)
        return self[name]

    def evaluate(self, node: ast.expr) -> Any:
        """Return the value of an expression, or raise Undecided."""
        guarded = _GuardIs().visit(copy.deepcopy(node))
        expression = ast.fix_missing_locations(ast.Expression(guarded))
        with _only_user_errors():
            return eval(compile(expression, self.source.name, "eval"), self)

    def execute(self, node: ast.stmt) -> None:
        """Run a statement, or raise Undecided."""
        guarded = _GuardIs().visit(copy.deepcopy(node))
        module = ast.fix_missing_locations(ast.Module([guarded], []))
        with _only_user_errors():
            exec(compile(module, self.source.name, "exec"), self)

    def _defined(self, source: SourceModule, node: ast.AST) -> Any:
        """Return the value of a constant, a function whose name starts with check_, or a class."""
        names = self if source is self.source else Names(source, {}, self.construct)
        if isinstance(node, ast.expr):
            with contextlib.suppress(Undecided):
                return names.evaluate(node)
        elif isinstance(node, ast.FunctionDef) and node.name.startswith("check_"):
            return _function(Names(source, {}, self.construct), node)
        elif isinstance(node, ast.ClassDef):
            return self.construct(source, node)
        return UNKNOWN


def _function(names: Names, node: ast.FunctionDef) -> Callable[..., Any]:
    """Return a function of a module, which sees the names of its module."""
    plain = copy.deepcopy(node)
    for child in ast.walk(plain):
        if isinstance(child, ast.arg):
            child.annotation = None
        elif isinstance(child, ast.FunctionDef):
            child.returns, child.decorator_list = None, []
    names.execute(plain)
    return names[node.name]


class _GuardIs(ast.NodeTransformer):
    """Replaces `a is b` by `_is(a, b)`, since an unknown value may be None."""

    def visit_Compare(self, node: ast.Compare) -> ast.AST:
        self.generic_visit(node)
        if not isinstance(node.ops[0], ast.Is | ast.IsNot):
            return node
        call = ast.Call(ast.Name("_is", ast.Load()), [node.left, node.comparators[0]], [])
        return call if isinstance(node.ops[0], ast.Is) else ast.UnaryOp(ast.Not(), call)


def _is(left: Any, right: Any) -> bool:
    if UNKNOWN is left or UNKNOWN is right:
        raise Undecided
    return left is right


def _isinstance(value: Any, kind: Any) -> bool:
    if isinstance(value, Unknown):
        raise Undecided
    return isinstance(value, kind)


def _getattr(owner: Any, name: str) -> Any:
    return getattr(owner, name)


@contextlib.contextmanager
def _only_user_errors() -> Iterator[None]:
    """Turn every exception except ConfigError into Undecided."""
    try:
        yield
    except ConfigError:
        raise
    except Exception as error:
        raise Undecided from error

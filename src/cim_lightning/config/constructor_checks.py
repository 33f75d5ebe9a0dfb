"""Run the checks in the constructor of a target from its source, without importing it.

A constructor checks its parameters with plain statements: `check_at_least("k", k, 1)`, or `if` with
`raise ConfigError(...)`. They run here with the real functions of checks.py, so that the constructor stays
the one place that has the rules. Everything else, such as a network that is built, is `UNKNOWN`. A statement
that needs an unknown value is skipped here. It runs when the target is built.
"""

import ast
import contextlib
import copy
import functools
from collections.abc import Mapping, Sequence
from typing import Any

from cim_lightning.config import source_code
from cim_lightning.config.signatures import Signature, constructor, lineage, method, read_signature
from cim_lightning.config.source_code import SourceModule
from cim_lightning.config.source_names import UNKNOWN, Instance, Names, Undecided


class _Returned(Exception):
    """The function returned, or may have returned."""


def run_checks(target: str, settings: Mapping[str, Any], partial: bool = False) -> list[str]:
    """Run the checks of a constructor or function that can run without imports.

    Args:
        target: full name of the class or function.
        settings: the arguments that are known; UNKNOWN for an argument that is not.
        partial: other arguments follow later, as for `_partial_: true`.

    Returns:
        The statements with checks that were skipped.

    Raises:
        ConfigError: a check failed.
    """
    found, signature = source_code.find(target), read_signature(target)
    if found is None or signature is None:
        return []
    source, node = found
    arguments = _bind(signature, settings, source, partial)
    skipped: list[str] = []
    if isinstance(node, ast.FunctionDef):
        _Body(source, arguments, skipped).run(node.body)
    elif isinstance(node, ast.ClassDef):
        _construct(source, node, arguments, skipped)
    return skipped


def _bind(
    signature: Signature, settings: Mapping[str, Any], source: SourceModule, partial: bool = False
) -> dict[str, Any]:
    """Return the values of all parameters."""
    values = {}
    for name, parameter in signature.parameters.items():
        if name in settings:
            values[name] = copy.deepcopy(settings[name])
        elif parameter.default is None or partial:
            values[name] = UNKNOWN
        else:
            values[name] = UNKNOWN
            with contextlib.suppress(Undecided):
                values[name] = Names(source, {}).evaluate(parameter.default)
    return values


def _construct(
    source: SourceModule, node: ast.ClassDef, arguments: dict[str, Any], skipped: list[str]
) -> Instance:
    """Run the constructor of a class, and return the instance."""
    instance = Instance()
    if (found := constructor(source, node)) is None:
        raise Undecided
    owner, base, function = found
    if function is None or function.name == "__post_init__":
        vars(instance).update(arguments)
    if function is not None:
        _run_method((instance, owner, base), function, arguments, skipped)
    return instance


def _run_method(
    owner: tuple[Instance, SourceModule, ast.ClassDef],
    function: ast.FunctionDef,
    arguments: dict[str, Any],
    skipped: list[str],
) -> None:
    names = [arg.arg for arg in (*function.args.args, *function.args.kwonlyargs)]
    known = {name: arguments.get(name, UNKNOWN) for name in names[1:]}
    _Body(owner[1], {**known, names[0]: owner[0]}, skipped, owner).run(function.body)


def _class(skipped: list[str], source: SourceModule, node: ast.ClassDef) -> Any:
    """Return what stands for a class: calling it runs the checks of its constructor."""

    def construct(*args: Any, **kwargs: Any) -> Instance:
        signature = read_signature(f"{source.name}.{node.name}")
        if signature is None:
            raise Undecided
        given = dict(zip(signature.parameters, args, strict=False)) | kwargs
        return _construct(source, node, _bind(signature, given, source), skipped)

    return construct


class _Body:
    """Runs the statements of a function that need only known values.

    Args:
        source: the module of the function.
        arguments: of the function.
        skipped: receives the statements with checks that were not run.
        owner: of a constructor: the instance, and the class with its module.
    """

    def __init__(
        self,
        source: SourceModule,
        arguments: dict[str, Any],
        skipped: list[str],
        owner: tuple[Instance, SourceModule, ast.ClassDef] | None = None,
    ):
        self.skipped, self.owner = skipped, owner
        self.names = Names(source, arguments | {"super": self._super}, functools.partial(_class, skipped))

    def run(self, body: Sequence[ast.stmt]) -> None:
        with contextlib.suppress(_Returned):
            self._run(body)

    def _run(self, body: Sequence[ast.stmt]) -> None:
        for statement in body:
            try:
                self._run_one(statement)
            except Undecided:
                self._skip(statement)

    def _run_one(self, node: ast.stmt) -> None:
        if isinstance(node, ast.Return):
            raise _Returned
        if isinstance(node, ast.If):
            self._run(node.body if self.names.evaluate(node.test) else node.orelse)
        elif isinstance(node, ast.For):
            for item in self.names.evaluate(node.iter):
                self.names["_item"] = item
                self.names.execute(ast.Assign([node.target], ast.Name("_item", ast.Load())))
                self._run(node.body)
        elif isinstance(node, ast.Expr | ast.Assign | ast.AnnAssign | ast.Raise):
            self.names.execute(node)
        else:
            raise Undecided

    def _skip(self, node: ast.stmt) -> None:
        """Forget what a statement may have changed, and stop if it may have returned."""
        inside = [*ast.walk(node)]
        called = [ast.unparse(child.func) for child in inside if isinstance(child, ast.Call)]
        if any(name == "ConfigError" or name.startswith("check_") for name in called):
            self.skipped.append(ast.unparse(node))
        for child in inside:
            if isinstance(child, ast.Name) and isinstance(child.ctx, ast.Store):
                self.names[child.id] = UNKNOWN
            elif isinstance(child, ast.Attribute) and isinstance(child.ctx, ast.Store):
                owner = self.names[child.value.id] if isinstance(child.value, ast.Name) else None
                if isinstance(owner, Instance):
                    setattr(owner, child.attr, UNKNOWN)
        if any(isinstance(child, ast.Return) for child in inside):
            raise _Returned

    def _super(self) -> Instance:
        """Return an object whose constructor runs the checks of the base classes."""
        parent = Instance()
        if self.owner is None:
            raise Undecided
        instance, source, node = self.owner
        for owner, base in [*lineage(source, node)][1:]:
            for name in ("__init__", "__post_init__"):
                if (function := method(base, name)) and name not in vars(parent):
                    call = functools.partial(self._run_base, (instance, owner, base), function)
                    setattr(parent, name, call)
        return parent

    def _run_base(
        self,
        owner: tuple[Instance, SourceModule, ast.ClassDef],
        function: ast.FunctionDef,
        *args: Any,
        **kwargs: Any,
    ) -> None:
        names = [arg.arg for arg in function.args.args][1:]
        _run_method(owner, function, dict(zip(names, args, strict=False)) | kwargs, self.skipped)

"""Signatures of targets: read from the source where possible, since an import may take seconds."""

import ast
import inspect
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, get_type_hints

from hydra.utils import get_object

from cim_lightning.config import source_code
from cim_lightning.config.source_code import SourceModule
from cim_lightning.config.source_hints import evaluate_hint
from cim_lightning.errors import ConfigError

Function = ast.FunctionDef
POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


@dataclass(frozen=True)
class Parameter:
    """A parameter that can be given by name.

    Attributes:
        hint: its type.
        required: whether it has no default.
        default: expression of the default, where it was read from the source.
    """

    hint: Any = Any
    required: bool = False
    default: ast.expr | None = None


@dataclass(frozen=True)
class Signature:
    """What a target accepts.

    Attributes:
        target: name of the class or function.
        parameters: by name.
        any_name: whether it accepts other names, as **kwargs.
        positional: parameters that can be given by position, in their order, and whether each is required;
            None: any number of them, as *args.
    """

    target: str
    parameters: Mapping[str, Parameter] = field(default_factory=dict)
    any_name: bool = False
    positional: Mapping[str, bool] | None = None


def read_signature(name: str) -> Signature | None:
    """Return the signature of a target from its source; None if only an import can tell."""
    found = source_code.find(name)
    if found is None:
        return None
    source, node = found
    if isinstance(node, Function):
        return _of_function(node, source, node.name, skip=0)
    if not isinstance(node, ast.ClassDef):
        return None
    fields: dict[str, Parameter] = {}
    for owner, base in reversed([*lineage(source, node)]):
        if is_dataclass(base):
            fields |= dict(_fields(base, owner))
    owner = constructor(source, node)
    if owner is not None and isinstance(owner[2], Function) and owner[2].name == "__init__":
        return _of_function(owner[2], owner[0], node.name, skip=1)
    positional = {field_name: parameter.required for field_name, parameter in fields.items()}
    return Signature(node.name, fields, positional=positional) if fields or not node.bases else None


def imported_signature(path: str, name: str) -> Signature | None:
    """Return the signature of a target that is imported; None if it has none, as a built-in class.

    Raises:
        ConfigError: there is no such target.
    """
    target = _import(path, name)
    try:
        found = inspect.signature(target).parameters
    except ValueError:
        return None
    hints = _type_hints(target)
    parameters = {
        name: Parameter(hints.get(name, Any), parameter.default is parameter.empty)
        for name, parameter in found.items()
        if parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
    }
    kinds = {parameter.kind for parameter in found.values()}
    by_position = {p.name: p.default is p.empty for p in found.values() if p.kind in POSITIONAL}
    positional = None if inspect.Parameter.VAR_POSITIONAL in kinds else by_position
    any_name = inspect.Parameter.VAR_KEYWORD in kinds
    return Signature(getattr(target, "__qualname__", str(target)), parameters, any_name, positional)


def accepts(target: str, name: str) -> bool:
    """Return whether a target of another library has a parameter; conf/ has all parameters of our own."""
    if not target or target.startswith("cim_lightning."):
        return False
    try:
        signature = read_signature(target) or imported_signature("", target)
    except (ImportError, ConfigError):
        return False
    return signature is not None and name in signature.parameters


def lineage(source: SourceModule, node: ast.ClassDef) -> Iterator[tuple[SourceModule, ast.ClassDef]]:
    """Yield a class and its base classes whose source is read, the class first."""
    yield source, node
    for base in node.bases:
        name = ast.unparse(base)
        head, _, rest = name.partition(".")
        full = (
            f"{source.imports[head]}.{rest}".rstrip(".")
            if head in source.imports
            else f"{source.name}.{name}"
        )
        found = source_code.find(full)
        if found is not None and isinstance(found[1], ast.ClassDef):
            yield from lineage(found[0], found[1])


def constructor(
    source: SourceModule, node: ast.ClassDef
) -> tuple[SourceModule, ast.ClassDef, Function | None] | None:
    """Return the first class of a lineage that is a dataclass or has a constructor.

    Returns:
        Its module, the class, and its `__init__`, else its `__post_init__`, else None. None if there is no
        such class.
    """
    for owner, base in lineage(source, node):
        methods = {item.name: item for item in base.body if isinstance(item, Function)}
        if "__init__" in methods:
            return owner, base, methods["__init__"]
        if is_dataclass(base):
            post_init = (m for o, b in lineage(owner, base) for m in [method(b, "__post_init__")] if m)
            return owner, base, next(post_init, None)
    return None


def is_dataclass(node: ast.ClassDef) -> bool:
    names = [ast.unparse(d.func if isinstance(d, ast.Call) else d) for d in node.decorator_list]
    return any(name.rpartition(".")[2] == "dataclass" for name in names)


def method(node: ast.ClassDef, name: str) -> Function | None:
    return next((item for item in node.body if isinstance(item, Function) and item.name == name), None)


def _fields(node: ast.ClassDef, source: SourceModule) -> Iterator[tuple[str, Parameter]]:
    """Yield the fields of a dataclass that its constructor accepts."""
    for item in node.body:
        if not isinstance(item, ast.AnnAssign) or not isinstance(item.target, ast.Name):
            continue
        if "ClassVar" in ast.unparse(item.annotation):
            continue
        default, required = item.value, item.value is None
        if isinstance(default, ast.Call) and ast.unparse(default.func).rpartition(".")[2] == "field":
            given = {keyword.arg: keyword.value for keyword in default.keywords}
            if "init" in given and ast.unparse(given["init"]) == "False":
                continue
            default, required = given.get("default"), not {"default", "default_factory"} & given.keys()
        yield item.target.id, Parameter(evaluate_hint(item.annotation, source), required, default)


def _of_function(node: Function, source: SourceModule, target: str, skip: int) -> Signature:
    """Return the signature of a function; `skip`: 1 for a method."""
    args = node.args
    positional = [*args.posonlyargs, *args.args]
    required: list[ast.expr | None] = [None] * (len(positional) - len(args.defaults))
    pairs = [*zip(positional, [*required, *args.defaults], strict=True)][skip:]
    by_position = {arg.arg: default is None for arg, default in pairs}
    pairs += zip(args.kwonlyargs, args.kw_defaults, strict=True)
    parameters = {
        arg.arg: Parameter(evaluate_hint(arg.annotation, source), default is None, default)
        for arg, default in pairs
    }
    return Signature(target, parameters, args.kwarg is not None, None if args.vararg else by_position)


def _import(path: str, name: str) -> Any:
    try:
        return get_object(name)
    except ImportError as error:
        cause = error.__cause__
        if not isinstance(cause, ModuleNotFoundError) or not name.startswith(f"{cause.name}"):
            raise  # the module exists and fails to import
        raise ConfigError(f"{path}._target_", name, f"cannot be imported: {cause}") from error


def _type_hints(target: Any) -> Mapping[str, Any]:
    try:
        return get_type_hints(target.__init__ if inspect.isclass(target) else target)
    except (NameError, TypeError):  # hints of another library that resolve only inside its module
        return {}

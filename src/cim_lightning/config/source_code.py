"""Find definitions in the source of modules, without importing them: torch and Lightning take seconds."""

import ast
import functools
import importlib.util
from collections.abc import Iterator, Sequence
from pathlib import Path

READABLE = ("cim_lightning", "lightning")  # packages whose source is read; others are imported


class SourceModule:
    """The top-level definitions of a module.

    Attributes:
        name: such as "cim_lightning.optim".
        definitions: classes, functions and values of constants, by name.
        imports: full names of what the module imports, by the name that it uses.
    """

    def __init__(self, name: str, file: Path):
        self.name = name
        self.definitions: dict[str, ast.AST] = {}
        self.imports: dict[str, str] = {}
        package = name if file.name == "__init__.py" else name.rpartition(".")[0]
        for node in _statements(ast.parse(file.read_text("utf-8")).body):
            self._add(node, package)

    def _add(self, node: ast.stmt, package: str) -> None:
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            self.definitions.setdefault(node.name, node)
        elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            self.definitions.setdefault(node.targets[0].id, node.value)
        elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Tuple):  # A, B = 1, 2
            if isinstance(node.value, ast.Tuple):
                for target, value in zip(node.targets[0].elts, node.value.elts, strict=False):
                    self.definitions.setdefault(ast.unparse(target), value)
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value:
            self.definitions.setdefault(node.target.id, node.value)
        elif isinstance(node, ast.Import):
            for alias in node.names:
                full = alias.name if alias.asname else alias.name.partition(".")[0]
                self.imports.setdefault(alias.asname or full, full)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            module = ".".join([*above, *([node.module] if node.module else [])])
            for alias in node.names:
                self.imports.setdefault(alias.asname or alias.name, f"{module}.{alias.name}")


def find(name: str) -> tuple[SourceModule, ast.AST] | None:
    """Return a definition and the module that has it; None if its source is not read.

    Args:
        name: full name, such as "lightning.Trainer"; names that a module imports from another are followed.
    """
    module, _, attribute = name.rpartition(".")
    source = load(module) if module else None
    if source is None:
        return None
    if attribute in source.definitions:
        return source, source.definitions[attribute]
    imported = source.imports.get(attribute)
    return find(imported) if imported and imported != name else None


@functools.cache
def load(name: str) -> SourceModule | None:
    """Return a module of a readable package; None for any other."""
    top, *parts = name.split(".")
    spec = importlib.util.find_spec(top) if top in READABLE else None  # a package alone is not imported
    if spec is None or not spec.submodule_search_locations:
        return None
    path = Path(spec.submodule_search_locations[0]).joinpath(*parts)
    files = (path / "__init__.py", path.with_suffix(".py")) if parts else (path / "__init__.py",)
    file = next((file for file in files if file.is_file()), None)
    return None if file is None else SourceModule(name, file)


def _statements(body: Sequence[ast.stmt]) -> Iterator[ast.stmt]:
    """Yield the statements of a module, also those under `if` and `try`."""
    for node in body:
        if isinstance(node, ast.If | ast.Try):
            yield from _statements([*node.body, *node.orelse])
        else:
            yield node

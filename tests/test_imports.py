"""The import graph: four layers, imports point downwards only."""

import ast
import functools
import graphlib
from pathlib import Path

import pytest

import cim_lightning

ROOT = Path(cim_lightning.__file__).parent
NAME = "cim_lightning"

# Layer 1: modules that any module may import.
FOUNDATION = {
    "errors",
    "checks",
    "close_names",
    "rng",
    "image_random",
    "atomic",
    "free_memory",
    "versions",
    "metric_registry",
    "lightning_internals",
    "old_settings",
    "stop_signals",
    "schedule",
}

# Modules of a numerical package that import Lightning, because they train a network.
TRAINS = (
    "evaluation.attentive_module",
    "evaluation.trainer_factory",
    "evaluation.fitting",
    "evaluation.finetuning",
    "evaluation.segmentation",
)

# Package or module -> what else of this project it may import, from its own layer or a lower one.
ALLOWED = {
    "__init__": {"api", "cropping", "data", "methods", "models"},  # the public names, imported on first use
    **{name: set() for name in FOUNDATION},
    # Layer 2
    "cropping": set(),
    "models": {"optim", "weights"},
    "optim": set(),
    "finite_step": set(),
    "step_metrics": set(),
    "data": {"cropping"},
    "weights": set(),
    "checkpoint": {"models", "weights", "checkpoint_files"},
    "checkpoint_files": {"weights"},
    "checkpoint_io": {"checkpoint_files"},
    "config": {
        "checkpoint",
        "checkpoint_files",
        "checkpoint_io",
        "cropping.cropper",
        "data.files",
        "models",
        "flops",
    },
    "report": {"config.result_settings"},
    # Layer 3
    "flops": {"cropping.batch"},
    "budget": set(),
    "methods": {"models", "cropping", "optim", "finite_step", "step_metrics", "config.load_run"},
    "formats": {"models"},
    "evaluation": {
        "checkpoint_files",
        "checkpoint_io",
        *("models", "optim", "cropping"),
        *("data.batch", "data.resumable", "data.sampler", "data.segmentation", "data.view_dataset"),
        *("data.mask_check", "data.segmentation_batches", "data.label_share"),
        *("data.source", "data.image_keys", "data.loader", "data.eval_batches"),
        *("callbacks.checkpoints", "callbacks.progress", "callbacks.step_seed", "callbacks.throughput"),
    },
    "callbacks": {
        "checkpoint_files",
        "methods.method",
        "evaluation",
        "cropping",
        "models",
        "flops",
        "finite_step",
        *("data.source", "data.batch", "data.reading", "data.bad_images"),
        "loggers.protocols",
    },
    "loggers": set(),
    "replay": {
        *("callbacks.nonfinite_records", "callbacks.step_seed"),
        *("checkpoint", "config.from_checkpoint", "config.trusted_targets", "data.batch", "finite_step"),
    },
    "doctor": {"config.machine", "cropping.batch", "data.resampling", "optim", "replay"},
    # Layer 4
    "api": {"config", "data", "evaluation", "methods", "models"},
    "cli": {
        "config",
        "checkpoint",
        "checkpoint_files",
        "models",
        "doctor",
        "replay",
        "evaluation",
        "formats",
        "report",
        "flops",
        "budget",
        *("data.file_index", "data.given_splits"),
        "loggers.protocols",
        "methods",
        "cropping.views",
        "data.bad_images",
        *("data.archive_folder", "data.archiving", "data.pixel_format", "data.stored_image"),
        "data.pixel_stats",
        "weights.location",
    },
}


def name_of(path: Path) -> str:
    """Return the module name: methods.cim for methods/cim.py, methods for methods/__init__.py."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if len(parts) > 1 and parts[-1] == "__init__" else parts)


MODULES = {name_of(path): path for path in sorted(ROOT.rglob("*.py"))}


@functools.cache
def imports(source: str) -> set[str]:
    """Return all modules in the import statements of a source, at any depth."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute in this project"
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


@functools.cache
def internal(name: str) -> set[str]:
    """Return the modules of this project that a module imports."""
    inside = {module.removeprefix(f"{NAME}.") for module in imports(MODULES[name].read_text())}
    return inside & MODULES.keys()


@functools.cache
def external(name: str) -> set[str]:
    """Return the other top-level packages that a module imports."""
    return {module.partition(".")[0] for module in imports(MODULES[name].read_text())} - {NAME}


def is_in(name: str, package: str) -> bool:
    return name == package or name.startswith(f"{package}.")


def test_imports_at_any_depth_are_found():
    source = "import a.b\ndef f():\n    from c.d import e\nif x:\n    import g as h\n"
    assert imports(source) == {"a.b", "c.d", "c.d.e", "g"}
    assert "cropping.boxes" in internal("cropping.exemplars")
    assert "models.backbone" in internal("methods.cim")


@pytest.mark.parametrize("name", MODULES)
def test_a_module_imports_only_from_its_layer_or_below(name):
    package = name.partition(".")[0]
    allowed = ALLOWED[package] | {package} | FOUNDATION
    for imported in internal(name):
        assert any(is_in(imported, package) for package in allowed), f"{name} imports {imported}"


@pytest.mark.parametrize("name", [name for name in MODULES if name.startswith("methods.")])
def test_no_method_imports_another(name):
    assert {module for module in internal(name) if is_in(module, "methods")} <= {"methods.method"}


@pytest.mark.parametrize("name", MODULES)
def test_only_cli_config_and_api_import_hydra_and_omegaconf(name):
    if name.partition(".")[0] not in ("cli", "config", "api"):
        assert not external(name) & {"hydra", "omegaconf"}


@pytest.mark.parametrize(
    "package", ["cropping", "models", "optim", "evaluation", "formats", "report", "flops", "budget"]
)
def test_numerical_packages_import_neither_lightning_nor_wandb(package):
    for name in MODULES:
        if is_in(name, package):
            trains = any(is_in(name, module) for module in TRAINS)
            assert not external(name) & {"wandb", *(() if trains else ["lightning"])}, name


def test_there_is_no_import_cycle():
    graph = {name: internal(name) for name in MODULES if name != "__init__"}
    graphlib.TopologicalSorter(graph).prepare()  # raises CycleError


def test_no_module_has_a_vague_name():
    vague = {"util", "utils", "helper", "helpers", "common", "misc", "tools"}
    assert not {part for name in MODULES for part in name.split(".")} & vague


def test_the_public_names_can_be_imported():
    assert set(cim_lightning.__all__) == cim_lightning._MODULES.keys()
    for name in cim_lightning.__all__:
        assert getattr(cim_lightning, name).__name__ == name
    with pytest.raises(AttributeError, match="Nothing"):
        cim_lightning.Nothing  # noqa: B018 -- the attribute access raises


def test_no_public_name_is_the_name_of_a_module():
    """Importing a submodule would replace the public name."""
    assert not set(cim_lightning.__all__) & {name.partition(".")[0] for name in MODULES}

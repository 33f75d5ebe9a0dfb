"""Who imports whom: the arrows of the house, kept by looking at every import statement."""

import ast
from pathlib import Path

import pytest

import cim_lightning

HOUSE = Path(cim_lightning.__file__).parent
OURS = "cim_lightning"

GROUND = {"atomic", "errors", "seeded"}  # what every room stands on

# A room -> what of ours it may import, besides itself and the ground; a name means that room or file.
ARROWS = {
    "__init__": {"cropping", "data", "methods", "models"},  # the public names, when they are asked for
    "asked": {"config", "mistakes"},
    "atomic": set(),
    "cli": {"config", "doors", "mistakes", "resume"},
    "config": {"identity"},
    "mistakes": {"config"},
    "schema": {"config", "mistakes"},
    "seeded": set(),
    "cropping": set(),
    "data": {"cropping"},
    "doors": {"asked", "identity", "resume", "schema", "trained", "evaluation", "export", "report"},
    "errors": set(),
    "identity": set(),
    "evaluation": {"models", "optim", "cropping"},
    "export": {"models"},
    "methods": {"models", "cropping", "optim"},
    "models": set(),
    "monitors": {"methods.method", "evaluation", "cropping", "models", "versions"},
    "optim": set(),
    "report": {"versions"},
    "resume": set(),
    "trained": {"models"},
    "versions": set(),
}


def name_of(path: Path) -> str:
    """`methods.cim` for methods/cim.py, `methods` for methods/__init__.py."""
    parts = path.relative_to(HOUSE).with_suffix("").parts
    return ".".join(parts[:-1] if len(parts) > 1 and parts[-1] == "__init__" else parts)


FILES = {name_of(path): path for path in sorted(HOUSE.rglob("*.py"))}


def imports(source: str) -> set[str]:
    """Every module that a source names in an import, wherever the statement stands."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute here"
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def ours(name: str) -> set[str]:
    """The files of ours that a file imports."""
    inside = {module.removeprefix(f"{OURS}.") for module in imports(FILES[name].read_text())}
    return inside & FILES.keys()


def theirs(name: str) -> set[str]:
    return {module.partition(".")[0] for module in imports(FILES[name].read_text())} - {OURS}


def below(name: str, room: str) -> bool:
    return name == room or name.startswith(f"{room}.")


def test_the_walk_sees_imports_wherever_they_stand():
    source = "import a.b\ndef f():\n    from c.d import e\nif x:\n    import g as h\n"
    assert imports(source) == {"a.b", "c.d", "c.d.e", "g"}
    assert "cropping.boxes" in ours("cropping.exemplars")
    assert "models.backbone" in ours("methods.cim")


@pytest.mark.parametrize("name", FILES)
def test_a_room_imports_only_what_lies_below_it(name):
    room = name.partition(".")[0]
    allowed = ARROWS[room] | {room} | GROUND
    for other in ours(name):
        assert any(below(other, one) for one in allowed), f"{name} imports {other}"


@pytest.mark.parametrize("name", [name for name in FILES if name.startswith("methods.")])
def test_no_method_imports_another(name):
    assert {other for other in ours(name) if below(other, "methods")} <= {"methods.method"}


def test_hydra_stays_at_the_door():
    assert {name for name in FILES if theirs(name) & {"hydra", "omegaconf"}} == {
        "asked",
        "cli",
        "config",
        "doors.evaluate",
        "doors.export",
        "doors.launch",
        "doors.pretrain",
        "doors.processes",
        "doors.restored",
        "doors.sweep",
        "identity",
        "mistakes",
        "schema",
    }


@pytest.mark.parametrize("room", ["cropping", "models", "optim", "evaluation", "errors", "export", "report"])
def test_the_science_runs_without_lightning_and_hydra(room):
    for name in FILES:
        if below(name, room):
            assert not theirs(name) & {"lightning", "hydra", "omegaconf", "wandb"}, name


def test_no_import_leads_back_to_where_it_began():
    reached = {name: ours(name) for name in FILES if name != "__init__"}
    while (
        spread := {n: set().union(some, *(reached.get(o, ()) for o in some)) for n, some in reached.items()}
    ) != reached:
        reached = spread
    assert [name for name, some in reached.items() if name in some] == []


def test_no_room_is_a_bag():
    bags = {"util", "utils", "helper", "helpers", "common", "misc", "tools"}
    assert not {part for name in FILES for part in name.split(".")} & bags


def test_the_public_names_are_what_the_readme_says():
    from cim_lightning import CIM, Backbone, CorrelationDecoder, ExemplarCropper, ImageData

    assert {c.__name__ for c in (CIM, Backbone, CorrelationDecoder, ExemplarCropper, ImageData)} == set(
        cim_lightning.__all__
    )
    with pytest.raises(AttributeError, match="Nothing"):
        cim_lightning.Nothing  # noqa: B018

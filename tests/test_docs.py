"""The documentation: a short README, links that resolve, and one line per module in docs/architecture.md."""

import re
import shlex
from pathlib import Path
from urllib.parse import unquote

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser

from cim_lightning.cli.prepare import task_override
from cim_lightning.config.compose import CONF, register_resolvers
from cim_lightning.lightning_internals import quiet

ROOT = Path(__file__).parents[1]
SRC = ROOT / "src" / "cim_lightning"
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("experiments/**/*.md")])
ROW = re.compile(r"^\| `([\w/]+\.py)` \| (.+) \|$", re.MULTILINE)
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
CODE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)

BLOCK = re.compile(r"^```\w*\n(.*?)^```", re.MULTILINE | re.DOTALL)


def commands(page: Path) -> list[str]:
    """The commands with Hydra overrides in a page's code blocks, one line each."""
    lines = [
        line for block in BLOCK.findall(page.read_text()) for line in block.replace("\\\n", " ").splitlines()
    ]
    return [
        line for line in lines if re.match(r"cim-(pretrain|evaluate|export|prepare|doctor) (?!replay)", line)
    ]


def overrides(command: str) -> list[str]:
    """The overrides of a command; of several values for a sweep, the first."""
    words = [
        word for word in shlex.split(command, comments=True)[1:] if not word.startswith(("-", "$", "hydra"))
    ]
    if command.startswith("cim-doctor"):
        words = [word for word in words if word != "verify-resume"]
    if command.startswith("cim-prepare"):
        words = task_override(words)
    found = []
    for override in OverridesParser.create().parse_overrides(words):
        if override.is_sweep_override():
            value = next(override.sweep_string_iterator())
            found.append(f"{override.get_key_element()}={value}")
        else:
            found.append(override.input_line or "")
    return found


COMMANDS = sorted({command for page in PAGES for command in commands(page) if "my_conf" not in command})


def without_code(page: Path) -> str:
    return CODE.sub("", page.read_text())


def anchors(page: Path) -> set[str]:
    """The anchors that GitHub makes of a page's headings."""
    titles = re.findall(r"^#+ (.+)$", without_code(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def broken_links(page: Path) -> list[str]:
    """The relative links of a page that lead nowhere."""
    broken = []
    for link in LINK.findall(without_code(page)):
        if re.match(r"[a-z]+:", link):  # http:, mailto:
            continue
        name, _, anchor = unquote(link).partition("#")
        target = (page.parent / name).resolve() if name else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(link)
    return broken


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 150


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_relative_link_resolves(page):
    assert broken_links(page) == []


def test_a_broken_link_is_found(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(
        "# A title\n[a](page.md) [b](#a-title) ![c](gone.png) [d](page.md#gone) [e](https://x.y/z)\n"
    )
    assert broken_links(page) == ["gone.png", "page.md#gone"]


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "docs/architecture.md"])
def test_the_page_exists(name):
    assert ROOT / name in PAGES


def test_architecture_has_one_line_per_module():
    listed = [name for name, _ in ROW.findall((ROOT / "docs" / "architecture.md").read_text())]
    modules = [str(path.relative_to(SRC)) for path in SRC.rglob("*.py") if path.name != "__init__.py"]
    assert sorted(listed) == sorted(modules)


def test_the_readme_links_every_page_of_the_docs():
    linked = set(LINK.findall((ROOT / "README.md").read_text()))
    assert {f"docs/{page.name}" for page in ROOT.glob("docs/*.md")} <= linked


@pytest.mark.parametrize("command", COMMANDS)
def test_the_settings_of_a_command_exist(command):
    register_resolvers()
    name = command.partition(" ")[0].removeprefix("cim-").replace("doctor", "pretrain")
    with initialize_config_dir(str(CONF), version_base="1.3"):
        compose(name, overrides(command))


def test_commands_are_found():
    assert {command.partition(" ")[0] for command in COMMANDS} == {
        "cim-pretrain",
        "cim-evaluate",
        "cim-export",
        "cim-prepare",
        "cim-doctor",
    }
    assert overrides("cim-pretrain -m seed=0,1 'a=[b,c]' x=1  # why") == ["seed=0", "a=[b,c]", "x=1"]


@pytest.mark.filterwarnings("ignore:You defined a `validation_step`", "ignore:.*does not have many workers")
def test_the_examples_of_the_python_api_run(tiny, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    page = (ROOT / "docs" / "python-api.md").read_text()
    small = [o for o in tiny if not o.startswith(("cropping=", "decoder."))]
    small += ["trainer.max_steps=1", "logger=[csv]", "callbacks.knn=null"]
    short = '"method=mae", *small, "output_dir=outputs/mae"'
    page = re.sub(r'"method=mae", "backbone=.*"output_dir=outputs/mae"', short, page)
    page = page.replace('["knn", "linear"]', '["knn"]')
    page = page.replace("max_steps=2,", "max_steps=2, enable_checkpointing=False,")
    names = {"small": small}
    examples = re.findall(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    with quiet():
        for example in examples:
            exec(example, names)
    assert len(examples) == 4
    assert all(0 <= value <= 100 for value in names["numbers"].values())
    assert names["own"](names["images"][:8] / 255).grid.shape == (8, 64, 28, 28)
    assert (tmp_path / "exported" / "model.safetensors").exists()

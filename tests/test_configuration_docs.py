"""docs/configuration.md is current, and describes every setting."""

import re
from pathlib import Path
from types import ModuleType

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf

from cim_lightning.config.compose import CONF, register_resolvers

DOCS = Path(__file__).parents[1] / "docs"


@pytest.fixture(scope="module")
def generator() -> ModuleType:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(DOCS))
        import generate_configuration
    return generate_configuration


@pytest.fixture(scope="module")
def page(generator: ModuleType) -> str:
    return generator.page()


def test_the_page_is_current(page):
    assert (DOCS / "configuration.md").read_text() == page, "run `make docs`"


def test_every_setting_has_a_meaning(page):
    rows = [line for line in page.splitlines() if re.match(r"\| `[\w.]+` \|", line)]
    assert len(rows) > 200
    assert [row for row in rows if re.search(r"\|\s*\|$", row)] == []


def test_every_choice_of_every_group_is_on_the_page(page):
    for file in CONF.rglob("[!_]*.yaml"):
        group = str(file.parent.relative_to(CONF))
        if group not in (".", "hydra/job_logging"):
            head, _, rest = group.partition("/")
            choice = (
                f"{head}={rest}/{file.stem}"
                if head in ("experiment", "compare") and rest
                else f"{group}={file.stem}"
            )
            assert f"| `{choice}` |" in page, choice


def paths(node: DictConfig, parent: str = "") -> list[str]:
    """Return the paths of all settings that are written out, without references to other settings."""
    found = []
    for key in map(str, node):
        path = f"{parent}.{key}" if parent else key
        if (
            key in ("_target_", "_partial_")
            or OmegaConf.is_interpolation(node, key)
            or OmegaConf.is_missing(node, key)
        ):
            continue
        found += paths(node[key], path) if isinstance(node[key], DictConfig) else [path]
    return found


def test_every_composed_setting_of_pretraining_is_on_the_page(page):
    register_resolvers()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        cfg = compose("pretrain", ["output_dir=here", "evaluation=all"])
    groups = {"experiment", "compare", "debug", "budget"}
    absent = [path for path in paths(cfg) if path not in groups and f"| `{path}` |" not in page]
    assert [path for path in absent if ".classifier." not in path] == []


def test_a_comment_above_a_setting_and_one_behind_it_are_read(generator, tmp_path):
    file = tmp_path / "group.yaml"
    file.write_text(
        "# What the choice is,\n# in two lines.\ndefaults:\n  - other: null # why\n"
        "# above\nfirst: 1\nnested: # of both\n  second: '#' # behind\n  third: a\n"
    )
    about, content, comments = generator.read(file)
    assert about == "What the choice is, in two lines."
    assert content == {"defaults": [{"other": None}], "first": 1, "nested": {"second": "#", "third": "a"}}
    assert comments == {
        "defaults.other": "why",
        "first": "above",
        "nested": "of both",
        "nested.second": "behind",
    }

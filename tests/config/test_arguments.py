"""Values of the command line reach the settings as typed, whatever characters they have."""

import os

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from cim_lightning.config.arguments import quote_items, quote_values
from cim_lightning.errors import ConfigError

PARSER = OverridesParser.create()

NAMES = [
    pytest.param(
        "pictures (1), ü",
        marks=pytest.mark.user_input("path", "`data.root='/my/pictures (1), ü'`", "the folder is used"),
    ),
    pytest.param(
        "epoch=3-step=100",
        marks=pytest.mark.user_input(
            "path",
            "`checkpoint=epoch=3-step=100.ckpt`, as Lightning names checkpoints",
            "the file is used",
            source="https://github.com/hydra-ecosystem/hydra/issues/1577",
        ),
    ),
    pytest.param(
        "a,b",
        marks=pytest.mark.user_input("path", "a folder `a,b` that exists", "the folder, not a sweep"),
    ),
    pytest.param(
        "[1]", marks=pytest.mark.user_input("path", "a folder `[1]` that exists", "the folder, not a list")
    ),
    "{x}",
    pytest.param(
        "it's",
        marks=pytest.mark.user_input("path", 'quotes in a name: `it\'s`, `say "x"`', "the folder is used"),
    ),
    'say "x"',
    'a\'b"c\\"',
    pytest.param(
        "a#1 $x",
        marks=pytest.mark.user_input(
            "path",
            "`$`, `#`, `:`, `;`, `&`, `!` in a name",
            "the folder is used",
            source="https://github.com/hydra-ecosystem/hydra/issues/2705",
        ),
    ),
    "c:d",
    "a;b&c!",
    "back\\slash",
    "tail\\",
    pytest.param(
        "-dash",
        marks=pytest.mark.user_input("path", "a leading `-`, `+` or `~` in a name", "the folder is used"),
    ),
    "+plus",
    "~tilde",
    pytest.param(
        " lead",
        marks=pytest.mark.user_input("path", "a leading or trailing space in a name", "the folder is used"),
    ),
    "trail ",
    "new\nline",
    pytest.param(
        "日本語",
        marks=pytest.mark.user_input(
            "path",
            "non-ASCII letters in a name",
            "the folder is used",
            source="https://github.com/hydra-ecosystem/hydra/issues/2891",
        ),
    ),
]


def parsed(argument: str) -> object:
    """Return the value that Hydra reads."""
    return PARSER.parse_override(argument).value()


@pytest.mark.parametrize("name", NAMES)
def test_an_existing_folder_is_read_as_typed(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    os.mkdir(name)
    for value in (name, f"{name}/", f"./{name}", f"{tmp_path}/{name}"):
        (quoted,) = quote_values([f"data.root={value}"], "pretrain")
        assert parsed(quoted) == value
        assert quote_values([quoted], "pretrain") == [quoted]  # as in the processes of other devices


@pytest.mark.parametrize("name", ["/my/pictures (1), ü", "/runs/epoch=3.ckpt", "/a#b", "~/my pictures (1)"])
def test_a_path_that_the_grammar_rejects_is_text_even_if_it_does_not_exist(name, monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    (quoted,) = quote_values([f"+data.root={name}"], "pretrain")
    assert parsed(quoted) == name.replace("~", "/home/me")


@pytest.mark.parametrize(
    "argument",
    [
        "seed=1",
        "data.root=null",
        "evaluation=[knn,linear]",
        "optim.betas=[0.9,0.95]",
        "cropping.rotation=0,15",
        "seed=range(3)",
        "data.root=/a,/b",
        'data.root="/a (1)"',
        "data.root='/a (1)'",
        "data.batch_size=[1,",
        "seed=choice(1",
        "~data.root",
        "-m",
        "data.batch_size",
        "output_dir=runs/a",
    ],
)
def test_other_arguments_stay_unchanged(argument, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("1", "null"):  # of a sweep's job, for example
        os.mkdir(name)
    assert quote_values([argument], "pretrain") == [argument]


@pytest.mark.user_input(
    "path", "`output_dir=2024`, `007`, `1e5`, `true` or `[run 1]`", "a folder of this name"
)
@pytest.mark.parametrize("value", ["2024", "007", "1e5", "true", "[run 1]"])
def test_a_setting_that_is_text_gets_text(value):
    (quoted,) = quote_values([f"output_dir={value}"], "pretrain")
    assert parsed(quoted) == value


@pytest.mark.user_input("path", "a sweep over folders `a=1,b=2` that exist", "one job per folder")
def test_a_sweep_or_list_of_paths_is_quoted_by_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/me")
    for name in ("a=1", "b (2)"):
        os.mkdir(name)
    sweep, roots = quote_values(["data.root=a=1,b (2)", "data.root=[a=1, ~/c (3)]"], "pretrain")
    assert sweep == 'data.root="a=1","b (2)"'
    assert list(PARSER.parse_override(sweep).sweep_string_iterator()) == ['"a=1"', '"b (2)"']
    assert parsed(roots) == ["a=1", "/home/me/c (3)"]


@pytest.mark.user_input(
    "path", "`data.root=[a (1), ü,b]`: a list with a comma in a name", "the folders, if they exist"
)
def test_a_comma_in_a_list_of_paths_belongs_to_the_folder_that_exists(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("a (1), ü", "b"):
        os.mkdir(name)
    (quoted,) = quote_values(["data.root=[a (1), ü, b]"], "pretrain")
    assert parsed(quoted) == ["a (1), ü", "b"]
    assert parsed(f"k={quote_items('[a (1), ü, c d]')}") == ["a (1), ü", "c d"]


def test_the_value_of_a_flag_is_no_override(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    os.mkdir("[x]")
    arguments = ["--config-dir", "conf=[x]", "data.root=[x]"]
    assert quote_values(arguments, "pretrain") == [*arguments[:2], 'data.root="[x]"']


def test_double_quoted_text_with_quotes_inside_is_escaped():
    """Lightning writes hydra.run.dir="FOLDER" for each other device."""
    (quoted,) = quote_values(['hydra.run.dir="/say "x"/a\\"'], "pretrain")
    assert parsed(quoted) == '/say "x"/a\\'


@pytest.mark.user_input("path", "a folder whose name has `${`", "one line: rename it or use a symbolic link")
def test_the_start_of_a_reference_in_a_name_is_refused(tmp_path):
    (tmp_path / "${x}").mkdir()
    with pytest.raises(
        ConfigError, match=r"^data\.root=.*: its name contains \$\{, the start of a reference; rename"
    ):
        quote_values([f"data.root={tmp_path}/${{x}}"], "pretrain")


@pytest.mark.user_input("path", "a name that is not UTF-8", "one line: rename it or use a symbolic link")
def test_a_name_that_is_not_utf_8_is_refused():
    with pytest.raises(ConfigError, match=r"^data\.root=/caf\\udce9: is not UTF-8; rename it"):
        quote_values([f"data.root={os.fsdecode(b'/caf' + bytes([0xE9]))}"], "pretrain")


@pytest.mark.user_input(
    "path",
    "`data.root=$DATA` or `output_dir=$OUT` with an unset variable",
    "one line, not the working directory",
)
@pytest.mark.parametrize("key", ["data.root", "output_dir"])
def test_an_empty_value_is_refused(key):
    with pytest.raises(
        ConfigError, match=rf"^{key}=: is empty; is a shell variable unset\? For empty text: '{key}=\"\""
    ):
        quote_values([f"{key}="], "pretrain")
    assert quote_values([f'{key}=""'], "pretrain") == [f'{key}=""']

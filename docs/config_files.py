"""Reader of the files of conf/: settings with their comments, and the types that their classes declare."""

import inspect
import re
import types
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, Union, get_args, get_origin, get_type_hints

from hydra.utils import get_object
from omegaconf import OmegaConf


class Choice(NamedTuple):
    """One file of a group, merged with the files of the same folder that its defaults list names."""

    name: str
    about: str  # the comment at its top
    settings: dict[str, Any]  # of the group itself
    others: list[tuple[str, str, str]]  # settings and choices of other groups: path, value, comment
    comments: dict[str, str]  # by the path of a setting


class GroupRef(NamedTuple):
    """The place of a choice of another group inside a file, as /classifier@finetune.classifier: finetuned."""

    group: str
    default: str


class Row(NamedTuple):
    """One setting of a choice."""

    type: str
    default: str
    comment: str


def read(file: Path) -> tuple[str, dict[str, Any], dict[str, str]]:
    """Return the comment at the top of a file, its content, and the comments of its settings by path."""
    lines = file.read_text().splitlines()
    is_header = [line.startswith("#") for line in lines]
    end = is_header.index(False) if False in is_header else len(lines)
    header = [line[1:].strip() for line in lines[:end] if "@package" not in line]
    comments: dict[str, str] = {}
    above: list[str] = []
    parents: list[tuple[int, str]] = []
    for line in lines[end:]:
        if line.lstrip().startswith("#"):
            above.append(line.strip("# "))
            continue
        if found := re.match(r"( *)(?:- )?([\w./@]+):(?: .*?)??(?: # (.*))?$", line):
            indent, key, comment = len(found[1]), found[2], found[3]
            parents = [(i, name) for i, name in parents if i < indent] + [(indent, key)]
            comments[".".join(name for _, name in parents)] = " ".join(above) or comment or ""
        above = []
    content: Any = OmegaConf.to_container(OmegaConf.load(file))
    return " ".join(header), content, {path: text for path, text in comments.items() if text}


def choice(file: Path, group: str) -> Choice:
    """Read one file of a group."""
    about, own, comments = read(file)
    entries = own.pop("defaults", [])
    bases = [entry.partition("@")[0] for entry in entries if isinstance(entry, str) and entry != "_self_"]
    if bases and not own and "_self_" not in entries:  # a list of other choices
        return Choice(file.stem, f"{about} Consists of {', '.join(bases)}.", {}, [], {})
    settings: dict[str, Any] = {}
    others: list[tuple[str, str, str]] = []
    for name in bases:
        if (below := file.with_name(f"{name}.yaml")).exists():  # else it is a file of a plugin
            base = choice(below, group)
            settings, others, comments = merge(settings, base.settings), base.others, base.comments | comments
    for key, value in ((k, v) for entry in entries if isinstance(entry, dict) for k, v in entry.items()):
        comment = comments.get(f"defaults.{key}", "")
        if key.startswith("override "):
            others = [*others, (key.removeprefix("override ").lstrip("/"), plain(value), comment)]
        else:
            kind, _, place = key.lstrip("/").partition("@")
            place = place or key.replace("/", ".")
            settings = merge(settings, _nested(place, GroupRef(kind, value)))
            comments.setdefault(place, comment)
    if "@package _global_" in file.read_text():
        for other in [key for key in own if key != group]:
            found = rows({other: own[other]}, comments)
            others += [
                (path, row.default.strip("`"), row.comment or comments.get(other, "")) for path, row in found
            ]
        comments = {path.removeprefix(f"{group}."): text for path, text in comments.items()}
        own = own.get(group, {})
    return Choice(file.stem, about, merge(settings, own), others, comments)


def merge(base: dict[str, Any], change: dict[str, Any]) -> dict[str, Any]:
    both = {
        k: merge(base[k], v)
        for k, v in change.items()
        if isinstance(v, dict) and isinstance(base.get(k), dict)
    }
    return base | change | both


def _nested(path: str, value: Any) -> dict[str, Any]:
    first, _, rest = path.partition(".")
    return {first: _nested(rest, value) if rest else value}


def rows(settings: dict[str, Any], comments: dict[str, str], path: str = "") -> Iterator[tuple[str, Row]]:
    """Yield (path, row) of every setting below a node."""
    target = settings.get("_target_")
    hints, docs = _hints(target), _docs(target)
    for child in settings.values():  # such as `source`, whose parameters its parent passes on
        if isinstance(child, dict) and "_target_" in child:
            hints, docs = _hints(child["_target_"]) | hints, _docs(child["_target_"]) | docs
    for name, value in settings.items():
        whole = f"{path}.{name}" if path else name
        if name in ("_target_", "_partial_") or re.fullmatch(r"\$\{\w+\}", str(value)):
            continue  # a reference to a group
        comment = comments.get(whole, "") or docs.get(name, "")
        if not comment and (reference := re.fullmatch(r"\$\{\.*([\w.]+)\}", str(value))):
            comment = f"the same as {reference[1]}"
        if isinstance(value, dict):
            if "_target_" in value or comment:
                class_name = f"`{value['_target_'].rpartition('.')[2]}`" if "_target_" in value else ""
                yield whole, Row("", class_name, comment or summary(value["_target_"]))
            yield from rows(value, comments, whole)
        elif isinstance(value, GroupRef):
            yield whole, Row("", f"`{value.default}`", comment or f"a choice of the group {value.group}")
        else:
            is_unknown = value is None or str(value).startswith(("???", "${"))
            hint = hints.get(name, Any if is_unknown else type(value))
            yield whole, Row(_readable(hint), f"`{plain(value)}`", comment)


def _hints(target: str | None) -> dict[str, Any]:
    if target is None:
        return {}
    configured = get_object(target)
    try:
        return get_type_hints(configured.__init__ if inspect.isclass(configured) else configured)
    except (NameError, TypeError):  # another library's hints that only its own imports can resolve
        return {}


def summary(target: str) -> str:
    """Return the first line of the docstring of one of our own classes."""
    is_own = target.startswith("cim_lightning.")
    return (inspect.getdoc(get_object(target)) or "").partition("\n")[0] if is_own else ""


def _docs(target: str | None) -> dict[str, str]:
    """Texts of the section Args of a docstring, by parameter."""
    if target is None or not target.startswith("cim_lightning."):
        return {}
    section = (inspect.getdoc(get_object(target)) or "").partition("Args:\n")[2].partition("\n\n")[0]
    entries = re.findall(r"^    (\w[\w, ]*): (.+(?:\n {5,}.+)*)", section, re.MULTILINE)
    return {
        name: re.sub(r"\s+", " ", text).strip(" .") for names, text in entries for name in names.split(", ")
    }


def _readable(hint: Any) -> str:
    """Return a type in words: "int", "float or null", "list of float"."""
    if hint is type(None):
        return "null"
    arguments = [argument for argument in get_args(hint) if argument is not Ellipsis]
    origin = get_origin(hint)
    if origin in (Union, types.UnionType):
        words = list(dict.fromkeys(filter(None, map(_readable, arguments))))
        return "" if words == ["null"] else " or ".join(words)
    if origin is Literal:
        return "str"
    if inspect.isclass(origin) and issubclass(origin, dict):
        return "dict"
    if inspect.isclass(origin) and issubclass(origin, Sequence) and arguments:
        return f"list of {_readable(arguments[0])}"
    name = getattr(hint, "__name__", "")
    return name if inspect.isclass(hint) and name not in ("Any", "object") else ""


def plain(value: Any) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(plain, value))}]"
    words = {None: "null", True: "true", False: "false"}
    return words[value] if value is None or isinstance(value, bool) else str(value) or '""'

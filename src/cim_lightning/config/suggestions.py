"""Suggestions for settings that do not exist: overrides that can be copied."""

import re
import shlex
from collections.abc import Iterator
from typing import Any

from omegaconf import DictConfig, OmegaConf

from cim_lightning.close_names import closest
from cim_lightning.config.choices import (
    choices_of,
    closest_choice,
    default_choice,
    is_group,
    option_with,
    settings_of,
)
from cim_lightning.config.compose import CONF, default_config
from cim_lightning.config.setting_paths import HYDRA_KEYS, setting_paths
from cim_lightning.config.signatures import accepts
from cim_lightning.config.synonyms import reason_without, settings_for, translate
from cim_lightning.errors import format_value

SURE, POSSIBLE = 0.75, 0.6  # similarities of names
SPECIAL = " \"'()${}*;&|<>"  # characters that a shell does not take as they are
ADDED = "backbone.kwargs."  # arguments of timm, which need a plus


def suggest_setting(override: str, command: str, cfg: DictConfig | None = None) -> str:
    """Return a hint for a setting that does not exist, such as "try optim.base_lr=0.1".

    Args:
        override: `key=value`, with or without a plus.
        command: such as "pretrain".
        cfg: the composed configuration; None: the defaults of the command.
    """
    cfg = default_config(command) if cfg is None else cfg
    return reason_without(override.partition("=")[0]) or _Suggestions(override, command, cfg).hint()


class _Suggestions:
    def __init__(self, override: str, command: str, cfg: DictConfig):
        self.key, _, self.value = override.lstrip("+~").partition("=")
        self.command, self.cfg = command, cfg
        self.settings: Any = OmegaConf.to_container(cfg, resolve=False)  # a resolver may import torch
        self.parent, _, self.leaf = self.key.rpartition(".")
        self.synonyms = settings_for(command)
        (self._node(self.parent) if self.parent else self.settings).pop(self.leaf, None)  # of `+key=value`
        defined = [path for path, defined in setting_paths(self.settings) if path == defined]
        self.paths = [path for path in defined if path.rpartition(".")[2] not in HYDRA_KEYS]

    def hint(self) -> str:
        if self.key.startswith("hydra."):  # the settings depend on the launcher and the sweeper
            return f"cim-{self.command} --cfg=hydra lists the settings"
        ways = (self._in_parent, self._by_group, self._by_synonym, self._by_last_word, self._by_spelling)
        for find in ways[: 1 if self.key.startswith(ADDED) else None]:
            if hint := next(find(), None):
                return hint
        if not (names := sorted(self._node(self.parent).keys() - HYDRA_KEYS)):
            return f"cim-{self.command} --help lists the settings"
        hint = f"choose from {', '.join(names)}"
        return hint if "_target_" in self._node(self.parent) else f"{hint}; or add it: +{self.key}=..."

    def _in_parent(self) -> Iterator[str]:
        """Yield hints for a known group with an unknown setting."""
        node = self._node(self.parent) if self.parent else {}
        for setting in self.synonyms.get(self.leaf, []):
            if setting.endswith(f" {self.key}"):
                yield self._try(setting, self.leaf)
        group, parent = self.key.replace(".", "/"), self.parent.replace(".", "/")
        if parent and is_group(group):  # such as decoder/prior
            yield from self._choice(group)
        if is_group(parent) and (option := option_with(parent, self.leaf)):
            yield f"try {option} {self._assign(self.key)}"
        if accepts(str(node.get("_target_", "")), self.leaf):
            yield f"to add an argument, try +{self._assign(self.key)}"
        if found := closest(self.leaf, self._names_of(self.parent) if node else (), SURE):
            yield f"did you mean {self._assign(f'{self.parent}.{found}')}?"

    def _by_synonym(self, name: str = "") -> Iterator[str]:
        """Yield hints for a name that other projects have for a setting."""
        name = (name or self.leaf).lower().replace("-", "_")
        if translated := translate(name, self.value):
            setting = translated.partition("=")[0]
            if setting in self.paths or is_group(setting):
                yield f"try {translated}"
        settings = self.synonyms.get(name, [])
        known = [s for s in settings if s in self.paths or is_group(s) or self._can_be_added(s)]
        top = self.key.partition(".")[0] + "."
        known = sorted(known or settings[-1:], key=lambda s: bool(self.parent) and not s.startswith(top))
        for setting in known:
            yield from self._choice(setting) if is_group(setting) else [self._try(setting, name)]

    def _by_group(self) -> Iterator[str]:
        """Yield hints for a setting of a group that has another name: `model.name`."""
        top, _, rest = self.key.partition(".")
        if not rest or top in self.settings:
            return
        groups = {name: found[0] for name, found in self.synonyms.items() if is_group(found[0])}
        groups |= {folder.name: folder.name for folder in CONF.iterdir() if folder.is_dir()}
        if name := closest(top, groups, SURE):
            path = f"{groups[name]}.{rest}"
            if path in self.paths:
                yield f"did you mean {self._assign(path)}?"
            elif groups[name] in self.settings:
                yield _Suggestions(f"{path}={self.value}", self.command, self.cfg).hint()

    def _by_last_word(self) -> Iterator[str]:
        """Yield the settings with the same last word, those with short paths first."""
        for path in sorted(self.paths, key=lambda path: path.count(".")):
            if path.rpartition(".")[2] == self.leaf and path != self.key:
                yield self._try(path, self.leaf)

    def _by_spelling(self) -> Iterator[str]:
        """Yield settings with similar names."""
        if not self.parent:
            if found := closest(self.leaf, [*self.settings, *(f.name for f in CONF.iterdir())], SURE):
                yield self._did_you_mean(found)
        elif not self._node(self.parent):
            depth = self.key.count(".")
            if found := closest(self.key, [path for path in self.paths if path.count(".") == depth], SURE):
                yield self._did_you_mean(found)
        if found := closest(self.leaf, self.synonyms, SURE):
            yield from self._by_synonym(found)
        leaves = {path.rpartition(".")[2]: path for path in reversed(self.paths)}
        if found := closest(self.leaf, leaves, SURE):
            yield self._did_you_mean(leaves[found])
        if found := closest(self.leaf, self._names_of(self.parent), POSSIBLE):
            yield self._did_you_mean(f"{self.parent}.{found}".lstrip("."))

    def _choice(self, group: str) -> Iterator[str]:
        """Yield a hint for a group whose choice may be the value."""
        choices, default = choices_of(group), default_choice(self.command, group)
        found = closest_choice(group, self.value, default)
        if group == "data" and found is None and any(mark in self.value for mark in "/."):
            yield self._try("data.root", "root")
        elif found is not None or len(choices) == 1:
            yield f"try {group}={found or choices[0]}"
        elif default or group in ("data", "backbone", "evaluation"):
            yield f"choose a {group}: {', '.join(choices)}"

    def _try(self, setting: str, name: str) -> str:
        """Return the hint to use a setting, with the choice that it needs."""
        choice, _, path = setting.rpartition(" ")
        text, group = f"{path}={self._value_for(path, name)}", path.partition(".")[0]
        if path not in self.paths and self._can_be_added(path):
            return f"try +{text}"
        if not choice and path not in self.paths:
            choice = option_with(group, path.rpartition(".")[2]) or ""
        if path in ("trainer.max_epochs", "trainer.max_steps") and self.settings.get("budget") is not None:
            return f"the budget sets the length of the training; try another budget, or budget=[] {text}"
        return f"try {choice} {text}".replace("  ", " ")

    def _value_for(self, path: str, name: str = "") -> str:
        """Return the value in the form that a setting needs."""
        default, value = self._select(path), self.value
        if not value:
            return "..."
        if isinstance(default, list) and default and not value.startswith("["):
            pair = [default[0], value] if name == "beta2" else [value, default[-1]]
            return format_value(pair if len(default) == 2 else [value]).replace(", ", ",")
        if path == "optim.warmup" and _number(value) > 1:  # epochs or steps; ours is a share
            total = self._select("trainer.max_steps" if "step" in name else "trainer.max_epochs")
            fits = isinstance(total, int) and total > _number(value)
            return f"{_number(value) / total:.4g}" if fits else "0.1"
        return shlex.quote(value) if any(mark in value for mark in SPECIAL) else value

    def _did_you_mean(self, path: str) -> str:
        if is_group(path) and (hint := next(self._choice(path), None)):
            return hint
        return f"did you mean {self._assign(path)}?"

    def _assign(self, path: str) -> str:
        return f"{path}={self._value_for(path)}"

    def _can_be_added(self, path: str) -> bool:
        parent, _, name = path.rpartition(".")
        return path.startswith(ADDED) or accepts(str(self._node(parent).get("_target_", "")), name)

    def _names_of(self, parent: str) -> list[str]:
        """Return the settings of a group, also of its other choices."""
        others = [name for settings in settings_of(parent).values() for name in settings]
        names = dict.fromkeys([*(self._node(parent) if parent else self.settings), *others])
        return [name for name in names if name not in HYDRA_KEYS and name != "defaults"]

    def _node(self, path: str) -> dict[str, Any]:
        node = self._select(path)
        return node if isinstance(node, dict) else {}

    def _select(self, path: str) -> Any:
        """Return the value of a setting as it is written; None if there is no such setting."""
        node = self.settings
        for name in path.split("."):
            node = node.get(name) if isinstance(node, dict) else None
        return node


def _number(text: str) -> float:
    return float(text) if re.fullmatch(r"\d+(\.\d+)?(e\d+)?", text) else 0.0

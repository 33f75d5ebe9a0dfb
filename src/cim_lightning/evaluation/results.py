"""Results of an evaluation: `metrics.json` and `table.md`, to which later commands add theirs."""

import hashlib
import json
import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cim_lightning.atomic import atomic_write, read_json, write_json
from cim_lightning.metric_registry import Metric, find

log = logging.getLogger(__name__)
FILE = "metrics.json"
FEATURES = (
    "Features of the frozen backbone: *mean* is the mean over the patch grid; *pooled* is the class token of "
    "a ViT, or the pooling of another architecture."
)


@dataclass
class Results:
    """Metrics of one backbone on one data set, by "<evaluator>/<metric>".

    Args:
        description: plain values that describe the weights, such as the checkpoint.
        fingerprint: of weights, data, preprocessing and seed. All metrics of a file have the same one.
        metrics: values, in the units of `declared`.
        declared: title and unit of each value.
        protocol: by evaluator, what a reader needs beside the values, such as k or the chosen learning rate.
        skipped: by evaluator, the reason why it does not apply.
        failed: by evaluator, the message of its error.
    """

    description: dict[str, Any] = field(default_factory=dict)
    fingerprint: str = ""
    metrics: dict[str, float] = field(default_factory=dict)
    declared: dict[str, Metric] = field(default_factory=dict)
    protocol: dict[str, dict[str, Any]] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)

    @classmethod
    def read(cls, path: Path) -> "Results":
        """Return the results in a `metrics.json`; empty if it does not exist.

        Results of other versions have no fingerprint.
        """
        content = read_json(path)
        metrics = {name: content.pop(name) for name in [*content] if "/" in name}
        declared = {name: Metric.from_dict(fields) for name, fields in content.pop("metrics", {}).items()}
        sections = {name: content.pop(name, {}) for name in ("protocol", "skipped", "failed")}
        return cls(content, content.pop("fingerprint", ""), metrics, declared, **sections)

    def write(self, folder: Path) -> None:
        """Write `metrics.json` and `table.md`."""
        declared = {name: metric.to_dict() for name, metric in self.declared.items()}
        content: dict[str, Any] = {**self.description, **self.metrics, "protocol": self.protocol}
        content |= {"skipped": self.skipped, "failed": self.failed, "metrics": declared}
        write_json(folder / FILE, content | {"fingerprint": self.fingerprint})
        atomic_write(folder / "table.md", self.table() + "\n")

    def add(
        self, evaluator: str, values: Mapping[str, float], metrics: Iterable[Metric], protocol: dict[str, Any]
    ) -> None:
        """Replace the results of an evaluator.

        Args:
            values: by metric, without the evaluator's name.
            metrics: which the evaluator declares.
            protocol: see the class.
        """
        self.remove(evaluator)
        self.metrics |= {f"{evaluator}/{name}": value for name, value in values.items()}
        self.declared |= {f"{evaluator}/{name}": find(name, metrics) for name in values}
        self.protocol[evaluator] = protocol

    def skip(self, reasons: Mapping[str, str]) -> None:
        """Record evaluators that do not apply, by name; one with results of an earlier command keeps them."""
        for name, reason in reasons.items():
            self.failed.pop(name, None)
            if name not in self.protocol:
                self.skipped[name] = reason

    def remove(self, evaluator: str) -> None:
        """Remove the results of an evaluator."""
        for entries in (self.metrics, self.declared):
            for name in [name for name in entries if name.startswith(f"{evaluator}/")]:
                del entries[name]
        for entries in (self.protocol, self.skipped, self.failed):
            entries.pop(evaluator, None)

    def table(self) -> str:
        """Return Markdown: the values, the skipped and failed evaluators, and the protocols."""
        rows = ["| evaluator | metric | value |", "|---|---|---|"]
        for name, value in self.metrics.items():
            evaluator, metric = name.split("/", 1)[0], self.declared[name]
            rows.append(f"| {evaluator} | {metric.title} | {metric.text(value)} |")
        parts = ["\n".join(rows)] if self.metrics else ["No evaluator has a result."]
        reasons = [f"* {name} skipped: {reason}" for name, reason in self.skipped.items()]
        reasons += [f"* {name} failed: {reason}" for name, reason in self.failed.items()]
        if reasons:
            parts.append("\n".join(reasons))
        if any("mean" in name or "pooled" in name for name in self.metrics):
            parts.append(FEATURES)
        if self.protocol:
            rows = ["| evaluator | protocol |", "|---|---|"]
            rows += [f"| {name} | {_text(settings, '; ')} |" for name, settings in self.protocol.items()]
            parts.append("\n".join(rows))
        return "\n\n".join(parts)


def open_results(folder: Path, description: Mapping[str, Any], cache_key: Mapping[str, Any]) -> Results:
    """Return the results of a folder to add to.

    Results of other weights, data, preprocessing or seed move to `metrics-<fingerprint>.json`, and come back
    with the next evaluation of these.
    """
    fingerprint = hashlib.sha256(json.dumps(cache_key, sort_keys=True, default=str).encode()).hexdigest()[:12]
    present = Results.read(folder / FILE)
    if present.fingerprint != fingerprint:
        if present.metrics:
            aside = folder / f"metrics-{present.fingerprint or 'earlier'}.json"
            (folder / FILE).replace(aside)
            log.info("%s: moved the results of other weights, data or seed to %s", folder, aside.name)
        present = Results.read(folder / f"metrics-{fingerprint}.json")
    present.description, present.fingerprint = dict(description), fingerprint
    return present


def _text(value: Any, separator: str = ", ") -> str:
    """Format plain values for a cell of a table."""
    if isinstance(value, Mapping):
        pairs = ((str(name).replace("_", " "), _text(item)) for name, item in value.items())
        return separator.join(f"{name}: {text}" for name, text in pairs)
    if isinstance(value, list | tuple):
        return ", ".join(map(_text, value))
    text = f"{value:.4g}" if isinstance(value, float) else str(value)
    return text.replace("|", "\\|")

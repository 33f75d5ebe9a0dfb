"""Rows about a repeated step: its images and loss, and where the first value appears that is not finite."""

from cim_lightning.doctor.finding import Finding
from cim_lightning.doctor.parameters import shorten
from cim_lightning.replay import Replay

SHOWN = 5  # parameters


def replay_findings(replayed: Replay) -> list[Finding]:
    """Return the rows of a repeated step. A value that is not finite is a problem."""
    losses = ", ".join(f"{loss:.6g}" for loss in replayed.losses)
    recorded = ", ".join(f"{loss:.6g}" for loss in replayed.recorded)
    same = "as recorded" if replayed.repeats else f"recorded: {recorded}"
    largest = sorted(replayed.norms.items(), key=lambda item: (item[1] == item[1], -item[1]))[:SHOWN]
    norms = ", ".join(f"{name} {norm:.3g}" for name, norm in largest)
    problem = "" if replayed.first is None else "the first value that is not finite"
    return [
        Finding("images", f"{len(replayed.images)}: {shorten(replayed.images)}"),
        Finding("loss", f"{losses} ({same})"),
        Finding("finite until", "the end" if replayed.first is None else replayed.first, problem),
        Finding("largest gradients", norms or "none"),
    ]

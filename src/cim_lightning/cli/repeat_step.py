"""`cim-doctor replay FILE`: repeat a step that was not finite."""

from collections.abc import Sequence
from typing import Any

from cim_lightning.errors import ConfigError

REPLAY = "replay"


def repeat_step(arguments: Sequence[str]) -> dict[str, list[Any]]:
    """Repeat the step of a record, on the device and with the packages that the arguments set.

    Raises:
        ConfigError: the arguments or the record are wrong.
    """
    files = [argument for argument in arguments if "=" not in argument]
    options = dict(argument.split("=", 1) for argument in arguments if "=" in argument)
    unknown = sorted(options.keys() - {"device", "trusted_packages"})
    if len(files) != 1 or unknown:
        rule = f"{unknown[0]} is no such setting" if unknown else "takes one file"
        hint = "try cim-doctor replay RUN/nonfinite/STEP/FILE.json"
        raise ConfigError(f"{REPLAY}: {rule}; {hint}")
    packages = [name.strip() for name in options.get("trusted_packages", "").strip("[]").split(",")]

    from cim_lightning.doctor.replay_findings import replay_findings
    from cim_lightning.replay import replay

    replayed = replay(files[0], options.get("device", "cpu"), [name for name in packages if name])
    return {"Replay": replay_findings(replayed)}

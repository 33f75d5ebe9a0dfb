"""Find the file of weights that a path means."""

from pathlib import Path

from cim_lightning.errors import ConfigError

# Of a run, an exported backbone, a Hugging Face folder.
FILES = ("checkpoints/last.ckpt", "backbone.safetensors", "model.safetensors", "pytorch_model.bin")


def find_file(path: Path, parameter: str) -> Path:
    """Return the file itself, or the file of weights in a folder.

    Raises:
        ConfigError: there is none.
    """
    for file in (path, *(path / name for name in FILES)):
        if file.is_file():
            return file
    if path.is_dir():
        raise ConfigError(parameter, path, f"has none of {', '.join(FILES)}", hint="give the path of a file")
    similar = [p for p in sorted(path.parent.glob("*")) if p != path and p.name.startswith(path.name[:4])]
    hint = f"did you mean {similar[0]}?" if similar else "try a run's folder"
    raise ConfigError(parameter, path, "does not exist", hint=hint)

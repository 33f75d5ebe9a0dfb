"""Weights that have to be downloaded: those of a timm model, and repositories of the Hugging Face Hub."""

from contextlib import suppress
from pathlib import Path

import timm
from huggingface_hub import hf_hub_download
from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError
from torch import Tensor, nn

from cim_lightning.errors import ConfigError
from cim_lightning.rng import fork_rng
from cim_lightning.weights.location import HUB, TIMM

FILES = ("model.safetensors", "pytorch_model.bin")
CONFIGS = ("config.json", "preprocessor_config.json")


def timm_state(model: nn.Module) -> tuple[dict[str, Tensor], str]:
    """Return timm's pretrained weights of a model's architecture, and their name.

    Raises:
        ConfigError: timm has none, or they cannot be downloaded.
    """
    config = getattr(model, "pretrained_cfg", None) or {}
    name = ".".join(filter(None, (config.get("architecture"), config.get("tag"))))
    if not timm.models.is_model_pretrained(name):
        hint = "give a file, or the name of a pretrained model of timm"
        raise ConfigError("weights", TIMM, f"timm has no pretrained weights of {name}", hint=hint)
    try:
        with fork_rng(0):  # the initialization must not change other random numbers
            return timm.create_model(name, pretrained=True).state_dict(), name
    except Exception as error:  # of requests, httpx, urllib or the Hub
        raise _unreachable(TIMM, error) from error


def download(weights: str) -> Path:
    """Return the file of weights of a repository, "hf-hub:OWNER/NAME" or "hf-hub:OWNER/NAME@REVISION".

    Raises:
        ConfigError: the repository has no such file, or cannot be reached.
    """
    repository, _, revision = weights.removeprefix(HUB).partition("@")
    for name in FILES:
        try:
            path = Path(hf_hub_download(repository, name, revision=revision or None))
            _download_configs(repository, revision or None)
            return path
        except Exception as error:  # of httpx, the Hub or the file system
            missing = isinstance(error, EntryNotFoundError)
            if not missing or isinstance(error, LocalEntryNotFoundError):  # the latter: no network
                raise _unreachable(weights, error) from error
    hint = "download the file and give its path"
    raise ConfigError("weights", weights, f"has neither {' nor '.join(FILES)}", hint=hint)


def _download_configs(repository: str, revision: str | None) -> None:
    """Download the files that describe the images, for `read_normalization`, if the repository has them."""
    for name in CONFIGS:
        with suppress(EntryNotFoundError):
            hf_hub_download(repository, name, revision=revision)


def _unreachable(weights: str, error: Exception) -> ConfigError:
    reason = " ".join(str(error).split("\n")[0].split()) or type(error).__name__
    hint = "download the file and give its path"
    return ConfigError("weights", weights, f"cannot be downloaded ({reason})", hint=hint)

"""A whole method out of its checkpoint."""

from typing import Any

from hydra.utils import instantiate
from omegaconf import OmegaConf

from cim_lightning.checkpoint import Trained


def restored(found: Trained) -> Any:
    """The method of a run of ours, with its weights; None where the checkpoint is of another origin."""
    if found.settings is None:
        return None
    method = instantiate(OmegaConf.create(found.settings).method, _convert_="all")
    method.load_state_dict(found.state)
    return method

"""Hugging Face folder: config.json, model.safetensors and a model card."""

import logging
import re
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

import timm
from huggingface_hub import HfApi

from cim_lightning.atomic import atomic_write, read_json, update_json, write_json
from cim_lightning.errors import ConfigError
from cim_lightning.formats.format import Format, Loaded, require_timm, timm_outputs
from cim_lightning.formats.model_card import ModelInfo, model_card
from cim_lightning.formats.timm_config import timm_config
from cim_lightning.formats.timm_format import save_weights
from cim_lightning.models.backbone import Backbone

log = logging.getLogger(__name__)
CARD = "README.md"


@dataclass
class HFFormat(Format):
    """Folder for `timm.create_model("local-dir:FOLDER", pretrained=True, num_classes=...)`.

    Args:
        push: repository OWNER/NAME on Hugging Face, to which the checked folder is uploaded; None: no upload.
            A new repository is private. An existing README.md of the repository is not replaced.

    A README.md in the folder is replaced only if an earlier export wrote it and nobody edited it.

    Raises:
        ConfigError: `push` is not OWNER/NAME, or the upload fails. The folder stays.
    """

    file = "model.safetensors"
    push: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.push is not None and not re.fullmatch(r"[\w.-]+/[\w.-]+", self.push):
            raise ConfigError(
                "push", self.push, "must be OWNER/NAME of a repository", suggest="me/my-backbone"
            )

    def write(self, backbone: Backbone, image_size: int, folder: Path) -> None:
        timm_backbone = require_timm(backbone)
        save_weights(timm_backbone, folder / self.file)
        write_json(folder / "config.json", timm_config(timm_backbone, image_size))

    def load(self, folder: Path) -> Loaded:
        model: Any = timm.create_model(f"local-dir:{folder}", pretrained=True, num_classes=0).eval()
        mean, std = (list(model.pretrained_cfg[name]) for name in ("mean", "std"))
        return (lambda images: timm_outputs(model, images)), mean, std

    def finish(self, folder: Path, info: ModelInfo) -> None:
        """Write the model card, and upload the folder if there is a repository."""
        self._write_card(folder, model_card(info, read_json(folder / "config.json"), self.push))
        if self.push is None:
            return
        files = ["config.json", self.file, CARD]
        try:
            api = HfApi(library_name="cim-lightning")
            repository = api.create_repo(self.push, private=True, exist_ok=True).repo_id
            if api.file_exists(repository, CARD):
                files.remove(CARD)
            api.upload_folder(
                repo_id=repository, folder_path=folder, allow_patterns=files, commit_message="Add backbone"
            )
        except Exception as error:  # of the network, of the server, or a missing token
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            hint = "log in with `hf auth login`, or upload the folder yourself"
            rule = f"the upload of {folder} failed ({reason})"
            raise ConfigError("push", self.push, rule, hint=hint) from error
        log.info("uploaded %s to %s/%s", ", ".join(files), api.endpoint, repository)

    @staticmethod
    def _write_card(folder: Path, text: str) -> None:
        """Write the model card, unless there is one that was edited, such as for its license."""
        path, record = folder / CARD, read_json(folder / "export.json")
        if path.exists() and blake2b(path.read_bytes()).hexdigest() != record.get(CARD):
            log.info("%s was edited, and stays as it is; delete it for a new model card", path)
            return
        atomic_write(path, text)
        update_json(folder / "export.json", {CARD: blake2b(text.encode()).hexdigest()})

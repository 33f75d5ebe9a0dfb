"""Model card of an exported backbone, as Hugging Face shows it: README.md."""

from collections.abc import Mapping
from typing import Any, TypedDict

from huggingface_hub import ModelCardData

COMMON = (
    "num_classes",
    "in_chans",
    "global_pool",
)  # arguments of every model, which say nothing about its size
USAGE = """\
```python
import timm

model = timm.create_model("{source}", pretrained=True, num_classes=0).eval()
transform = timm.data.create_transform(**timm.data.resolve_model_data_config(model))
features = model(transform(image).unsqueeze(0))  # a PIL image -> {width} features
```
"""


class ModelInfo(TypedDict, total=False):
    """What is known about the weights. Entries of an unknown origin are missing."""

    checkpoint: str  # file from which they were exported
    backbone: str  # name of the architecture
    method: str  # of the pre-training, with its publication
    data: str  # training images, without a path of this machine
    training: Mapping[str, Any]  # plain values by title, such as the number of epochs
    numbers: Mapping[str, str]  # measured values with their unit, by title


def model_card(info: ModelInfo, config: Mapping[str, Any], repository: str | None) -> str:
    """Return the card as Markdown with a YAML header.

    The card has no license, since only the owner of the weights can choose it.

    Args:
        config: content of `config.json`.
        repository: OWNER/NAME on Hugging Face; None: the folder is loaded from disk.
    """
    architecture = info.get("backbone", config["architecture"])
    source = f"hf-hub:{repository}" if repository else "local-dir:FOLDER"
    header = ModelCardData(
        library_name="timm",
        pipeline_tag="image-feature-extraction",
        tags=["timm", "self-supervised-learning", "cim-lightning"],
    )
    height, width = config["pretrained_cfg"]["input_size"][1:]
    arguments = {key: value for key, value in config.get("model_args", {}).items() if key not in COMMON}
    details = ", ".join(f"{key}={value}" for key, value in arguments.items())
    facts = {
        "Architecture": f"{architecture} ({details})" if details else architecture,
        "Method": info.get("method"),
        "Training images": info.get("data"),
    }
    facts |= {"Image size": f"{height} x {width} pixels", **info.get("training", {})}
    title = repository.partition("/")[2] if repository else architecture
    parts = [
        f"---\n{header.to_yaml()}\n---\n\n# {title}",
        "Backbone without a classifier, pre-trained with `cim_lightning`.",
        "\n".join(f"* **{name}:** {value}" for name, value in facts.items() if value is not None),
        "## Use\n\n" + USAGE.format(source=source, width=config["num_features"]),
    ]
    if numbers := info.get("numbers"):
        rows = "\n".join(f"| {name} | {value} |" for name, value in numbers.items())
        parts.append(f"## Measured\n\n| metric | value |\n|---|---|\n{rows}")
    parts.append(
        "## License\n\nNot chosen. The owner of the weights adds `license:` to the header of this file."
    )
    return "\n\n".join(part.rstrip() for part in parts) + "\n"

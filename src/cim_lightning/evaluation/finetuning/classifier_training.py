"""Train a classifier on labels: the backbone and a head (fine-tuning), or only the head (probing)."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import nn

from cim_lightning.checks import check_at_least, check_share
from cim_lightning.errors import ConfigError
from cim_lightning.evaluation.context import EvalContext
from cim_lightning.evaluation.finetuning.classifier_module import ClassifierModule
from cim_lightning.evaluation.finetuning.labeled_images import LabeledImages
from cim_lightning.evaluation.finetuning.layer_decay import LayerDecayOptim, build_valid
from cim_lightning.evaluation.finetuning.mixup_cutmix import MixupCutmix
from cim_lightning.evaluation.fitting import fit, trainer_factory
from cim_lightning.models.classifier import Classifier, check_arguments
from cim_lightning.rng import fork_rng


@dataclass
class ClassifierTraining:
    """Train a classifier on the labeled training images of a context, under the configured Trainer.

    The folder `classifiers/` of the context has one folder per training, see `fit`. Evaluators with the same
    settings share one training.
    """

    uses_trainer: ClassVar[bool] = True

    finetune: bool  # train the backbone too
    features: str  # see Classifier
    drop_path: float  # see Classifier
    epochs: int
    batch_size: int  # images per optimizer step, at most the number of training images
    aug_repeats: int  # see ResumableBatchSampler
    view: Any  # random transform of a training image, such as RandAugmentCrop
    mixing: MixupCutmix  # augmentation of a batch on the device
    loss: Callable[[], nn.Module]  # builds the loss of logits "b n" and soft labels "b n"
    optim: LayerDecayOptim
    ema: float | None  # decay of the averaged weights, which are evaluated, 0 to below 1; None: no average
    num_train: int | None  # maximum number of images; None: all

    def __post_init__(self) -> None:
        check_arguments(self.features, self.drop_path)
        check_at_least("epochs", self.epochs, 1)
        check_at_least("batch_size", self.batch_size, 2)
        check_at_least("aug_repeats", self.aug_repeats, 1)
        check_at_least("num_train", self.num_train, 2)
        check_share("ema", self.ema, one=False)
        build_valid("loss", self.loss)

    def check(self, context: EvalContext) -> None:
        """Raise ConfigError if a setting does not fit the backbone, the data or the devices."""
        view = self.view.for_images(context.data.view.size, context.data.pixels)
        context.backbone.check_size((view.size, view.size), "size")
        if self.finetune:
            context.backbone.with_drop_path(self.drop_path)
        indices = context.data.labeled_indices(self.num_train)
        self.images_per_step(len(indices), trainer_factory(context).parts_per_step())

    def forward_passes(self, context: EvalContext) -> float:
        """Return the forward passes of the training; a backward pass counts as 2 more."""
        return context.num_images("train", self.num_train) * self.epochs * (3 if self.finetune else 1)

    def __call__(self, context: EvalContext) -> Classifier:
        """Return the classifier in evaluation mode, on the context's device."""
        return self.train(context, num_val=0)[0].classifier

    def train(self, context: EvalContext, num_val: int | None) -> tuple[ClassifierModule, LabeledImages]:
        """Return the trained module, in evaluation mode on the context's device, and its images.

        Args:
            num_val: maximum number of images of each validation during the training; None: all; 0: none.
        """
        classes = context.data.splits.train.classes or []
        if len(classes) < 2:
            raise ConfigError("a classifier needs labels of two classes or more; use class folders")
        indices = context.data.labeled_indices(self.num_train)
        parts = trainer_factory(context).parts_per_step()
        global_batch_size = self.images_per_step(len(indices), parts)
        view = self.view.for_images(context.data.view.size, context.data.pixels)
        data = LabeledImages(context, indices, view, global_batch_size // parts, self.aug_repeats, num_val)
        with fork_rng(context.seed):
            model = Classifier(context.backbone, len(classes), self.finetune, self.features, self.drop_path)
            freeze_unused(model, view.size)
            model.train()
            settings = (self.loss(), self.mixing, self.optim, global_batch_size, self.ema)
            module = ClassifierModule(model, len(classes), *settings)
            name = "classifiers/" + ("finetuned" if self.finetune else "probe")
            identity = {"training": self, "size": view.size, "classes": classes, "images": len(indices)}
            fit(module, data, context, name, identity, max_epochs=self.epochs)
        return module, data

    def images_per_step(self, num_images: int, parts: int) -> int:
        """Return the images per optimizer step: the batch size, or fewer if there are fewer images.

        Args:
            num_images: number of training images.
            parts: batches of a step over all devices; each has at least two images, for batch normalization
                and mixing.

        Raises:
            ConfigError: a step cannot be divided into the batches, or there are too few images.
        """
        if self.batch_size % parts or self.batch_size < 2 * parts:
            rule = f"must be {parts} batches (devices times accumulated batches) of equal size, 2 or more"
            suggest = max(round(self.batch_size / parts), 2) * parts
            raise ConfigError("batch_size", self.batch_size, rule, suggest=suggest)
        if num_images < 2 * parts:
            raise ConfigError(f"{num_images} labeled training images; at least {2 * parts} are needed")
        return min(self.batch_size, num_images // parts * parts)


def freeze_unused(model: Classifier, size: int) -> None:
    """Freeze the parameters that the logits do not depend on; DDP would wait for their gradients."""
    backbone = model.backbone
    black = torch.zeros(1, backbone.in_channels, size, size, device=backbone.mean.device)
    with torch.enable_grad():
        model.eval()(black).sum().backward()
    for parameter in model.parameters():
        parameter.requires_grad_(parameter.grad is not None)
        parameter.grad = None

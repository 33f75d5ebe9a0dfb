"""Train a classifier on labels: the backbone and a head (fine-tuning), or only the head (probing)."""

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from cim_lightning.checks import check_at_least, check_divides, check_share
from cim_lightning.errors import ConfigError
from cim_lightning.evaluation.context import EvalContext
from cim_lightning.evaluation.finetuning.layer_decay import LayerDecayOptim
from cim_lightning.evaluation.finetuning.mixup_cutmix import MixupCutmix
from cim_lightning.evaluation.finetuning.training_loop import training_loop
from cim_lightning.evaluation.training_cache import TrainingCache, fingerprint
from cim_lightning.models.classifier import Classifier, check_arguments
from cim_lightning.rng import fork_rng

log = logging.getLogger(__name__)


@dataclass
class ClassifierTraining:
    """Train a classifier on the labeled training images of a context.

    The weights are cached in the folder `classifiers/` of the context, so evaluators with the same settings
    share one training. An interrupted training resumes.
    """

    finetune: bool  # train the backbone too
    global_pool: str  # see Classifier
    drop_path: float  # see Classifier
    epochs: int
    batch_size: int  # images per optimizer step, at most the number of training images
    accumulate_grad_batches: int  # micro-batches per optimizer step
    aug_repeats: int  # see ResumableBatchSampler
    view: Any  # random transform of a training image, such as RandAugmentCrop
    mixing: MixupCutmix  # augmentation of a batch on the device
    loss: Callable[[], nn.Module]  # builds the loss of logits "b n" and soft labels "b n"
    optim: LayerDecayOptim
    ema: float | None  # decay of the averaged weights, which are evaluated, 0 to below 1; None: no average
    num_train: int | None  # maximum number of images; None: all

    def __post_init__(self) -> None:
        check_arguments(self.global_pool, self.drop_path)
        for name, low in (("epochs", 1), ("batch_size", 2), ("aug_repeats", 1), ("num_train", 2)):
            check_at_least(name, getattr(self, name), low)
        check_share("ema", self.ema, one=False)
        rule = f"must divide batch_size={self.batch_size} into micro-batches of two images or more"
        check_divides("accumulate_grad_batches", self.accumulate_grad_batches, self.batch_size, rule, parts=2)

    def __call__(self, context: EvalContext) -> Classifier:
        """Return the classifier in evaluation mode, on the context's device."""
        return self.train(context)[0]

    def train(self, context: EvalContext) -> tuple[Classifier, list[float]]:
        """Return the classifier and its training losses, see training_loop."""
        classes = context.data.splits.train.classes or []
        if len(classes) < 2:
            raise ConfigError("a classifier needs labels of two classes or more; use class folders")
        name = "finetuned" if self.finetune else "probe"
        cache = context.training_cache("classifiers", name, fingerprint(self))
        settings = (len(classes), self.finetune, self.global_pool, self.drop_path)
        with fork_rng(context.seed):
            model = Classifier(context.backbone, *settings).to(context.device)
            if (finished := cache.finished()) is None:
                finished = self._fit(model, context, cache, classes)
            else:
                log.info("using the cached classifier in %s", cache.folder)
        model.load_state_dict(finished[0])
        return model.eval(), finished[1]["losses"]

    def _fit(
        self, model: Classifier, context: EvalContext, cache: TrainingCache, classes: list[str]
    ) -> tuple[dict[str, Tensor], dict[str, Any]]:
        images = context.data.labeled_indices(self.num_train)
        if len(images) < 2:
            raise ConfigError(f"{len(images)} labeled training images; at least two are needed")
        micro_batch = min(self.batch_size // self.accumulate_grad_batches, len(images))
        accumulate = min(self.accumulate_grad_batches, len(images) // micro_batch)
        steps = self.epochs * (len(images) // (micro_batch * accumulate))
        view = self.view.with_size(context.data.view.size)
        optim = self.optim(model.backbone, model.head, micro_batch * accumulate, steps)
        loss = self.loss()

        def batches(step: int) -> Iterator[tuple[Any, ...]]:
            sampling = (micro_batch, self.aug_repeats, step * accumulate)
            loader = context.data.train_subset_dataloader(images, view, *sampling)
            return zip(*[iter(loader)] * accumulate, strict=False)

        def compute_loss(batch: Any) -> Tensor:
            labeled = batch[1] >= 0
            views, labels = batch[0][labeled].to(context.device), batch[1][labeled].to(context.device)
            if len(views) < 2:  # too few for mixing and batch normalization
                return sum(p.sum() * 0 for p in model.parameters() if p.requires_grad)  # pyright: ignore
            normalized = context.backbone.normalize(views.float() / 255)
            mixed, targets = self.mixing(normalized, labels, len(classes))
            with context.autocast():
                logits = model.logits(mixed)
            return loss(logits, targets)

        ema, trained = None, model.train()
        if self.ema is not None:
            ema = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(self.ema), use_buffers=True)
            trained = ema.module
        losses = training_loop(steps, context.seed, cache, model, *optim, batches, compute_loss, ema)
        result = {"classes": classes, "losses": losses}
        cache.save_result(trained.state_dict(), result)
        return trained.state_dict(), result

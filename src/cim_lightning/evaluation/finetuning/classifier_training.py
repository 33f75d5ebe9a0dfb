"""Train a classifier on labels: the backbone and a head (fine-tuning), or the head alone (probing)."""

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from cim_lightning.bounds import at_least, divides, share
from cim_lightning.errors import ConfigError
from cim_lightning.evaluation.context import EvalContext
from cim_lightning.evaluation.finetuning.layer_decay import LayerDecayOptim
from cim_lightning.evaluation.finetuning.loop import training_loop
from cim_lightning.evaluation.finetuning.mixup_cutmix import MixupCutmix
from cim_lightning.evaluation.training_cache import TrainingCache, fingerprint
from cim_lightning.models.classifier import Classifier, check_arguments
from cim_lightning.rng import fork_rng

log = logging.getLogger(__name__)


@dataclass
class ClassifierTraining:
    """Train a classifier on the labeled training images of a context and return the last step's weights.

    The context's folder caches it in `classifiers/`. Evaluators with the same settings share one training,
    and an interrupted training resumes.
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
    ema: float | None  # decay of the weight average that is evaluated, 0 to below 1; None: no average
    num_train: int | None  # maximum number of images; None: all

    def __post_init__(self) -> None:
        check_arguments(self.global_pool, self.drop_path)
        for name, low in (("epochs", 1), ("batch_size", 2), ("aug_repeats", 1), ("num_train", 2)):
            at_least(name, getattr(self, name), low)
        share("ema", self.ema, one=False)
        rule = f"must divide batch_size={self.batch_size} into micro-batches of two images or more"
        divides("accumulate_grad_batches", self.accumulate_grad_batches, self.batch_size, rule, parts=2)

    def __call__(self, context: EvalContext) -> Classifier:
        """Return the classifier in evaluation mode, on the context's device."""
        return self.train(context)[0]

    def train(self, context: EvalContext) -> tuple[Classifier, list[float]]:
        """Return the classifier and its training losses, see training_loop."""
        classes = context.data.splits.train.classes or []
        if len(classes) < 2:
            raise ConfigError(
                "a classifier needs labeled training images of two or more classes; "
                "put them into one folder per class"
            )
        name = "finetuned" if self.finetune else "probe"
        cache = context.training_cache("classifiers", name, fingerprint(self))
        with fork_rng(context.seed):
            model = Classifier(
                context.backbone,
                context.normalize,
                len(classes),
                self.finetune,
                self.global_pool,
                self.drop_path,
            ).to(context.device)
            if (finished := cache.finished()) is None:
                finished = self._fit(model, context, cache, classes)
            else:
                log.info("%s: using the trained classifier", cache.folder)
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
        optimizer, schedule = self.optim(model.backbone, model.head, micro_batch * accumulate, steps)
        loss = self.loss()

        def batches(done: int) -> Iterator[tuple[Any, ...]]:
            loader = context.data.train_subset_dataloader(
                images, view, micro_batch, self.aug_repeats, done * accumulate
            )
            return zip(*[iter(loader)] * accumulate, strict=False)

        def compute_loss(batch: Any) -> Tensor:
            labeled = batch[1] >= 0
            views, labels = batch[0][labeled].to(context.device), batch[1][labeled].to(context.device)
            if len(views) < 2:  # too few for mixing and batch normalization
                return sum(p.sum() * 0 for p in model.parameters() if p.requires_grad)  # pyright: ignore
            mixed, targets = self.mixing(context.normalize(views.float() / 255), labels, len(classes))
            with context.autocast():
                logits = model.logits(mixed)
            return loss(logits, targets)

        ema = None
        if self.ema is not None:
            ema = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(self.ema), use_buffers=True)
        title = "fine-tuning" if self.finetune else "probe"
        losses = training_loop(
            title, steps, context.seed, cache, model.train(), optimizer, schedule, batches, compute_loss, ema
        )
        weights = (model if ema is None else ema.module).state_dict()
        result = {"classes": classes, "losses": losses}
        cache.save_result(weights, result)
        return weights, result

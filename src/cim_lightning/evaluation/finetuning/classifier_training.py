"""A classifier trained on labels: backbone and all, or its head alone, so fine-tuned or a probe."""

import logging
from collections.abc import Callable, Iterator
from typing import Any, Protocol, runtime_checkable

from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from cim_lightning.errors import ConfigError
from cim_lightning.evaluation.context import EvalContext
from cim_lightning.evaluation.finetuning.layer_decay import LayerDecayOptim
from cim_lightning.evaluation.finetuning.loop import Loop
from cim_lightning.evaluation.finetuning.mixup_cutmix import MixupCutmix
from cim_lightning.evaluation.training_cache import TrainingCache, fingerprint
from cim_lightning.models.classifier import Classifier, check
from cim_lightning.rng import fork_rng

log = logging.getLogger(__name__)


@runtime_checkable
class SizedTransform(Protocol):
    """Makes views of training images at the size that images are tested at, if it has none of its own."""

    def sized(self, size: int) -> Any: ...


class ClassifierTraining:
    """Trains a classifier on a context's labeled training images; the last step's weights are taken.

    Cached in the folder of the context under `classifiers/`, by what was asked: another part that
    asks for the same gets the same, without training, and an interrupted training goes on.

    Args:
        finetune: whether the backbone learns too; else a probe, with the backbone as it is.
        global_pool, drop_path: see Classifier.
        epochs: over the training images.
        batch_size: images a step; all there are, if they are fewer.
        accumulate_grad_batches: micro-batches of a step.
        aug_repeats: see ResumableBatchSampler.
        view: makes a view of a training image.
        mixing: what happens to batches on the device.
        loss: makes what is minimized: of logits "b n" and shares of classes "b n".
        optim: how it is optimized.
        ema: share of the old in the moving average of the weights that is evaluated, 0 to below 1; None: the
            weights themselves.
        num_train: most images to train on; None: all.

    Raises:
        ConfigError: a setting is outside its limits; when called, the training images have fewer than two
            classes, or fewer than two labels.
    """

    def __init__(
        self,
        finetune: bool,
        global_pool: str,
        drop_path: float,
        epochs: int,
        batch_size: int,
        accumulate_grad_batches: int,
        aug_repeats: int,
        view: SizedTransform,
        mixing: MixupCutmix,
        loss: Callable[[], nn.Module],
        optim: LayerDecayOptim,
        ema: float | None,
        num_train: int | None,
    ):
        check(global_pool, drop_path)
        limits: dict[str, tuple[int | None, int]] = {"epochs": (epochs, 1), "batch_size": (batch_size, 2)}
        limits |= {"aug_repeats": (aug_repeats, 1), "num_train": (num_train, 2)}
        for name, (value, least) in limits.items():
            if value is not None and value < least:
                raise ConfigError(f"classifier.{name}={value}: at least {least}; try {least}")
        fitting = [n for n in range(1, batch_size // 2 + 1) if batch_size % n == 0]
        if accumulate_grad_batches not in fitting:
            near = min(fitting, key=lambda n: abs(n - accumulate_grad_batches))
            raise ConfigError(
                f"classifier.accumulate_grad_batches={accumulate_grad_batches}: must divide "
                f"batch_size={batch_size} into pairs or more; "
                f"try {near}"
            )
        if ema is not None and not 0 <= ema < 1:
            raise ConfigError(f"classifier.ema={ema}: from 0 to below 1, or null; try 0.9999")
        self.finetune, self.global_pool, self.drop_path = finetune, global_pool, drop_path
        self.epochs, self.batch_size, self.accumulate_grad_batches, self.aug_repeats = (
            epochs,
            batch_size,
            accumulate_grad_batches,
            aug_repeats,
        )
        self.view, self.mixing, self.loss, self.optim = view, mixing, loss, optim
        self.ema, self.num_train = ema, num_train

    def __call__(self, context: EvalContext) -> Classifier:
        """The classifier, in evaluation mode on the context's device; the context stays as it is."""
        return self.train(context)[0]

    def train(self, context: EvalContext) -> tuple[Classifier, list[float]]:
        """The same, and the mean losses of up to a hundred stretches of its training."""
        classes = context.data.splits.train.classes
        if classes is None or len(classes) < 2:
            raise ConfigError(
                "data: a classifier needs labeled training images of two classes or more; "
                "try data.root=<a folder of class folders>"
            )
        with fork_rng(context.seed):
            return self._kept_or_trained(context, classes)

    def _kept_or_trained(self, context: EvalContext, classes: list[str]) -> tuple[Classifier, list[float]]:
        model = Classifier(
            context.backbone, context.normalize, len(classes), self.finetune, self.global_pool, self.drop_path
        ).to(context.device)
        kept = context.kept("classifiers", "finetuned" if self.finetune else "probed", fingerprint(self))
        if (ended := kept.ended()) is not None:
            log.info("%s: trained before", kept.folder)
            model.load_state_dict(ended[0])
            return model.eval(), ended[1]["losses"]
        trained, losses = self._trained(model, context, len(classes), kept)
        kept.end(trained.state_dict(), {"classes": classes, "losses": losses})
        return trained.eval(), losses

    def _trained(
        self, model: Classifier, context: EvalContext, classes: int, kept: TrainingCache
    ) -> tuple[Classifier, list[float]]:
        images = context.data.labeled_indices(self.num_train)
        if len(images) < 2:
            raise ConfigError(f"data: {len(images)} labeled training images; try two or more")
        piece = min(self.batch_size // self.accumulate_grad_batches, len(images))
        accumulate_grad_batches = min(self.accumulate_grad_batches, len(images) // piece)
        steps = self.epochs * (len(images) // (piece * accumulate_grad_batches))
        view = self.view.sized(context.data.view.size)
        optimizer, schedule = self.optim(model.backbone, model.head, piece * accumulate_grad_batches, steps)
        loss = self.loss()

        def batches(done: int) -> Iterator[tuple[Any, ...]]:
            loader = context.data.training_dataloader(
                images, view, piece, self.aug_repeats, done * accumulate_grad_batches
            )
            return zip(*[iter(loader)] * accumulate_grad_batches, strict=False)

        def loss_of(batch: Any) -> Tensor:
            known = batch[1] >= 0
            views, labels = batch[0][known].to(context.device), batch[1][known].to(context.device)
            if len(views) < 2:  # nothing to mix, and no statistics to normalize by
                return sum(p.sum() * 0 for p in model.parameters() if p.requires_grad)  # pyright: ignore
            mixed, shares = self.mixing(context.normalize(views.float() / 255), labels, classes)
            with context.autocast():
                logits = model.logits(mixed)
            return loss(logits, shares)

        averaged = None
        if self.ema is not None:
            averaged = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(self.ema), use_buffers=True)
        loop = Loop("fine-tuning" if self.finetune else "probe", steps, context.seed, kept)
        losses = loop(model.train(), optimizer, schedule, batches, loss_of, averaged)
        trained: Any = model if averaged is None else averaged.module
        return trained, losses

"""A classifier trained on labels: backbone and all, or its head alone, so fine-tuned or a probe."""

import logging
from collections.abc import Callable, Iterator
from typing import Any, Protocol, runtime_checkable

from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from cim_lightning.errors import SettingError
from cim_lightning.evaluation.subject import Subject
from cim_lightning.evaluation.training.kept import Kept, described
from cim_lightning.evaluation.training.layerwise import Layerwise
from cim_lightning.evaluation.training.loop import Loop
from cim_lightning.evaluation.training.mixing import Mixing
from cim_lightning.models.classifier import Classifier, check
from cim_lightning.seeded import seeded

log = logging.getLogger(__name__)


@runtime_checkable
class AugmentedViews(Protocol):
    """Makes views of training images at the size that images are tested at, if it has none of its own."""

    def sized(self, size: int) -> Any: ...


class ClassifierTraining:
    """Trains a classifier on a subject's labelled training images; the last step's weights are taken.

    Kept in the subject's folder under `classifiers/`, by what was asked: another part of the evaluation that
    asks for the same gets the same, without training, and an interrupted training goes on.

    Args:
        finetune: whether the backbone learns too; else a probe, with the backbone as it is.
        reads, drop_path: see Classifier.
        epochs: over the training images.
        batch_size: images a step; all there are, if they are fewer.
        pieces: parts of equal size that a step's images go through the network in, where memory is short.
        repeats: see EpochOrder.
        view: makes a view of a training image.
        mixing: what happens to batches on the device.
        loss: makes what is minimised: of logits "b n" and shares of classes "b n".
        optim: how it is optimised.
        ema: share of the old in the moving average of the weights that is evaluated, 0 to below 1; None: the
            weights themselves.
        num_train: most images to train on; None: all.

    Raises:
        SettingError: a setting is outside its limits; when called, the training images have fewer than two
            classes, or fewer than two labels.
    """

    def __init__(
        self,
        finetune: bool,
        reads: str,
        drop_path: float,
        epochs: int,
        batch_size: int,
        pieces: int,
        repeats: int,
        view: AugmentedViews,
        mixing: Mixing,
        loss: Callable[[], nn.Module],
        optim: Layerwise,
        ema: float | None,
        num_train: int | None,
    ):
        check(reads, drop_path)
        limits: dict[str, tuple[int | None, int]] = {"epochs": (epochs, 1), "batch_size": (batch_size, 2)}
        limits |= {"repeats": (repeats, 1), "num_train": (num_train, 2)}
        for name, (value, least) in limits.items():
            if value is not None and value < least:
                raise SettingError(f"classifier.{name}={value}: at least {least}; nearest: {least}")
        fitting = [n for n in range(1, batch_size // 2 + 1) if batch_size % n == 0]
        if pieces not in fitting:
            near = min(fitting, key=lambda n: abs(n - pieces))
            raise SettingError(
                f"classifier.pieces={pieces}: must divide batch_size={batch_size} into pairs or more; "
                f"nearest: {near}"
            )
        if ema is not None and not 0 <= ema < 1:
            raise SettingError(f"classifier.ema={ema}: from 0 to below 1, or null; nearest: 0.9999")
        self.finetune, self.reads, self.drop_path = finetune, reads, drop_path
        self.epochs, self.batch_size, self.pieces, self.repeats = epochs, batch_size, pieces, repeats
        self.view, self.mixing, self.loss, self.optim = view, mixing, loss, optim
        self.ema, self.num_train = ema, num_train

    def __call__(self, subject: Subject) -> Classifier:
        """The classifier, in evaluation mode on the subject's device; the subject stays as it is."""
        return self.train(subject)[0]

    def train(self, subject: Subject) -> tuple[Classifier, list[float]]:
        """The same, and the mean losses of up to a hundred stretches of its training."""
        classes = subject.data.splits.train.classes
        if classes is None or len(classes) < 2:
            raise SettingError(
                "data: a classifier needs labelled training images of two classes or more; "
                "nearest: data.root=<a folder of class folders>"
            )
        with seeded(subject.seed):
            return self._kept_or_trained(subject, classes)

    def _kept_or_trained(self, subject: Subject, classes: list[str]) -> tuple[Classifier, list[float]]:
        model = Classifier(
            subject.backbone, subject.normalize, len(classes), self.finetune, self.reads, self.drop_path
        ).to(subject.device)
        kept = subject.kept("classifiers", "finetuned" if self.finetune else "probed", described(self))
        if (ended := kept.ended()) is not None:
            log.info("%s: trained before", kept.folder)
            model.load_state_dict(ended[0])
            return model.eval(), ended[1]["losses"]
        trained, losses = self._trained(model, subject, len(classes), kept)
        kept.end(trained.state_dict(), {"classes": classes, "losses": losses})
        return trained.eval(), losses

    def _trained(
        self, model: Classifier, subject: Subject, classes: int, kept: Kept
    ) -> tuple[Classifier, list[float]]:
        images = subject.data.labelled(self.num_train)
        if len(images) < 2:
            raise SettingError(f"data: {len(images)} labelled training images; nearest: two or more")
        piece = min(self.batch_size // self.pieces, len(images))
        pieces = min(self.pieces, len(images) // piece)
        steps = self.epochs * (len(images) // (piece * pieces))
        view = self.view.sized(subject.data.view.size)
        optimizer, schedule = self.optim(model.backbone, model.head, piece * pieces, steps)
        loss = self.loss()

        def batches(done: int) -> Iterator[tuple[Any, ...]]:
            loader = subject.data.training_dataloader(images, view, piece, self.repeats, done * pieces)
            return zip(*[iter(loader)] * pieces, strict=False)

        def loss_of(batch: Any) -> Tensor:
            known = batch[1] >= 0
            views, labels = batch[0][known].to(subject.device), batch[1][known].to(subject.device)
            if len(views) < 2:  # nothing to mix, and no statistics to normalise by
                return sum(p.sum() * 0 for p in model.parameters() if p.requires_grad)  # pyright: ignore
            mixed, shares = self.mixing(subject.normalize(views.float() / 255), labels, classes)
            with subject.autocast():
                logits = model.logits(mixed)
            return loss(logits, shares)

        averaged = None
        if self.ema is not None:
            averaged = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(self.ema), use_buffers=True)
        loop = Loop("fine-tuning" if self.finetune else "probe", steps, subject.seed, kept)
        losses = loop(model.train(), optimizer, schedule, batches, loss_of, averaged)
        trained: Any = model if averaged is None else averaged.module
        return trained, losses

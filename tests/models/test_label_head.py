"""The classifier of semi-supervised training: values and gradients by hand, batches without labels."""

import math

import pytest
import torch

from cim_lightning.errors import ConfigError
from cim_lightning.models.label_head import UNLABELED, LabelHead

FEATURES = torch.tensor([[1.0, 0.0], [3.0, 2.0], [0.0, 4.0], [0.0, 0.0], [5.0, 5.0], [1.0, 1.0]])
LABELS = torch.tensor([2, UNLABELED, 0])  # of three images with two rows of features each


def head(labels: float | None = 0.25, weight: float = 1.0) -> LabelHead:
    made = LabelHead(2, labels, weight)
    made.prepare(3)
    if made.classifier is not None:
        made.classifier.weight.data = torch.tensor([[1.0, 0.0], [0.0, 0.5], [0.0, 0.0]])
        made.classifier.bias.data = torch.tensor([0.0, 0.0, 1.0])
    return made


def softmax(logits: list[float]) -> list[float]:
    total = sum(map(math.exp, logits))
    return [math.exp(logit) / total for logit in logits]


# The means of the rows are (2, 1), (0, 2) and (3, 3).
FIRST, THIRD = softmax([2.0, 0.5, 1.0]), softmax([3.0, 1.5, 1.0])
CROSS_ENTROPIES = -math.log(FIRST[2]) - math.log(THIRD[0])


def test_the_loss_is_the_sum_over_labeled_images_per_expected_labeled_image():
    losses = head(0.25, weight=2.0).add_to(
        {"loss": torch.tensor(7.0), "skill": torch.tensor(0.5)}, FEATURES, LABELS
    )
    assert losses["label_loss"].item() == pytest.approx(CROSS_ENTROPIES / (0.25 * 3))
    assert losses["loss"].item() == pytest.approx(7 + 2 * CROSS_ENTROPIES / (0.25 * 3))
    assert losses["skill"] == 0.5
    assert "label_accuracy" not in losses  # few images of a training batch have a label


def test_gradients_by_hand():
    model, features = head(0.25), FEATURES.clone().requires_grad_()
    model(features, LABELS)["label_loss"].backward()
    errors = [[p - (c == 2) for c, p in enumerate(FIRST)], [p - (c == 0) for c, p in enumerate(THIRD)]]
    bias = [(errors[0][c] + errors[1][c]) / 0.75 for c in range(3)]
    weight = [[(errors[0][c] * a + errors[1][c] * b) / 0.75 for a, b in ((2, 3), (1, 3))] for c in range(3)]
    torch.testing.assert_close(model.classifier.bias.grad, torch.tensor(bias))
    torch.testing.assert_close(model.classifier.weight.grad, torch.tensor(weight))
    rows = [[error[0] / 0.75 / 2, 0.5 * error[1] / 0.75 / 2] for error in errors]
    expected = torch.tensor([rows[0], rows[0], [0.0, 0.0], [0.0, 0.0], rows[1], rows[1]])
    torch.testing.assert_close(features.grad, expected)


def test_validation_averages_over_the_labeled_images():
    metrics = head().eval()(FEATURES, torch.tensor([0, UNLABELED, 1]))
    expected = (-math.log(FIRST[0]) - math.log(THIRD[1])) / 2
    assert metrics["label_loss"].item() == pytest.approx(expected)
    assert metrics["label_accuracy"] == 50


@pytest.mark.parametrize("training", [True, False])
def test_a_batch_without_labels_adds_zero_and_gives_all_parameters_gradients(training):
    model, features = head().train(training), FEATURES.clone().requires_grad_()
    losses = model.add_to({"loss": torch.tensor(7.0)}, features, torch.full((3,), UNLABELED))
    losses["loss"].backward()
    assert losses["loss"] == 7
    for tensor in (features, *model.parameters()):
        assert tensor.grad is not None
        assert not tensor.grad.any()


def test_the_loss_of_a_batch_is_the_mean_of_its_parts():
    """A step on several devices, or on accumulated batches, is that of the whole batch."""
    features = torch.randn(16, 2, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([2, -1, 0, 1, -1, -1, -1, 0])  # the parts have three and one
    parts = [head()(features[8 * i : 8 * i + 8], labels[4 * i : 4 * i + 4])["label_loss"] for i in range(2)]
    torch.testing.assert_close(sum(parts) / 2, head()(features, labels)["label_loss"])


def test_without_a_share_of_labels_nothing_changes():
    model = head(None)
    assert [*model.parameters()] == []
    assert model.state_dict() == {}
    losses = {"loss": torch.tensor(7.0)}
    assert model.add_to(losses, FEATURES, None) == losses


def test_a_checkpoint_sets_the_number_of_classes():
    saved = {f"method.{name}": value for name, value in head().state_dict().items()}
    restored = torch.nn.ModuleDict({"method": LabelHead(2, 0.5)})
    restored.load_state_dict(saved)
    torch.testing.assert_close(dict(restored.state_dict()), saved)
    with pytest.raises(RuntimeError, match="Unexpected key"):
        torch.nn.ModuleDict({"method": LabelHead(2)}).load_state_dict(saved)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: head(0.0), "labels=0.0: must be above 0 and at most 1; try labels=0.1"),
        (lambda: head(1.5), "labels=1.5: must be above 0 and at most 1; try labels=1.0"),
        (lambda: head(0.5, -1), "labels_weight=-1: must be at least 0; try labels_weight=0"),
        (
            lambda: head(None, 3.0),
            "labels_weight=3.0: there is no classifier without labels; try labels_weight=1.0",
        ),
        (
            lambda: LabelHead(2, 0.5).prepare(None),
            "labels=0.5: the training images have no labels; "
            "put them into one folder per class, or try labels=null",
        ),
        (
            lambda: head().add_to({"loss": torch.tensor(0.0)}, FEATURES, None),
            "labels=0.25: the batches have no labels; use batches (crops, labels), or try labels=null",
        ),
        (
            lambda: LabelHead(2, 0.5)(FEATURES, LABELS),
            "labels=0.5: the number of classes is not known; call prepare before training",
        ),
    ],
)
def test_errors_are_one_line_with_the_setting(call, message):
    with pytest.raises(ConfigError) as caught:
        call()
    assert str(caught.value) == message

"""Counted operations against counts by hand."""

import pytest
import torch

from cim_lightning.flops import flops_per_image, images_to_count
from cim_lightning.models.timm_backbone import TimmBackbone


class Layers(torch.nn.Module):
    """Batch normalization and two linear layers."""

    def __init__(self):
        super().__init__()
        self.norm = torch.nn.BatchNorm1d(5)
        self.first, self.second = torch.nn.Linear(5, 7), torch.nn.Linear(7, 3)

    def compute_batch_losses(self, batch):
        return {"loss": self.second(self.first(self.norm(batch[0]))).sum()}


CROPS = torch.rand(8, 5)


def test_a_multiply_add_is_two_operations_and_backward_is_twice_forward():
    flops = flops_per_image(Layers(), CROPS)
    assert flops.forward == 2 * (5 * 7 + 7 * 3)
    assert flops.backward == 2 * flops.forward  # gradients of weights and of inputs


def test_frozen_layers_need_no_gradient():
    layers = Layers()
    layers.first.requires_grad_(False)
    layers.norm.requires_grad_(False)
    assert flops_per_image(layers, CROPS).backward == 2 * 7 * 3  # weights of the second layer


def test_attention_is_counted_in_full():
    class Attention(torch.nn.Module):
        def compute_batch_losses(self, batch):
            q = batch[0].view(-1, 2, 10, 8).requires_grad_()
            return {"loss": torch.nn.functional.scaled_dot_product_attention(q, q, q).sum()}

    flops = flops_per_image(Attention(), torch.rand(8, 160))
    assert flops.forward == 2 * 2 * (2 * 10 * 10 * 8)  # scores and weighted sum, of two heads


def test_counting_changes_neither_weights_nor_random_streams():
    layers = Layers()
    before = {name: value.clone() for name, value in layers.state_dict().items()}
    rng_state = torch.get_rng_state()
    flops_per_image(layers, CROPS)
    assert all(torch.equal(before[name], value) for name, value in layers.state_dict().items())
    assert all(parameter.grad is None for parameter in layers.parameters())
    assert torch.equal(rng_state, torch.get_rng_state())


def test_a_contrastive_loss_counts_the_keys_of_the_batch():
    class Similarities(Layers):
        def compute_batch_losses(self, batch):
            features = batch[0].requires_grad_()
            return {"loss": (features @ features.T).sum()}

    # The forward pass has 2 * 5 operations for each other image of the batch.
    assert flops_per_image(Similarities(), torch.rand(images_to_count(32), 5)).forward == 2 * 5 * 32
    assert [images_to_count(batch_size) for batch_size in (1, 8, 64, 4096)] == [2, 8, 64, 64]


def test_a_loss_without_gradient_counts_as_0():
    idle = torch.nn.Identity()
    idle.compute_batch_losses = lambda batch: {"loss": torch.zeros(())}
    assert flops_per_image(idle, CROPS) == (0, 0)


def test_a_vit_by_hand():
    """Every weight of a linear layer is used once per token; attention adds little."""
    from cim_lightning.cropping.resize import ResizeCropper
    from cim_lightning.methods.supervised import Supervised

    shape = {"patch_size": 4, "img_size": 16, "embed_dim": 96, "depth": 2, "num_heads": 3}
    method = Supervised(TimmBackbone("vit_tiny_patch16_224", shape, "timm", False, "timm"), num_classes=10)
    crops = ResizeCropper(16)(torch.zeros(5, 3, 16, 16, dtype=torch.uint8), 0)
    tokens, blocks = 17, method.backbone.model.blocks
    by_hand = (
        2
        * tokens
        * sum(p.numel() for n, p in blocks.named_parameters() if n.endswith("weight") and p.ndim == 2)
    )
    by_hand += 2 * 16 * 3 * 16 * 96  # patches
    by_hand += 2 * 96 * 10  # classes
    by_hand += 2 * 2 * 2 * tokens**2 * 96  # attention
    assert flops_per_image(method, crops).forward == pytest.approx(by_hand, rel=1e-6)

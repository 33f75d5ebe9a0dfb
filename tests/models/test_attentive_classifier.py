"""The attentive classifier: attention by hand, and independence of the order of the cells."""

import pytest
import torch

from cim_lightning.models.attentive_classifier import AttentiveClassifier, normalized_cells


def classifier(dim: int = 5, num_classes: int = 3) -> AttentiveClassifier:
    torch.manual_seed(0)
    built = AttentiveClassifier(dim, num_classes).eval()
    for parameter in built.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return built


def test_the_logits_are_those_of_one_attention_head_by_hand():
    model, grid = classifier(), torch.randn(2, 5, 2, 3, generator=torch.Generator().manual_seed(1))
    cells = grid.flatten(2).transpose(1, 2)
    deviation = cells.var(dim=2, correction=0, keepdim=True).add(1e-5).sqrt()
    cells = (cells - cells.mean(dim=2, keepdim=True)) / deviation * model.norm.weight + model.norm.bias
    attention = model.attention
    weights, biases = attention.in_proj_weight.chunk(3), attention.in_proj_bias.chunk(3)
    query = weights[0] @ model.query[0, 0] + biases[0]
    keys, values = (cells @ weights[i].T + biases[i] for i in (1, 2))
    shares = (keys @ query / 5**0.5).softmax(dim=1)
    attended = (shares[..., None] * values).sum(dim=1)
    attended = attended @ attention.out_proj.weight.T + attention.out_proj.bias
    expected = attended @ model.linear.weight.T + model.linear.bias
    torch.testing.assert_close(model(normalized_cells(grid)), expected)


def test_the_order_of_the_cells_and_the_other_images_do_not_matter():
    model, grid = classifier(), torch.randn(2, 5, 2, 3, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(model(normalized_cells(grid.flip(2, 3))), model(normalized_cells(grid)))
    torch.testing.assert_close(model(normalized_cells(grid[:1])), model(normalized_cells(grid))[:1])


@pytest.mark.parametrize(("dim", "heads"), [(192, 3), (64, 1), (100, 1)])
def test_a_head_has_64_channels_if_they_divide_the_width(dim, heads):
    assert classifier(dim).attention.num_heads == heads


def test_gradients_reach_every_parameter():
    model = classifier(128)
    model(normalized_cells(torch.randn(2, 128, 2, 2))).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for name, p in model.named_parameters())


def test_the_logits_and_gradients_are_those_of_torch_attention_with_two_heads():
    model = classifier(128).double()
    grid = torch.randn(2, 128, 2, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    cells = model.norm(grid.flatten(2).transpose(1, 2))
    attended, _ = model.attention(model.query.expand(2, -1, -1), cells, cells)
    expected, found = model.linear(attended[:, 0]), model(normalized_cells(grid))
    torch.testing.assert_close(found, expected)
    parameters = [*model.parameters()]
    gradients = [torch.autograd.grad(logits.square().sum(), parameters) for logits in (found, expected)]
    torch.testing.assert_close(*gradients)

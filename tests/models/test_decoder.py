"""Decoders against slow references with loops over images, exemplars and heads."""

import copy
import functools
import math
import re

import pytest
import torch
import torch.nn.functional as F

from cim_lightning.errors import ConfigError
from cim_lightning.models.backbone import Features
from cim_lightning.models.decoder import ConvolutionDecoder, CorrelationDecoder

B, K, DIM, WIDTH, HEADS = 3, 2, 7, 20, 5
CONTEXT, EXEMPLAR, SIZE = (3, 5), (2, 3), (11, 13)


def features(n: int, grid: tuple[int, int], seed: int) -> Features:
    generator = torch.Generator().manual_seed(seed)
    return Features(torch.randn(n, DIM, generator=generator), torch.randn(n, DIM, *grid, generator=generator))


def randomize(decoder: torch.nn.Module) -> torch.nn.Module:
    """Add noise to all parameters, so that biases and norms have an effect."""
    generator = torch.Generator().manual_seed(0)
    for parameter in decoder.parameters():
        parameter.data.add_(torch.randn(parameter.shape, generator=generator) * 0.2)
    return decoder


def cross_attention(depth: int) -> CorrelationDecoder:
    return randomize(CorrelationDecoder(DIM, WIDTH, depth, HEADS, mlp_ratio=3.0))


def maps() -> torch.Tensor:
    return torch.rand(B, K, *SIZE, generator=torch.Generator().manual_seed(9)) < 0.3


@pytest.mark.parametrize(("head_std", "expected"), [(1.0, 53), (1e-4, 6 * math.log(2))])
def test_the_loss_of_six_exemplars_at_the_start(head_std, expected):
    """Near 53 in the released code, and 6 log 2 for logits of 0."""
    generator = torch.Generator().manual_seed(0)
    context = Features(
        torch.randn(2, 16, generator=generator), torch.randn(2, 16, 10, 10, generator=generator)
    )
    exemplars = Features(
        torch.randn(8, 16, generator=generator), torch.randn(8, 16, 4, 4, generator=generator)
    )
    maps = (torch.rand(2, 4, 160, 160, generator=generator) < 0.31).float()
    losses = []
    for seed in range(5):
        torch.manual_seed(seed)
        logits = CorrelationDecoder(16, width=512, head_std=head_std)(context, exemplars, (160, 160))
        losses.append(6 * F.binary_cross_entropy_with_logits(logits, maps).item())
    assert sum(losses) / 5 == pytest.approx(expected, rel=0.2)


def test_with_a_prior_the_last_layer_cannot_be_random():
    with pytest.raises(ConfigError, match=r"^head_std=1\.0: with a prior, .*; try head_std=null"):
        CorrelationDecoder(DIM, WIDTH, 1, HEADS, prior=torch.zeros(3, 3), head_std=1.0)


# --- slow references ---


def norm(tokens: torch.Tensor, layer) -> torch.Tensor:
    centered = tokens - tokens.mean(dim=-1, keepdim=True)
    scaled = centered / (centered.square().mean(dim=-1, keepdim=True) + 1e-6).sqrt()
    return scaled * layer.weight + layer.bias


def linear(tokens: torch.Tensor, layer) -> torch.Tensor:
    return tokens @ layer.weight.T + layer.bias


def mlp(tokens: torch.Tensor, layer) -> torch.Tensor:
    hidden = linear(tokens, layer.fc1)
    return linear(hidden * 0.5 * (1 + torch.erf(hidden / math.sqrt(2))), layer.fc2)


def tokens_of(grid: torch.Tensor) -> torch.Tensor:
    _, h, w = grid.shape
    return torch.stack([grid[:, y, x] for y in range(h) for x in range(w)])


def positions(h: int, w: int) -> torch.Tensor:
    rows = []
    for y in range(h):
        for x in range(w):
            angles = [place * 10000 ** (-4 * i / WIDTH) for place in (y, x) for i in range(WIDTH // 4)]
            rows.append([math.sin(a) for a in angles] + [math.cos(a) for a in angles])
    return torch.tensor(rows)


def upsample(grid: torch.Tensor) -> torch.Tensor:
    """Upsample bilinearly with aligned corners, pixel by pixel."""
    h, w = grid.shape
    rows = []
    for i in range(SIZE[0]):
        for j in range(SIZE[1]):
            y, x = i * (h - 1) / (SIZE[0] - 1), j * (w - 1) / (SIZE[1] - 1)
            top, left = min(int(y), h - 2), min(int(x), w - 2)
            down, right = y - top, x - left
            rows.append(
                (1 - down) * ((1 - right) * grid[top, left] + right * grid[top, left + 1])
                + down * ((1 - right) * grid[top + 1, left] + right * grid[top + 1, left + 1])
            )
    return torch.stack(rows).reshape(SIZE)


def two_logits(tokens: torch.Tensor, layer) -> torch.Tensor:
    """Return the logits of both classes, upsampled separately."""
    logits = linear(tokens, layer).unflatten(0, CONTEXT)
    return torch.stack([upsample(logits[..., label]) for label in (0, 1)])


def attend(queries: torch.Tensor, keys: torch.Tensor, block) -> torch.Tensor:
    query = linear(norm(queries, block.norm1), block.query)
    both = linear(norm(keys, block.norm1), block.key_value)
    key, value = both[:, :WIDTH], both[:, WIDTH:]
    per_head = WIDTH // HEADS
    mixed = []
    for head in range(HEADS):
        part = slice(head * per_head, (head + 1) * per_head)
        scores = torch.exp(query[:, part] @ key[:, part].T / math.sqrt(per_head))
        mixed.append(scores / scores.sum(dim=-1, keepdim=True) @ value[:, part])
    queries = queries + linear(torch.cat(mixed, dim=-1), block.out)
    return queries + mlp(norm(queries, block.norm2), block.mlp)


def slow_cross_attention(decoder, context: Features, exemplars: Features) -> list[torch.Tensor]:
    logits = []
    for i in range(B):
        for j in range(K):
            queries = linear(tokens_of(context.grid[i]), decoder.embed) + positions(*CONTEXT)
            pooled, grid = exemplars.pooled[None, i * K + j], tokens_of(exemplars.grid[i * K + j])
            keys = linear(torch.cat((pooled, grid)), decoder.embed)
            for block in decoder.blocks:
                queries = attend(queries, keys, block)
            logits.append(two_logits(norm(queries, decoder.norm), decoder.head))
    return logits


def slow_convolution(decoder, context: Features, exemplars: Features) -> list[torch.Tensor]:
    logits = []
    (h, w), (kernel_h, kernel_w) = CONTEXT, EXEMPLAR
    for i in range(B):
        for j in range(K):
            maps = norm(linear(tokens_of(context.grid[i]), decoder.embed), decoder.norm).unflatten(0, CONTEXT)
            kernel = norm(linear(tokens_of(exemplars.grid[i * K + j]), decoder.embed), decoder.norm)
            kernel = kernel.unflatten(0, EXEMPLAR)
            correlation = []
            for y in range(h):
                for x in range(w):
                    total = torch.zeros(WIDTH)
                    for dy in range(kernel_h):
                        for dx in range(kernel_w):
                            row, column = y + dy - (kernel_h - 1) // 2, x + dx - (kernel_w - 1) // 2
                            if 0 <= row < h and 0 <= column < w:
                                total = total + maps[row, column] * kernel[dy, dx]
                    correlation.append(total / (kernel_h * kernel_w))
            tokens = torch.stack(correlation)
            for layer, block in decoder.blocks:
                tokens = tokens + mlp(norm(tokens, layer), block)
            logits.append(two_logits(norm(tokens, decoder.head[0]), decoder.head[1]))
    return logits


def slow_loss(outputs: list[torch.Tensor]) -> torch.Tensor:
    """Return the softmax cross-entropy: mean over pixels and images, sum over exemplars."""
    total = torch.zeros(())
    for logits, target in zip(outputs, maps().flatten(0, 1), strict=True):
        probabilities = torch.exp(logits) / torch.exp(logits).sum(dim=0)
        total = total - torch.where(target, probabilities[1], probabilities[0]).log().mean()
    return total / B


# --- tests ---

DECODERS = {
    "cross_attention": (cross_attention, slow_cross_attention),
    "convolution": (
        lambda depth: randomize(ConvolutionDecoder(DIM, WIDTH, depth, mlp_ratio=3.0)),
        slow_convolution,
    ),
}


@pytest.mark.parametrize("depth", [1, 2])
@pytest.mark.parametrize("name", DECODERS)
def test_logits_loss_and_gradients_equal_the_slow_reference(name, depth):
    make, slow = DECODERS[name]
    fast = make(depth)
    reference = copy.deepcopy(fast)
    context, exemplars = features(B, CONTEXT, 1), features(B * K, EXEMPLAR, 2)
    for tensor in (*context, *exemplars):
        tensor.requires_grad_()
    logits = fast(context, exemplars, SIZE)
    loss = F.binary_cross_entropy_with_logits(logits, maps().float()) * K
    outputs = slow(reference, context, exemplars)
    expected = torch.stack([both[1] - both[0] for both in outputs]).unflatten(0, (B, K))
    torch.testing.assert_close(logits, expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(loss, slow_loss(outputs), atol=1e-5, rtol=0)

    inputs = [context.grid, exemplars.grid] + ([exemplars.pooled] if name == "cross_attention" else [])
    found = torch.autograd.grad(loss, [*fast.parameters(), *inputs])
    gradients = torch.autograd.grad(slow_loss(outputs), [*reference.parameters(), *inputs])
    names = [label for label, _ in fast.named_parameters()] + ["context", "exemplars", "pooled"][
        : len(inputs)
    ]
    for label, gradient, reference_gradient in zip(names, found, gradients, strict=True):
        message = functools.partial("{}: {}".format, label)
        torch.testing.assert_close(gradient, reference_gradient, atol=1e-5, rtol=1e-5, msg=message)
        assert reference_gradient.abs().max() > 1e-6, label


@pytest.mark.parametrize("name", DECODERS)
def test_logits_do_not_depend_on_the_other_images(name):
    decoder = DECODERS[name][0](2)
    context, exemplars = features(B, CONTEXT, 1), features(B * K, EXEMPLAR, 2)
    expected = decoder(context, exemplars, SIZE)
    for i in range(B):
        mixed = features(B, CONTEXT, 3), features(B * K, EXEMPLAR, 4)
        for mixed_features, own, rows in zip(
            mixed, (context, exemplars), (slice(i, i + 1), slice(i * K, i * K + K)), strict=True
        ):
            for mixed_tensor, tensor in zip(mixed_features, own, strict=True):
                mixed_tensor[rows] = tensor[rows]
        logits = decoder(*mixed, SIZE)
        torch.testing.assert_close(logits[i], expected[i], atol=1e-6, rtol=1e-6)
        assert (logits - expected).abs().amax(dim=(1, 2, 3)).gt(1e-3).sum() == B - 1


def test_logits_do_not_depend_on_the_other_exemplars():
    decoder = cross_attention(2)
    context, exemplars = features(1, CONTEXT, 1), features(3, EXEMPLAR, 2)
    expected = decoder(context, exemplars, SIZE)
    swapped = decoder(context, Features(*(tensor[[2, 1, 0]] for tensor in exemplars)), SIZE)
    torch.testing.assert_close(swapped, expected[:, [2, 1, 0]], atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize(
    ("changes", "expected", "suggestion"),
    [
        ({"depth": 0}, "depth=0: ", {"depth": 1}),
        ({"num_heads": 6}, "num_heads=6: must divide width=20", {"num_heads": 5}),
        ({"num_heads": 3}, "num_heads=3: must divide width=20", {"num_heads": 4}),
        ({"num_heads": 0}, "num_heads=0: ", {"num_heads": 1}),
        ({"width": 30}, "width=30: must be a multiple of 4", {"width": 40}),
        ({"width": 0}, "width=0: must be a multiple of 4", {"width": 20}),
        ({"mlp_ratio": 0.01}, "mlp_ratio=0.01: ", {"mlp_ratio": 4}),
    ],
)
def test_a_mistake_gets_one_line_with_a_valid_suggestion(changes, expected, suggestion):
    valid = {"dim": DIM, "width": WIDTH, "depth": 1, "num_heads": HEADS, "mlp_ratio": 3.0}
    ((name, value),) = suggestion.items()
    with pytest.raises(ConfigError, match=f"^{re.escape(expected)}[^\n]*try {name}={value}$"):
        CorrelationDecoder(**valid | changes)
    CorrelationDecoder(**valid | changes | suggestion)


@pytest.mark.parametrize(
    ("args", "message"), [((WIDTH, 0), "depth=0: [^\n]*try depth=1"), ((0, 1), "width=0: [^\n]*try width=1")]
)
def test_a_convolution_decoder_without_depth_or_width_is_an_error(args, message):
    with pytest.raises(ConfigError, match=f"^{message}$"):
        ConvolutionDecoder(DIM, *args, 3.0)

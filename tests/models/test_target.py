"""Targets: closed form of the EMA, tied parameters, batch normalization and gradients."""

import copy

import pytest
import torch
from timm.models.vision_transformer import Block
from torch import nn

from cim_lightning.errors import ConfigError
from cim_lightning.models.ema import lerp_unless_skipped
from cim_lightning.models.target import EmaTarget, SeparateTarget, SharedTarget, check_tied


class Net(nn.Module):
    """A network with a class token, batch normalization and dropout, which targets treat differently."""

    def __init__(self):
        super().__init__()
        self.cls_token = nn.Parameter(torch.randn(3))
        self.linear = nn.Linear(3, 5)
        self.norm = nn.BatchNorm1d(5)
        self.dropout = nn.Dropout(0.5)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return self.dropout(self.norm(self.linear(inputs + self.cls_token)))


def shift(network: nn.Module) -> dict[str, torch.Tensor]:
    """Change every parameter, as an optimizer would, and return a copy of the new parameters."""
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(torch.randn_like(parameter))
    return copy.deepcopy(dict(network.named_parameters()))


@pytest.mark.parametrize("momentum", [0.0, 0.3, 0.9, 1.0])
def test_the_copy_matches_the_closed_form_after_each_of_three_updates(momentum):
    online = Net()
    target = EmaTarget(online, momentum, tied=[])
    start = copy.deepcopy(dict(online.named_parameters()))
    history = []
    for steps in (1, 2, 3):
        history.append(shift(online))
        assert target.update(online, progress=0) == {"momentum": pytest.approx(momentum)}
        for name, copied in target.network.named_parameters():
            expected = momentum**steps * start[name]
            for age, parameters in enumerate(reversed(history)):
                expected = expected + (1 - momentum) * momentum**age * parameters[name]
            torch.testing.assert_close(copied, expected, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize(
    ("progress", "momentum"), [(0, 0.9), (0.25, 1 - 0.1 * 0.85355339), (0.5, 0.95), (1, 1.0)]
)
def test_momentum_rises_to_1_by_a_cosine(progress, momentum):
    online = Net()
    target = EmaTarget(online, 0.9, tied=[])
    start, moved = online.linear.weight.detach().clone(), shift(online)["linear.weight"]
    assert target.update(online, progress)["momentum"] == pytest.approx(momentum)
    torch.testing.assert_close(target.network.linear.weight, momentum * start + (1 - momentum) * moved)


@pytest.mark.parametrize(("momentum", "suggestion"), [(1.5, 1), (-0.5, 0)])
def test_a_momentum_outside_0_to_1_is_an_error(momentum, suggestion):
    with pytest.raises(ConfigError, match=rf"^momentum={momentum}: .*try momentum={suggestion}\.0$"):
        EmaTarget(Net(), momentum, tied=[])


def test_constant_parameters_stay_bit_identical_in_the_copy():
    online = Net()
    target = EmaTarget(online, 0.1, tied=[])
    for progress in (0.1, 0.5, 0.99):
        target.update(online, progress)
    for name, copied in target.network.named_parameters():
        assert torch.equal(copied, online.get_parameter(name))


def test_only_tied_parameters_are_copied():
    online = nn.Sequential(Net())  # tied by the last part of its name
    target = EmaTarget(online, 0.99, tied=["cls_token"])
    shift(online)
    target.update(online, 0)
    assert torch.equal(target.network[0].cls_token, online[0].cls_token)
    assert not torch.equal(target.network[0].linear.weight, online[0].linear.weight)


def test_the_copy_shares_no_parameters_and_has_no_gradients():
    online = Net()
    target = EmaTarget(online, 0.5, tied=[])
    before = target.network.linear.weight.clone()
    shift(online)
    assert torch.equal(before, target.network.linear.weight)
    assert not any(parameter.requires_grad for parameter in target.parameters())
    assert all(parameter.requires_grad for parameter in online.parameters())
    inputs = torch.randn(4, 3, requires_grad=True)
    assert not target(online, inputs).requires_grad


def test_the_output_is_the_output_of_the_copy():
    online = Net()
    target = EmaTarget(online, 0.5, tied=[])
    inputs = torch.randn(4, 3)
    before = target(online, inputs)
    shift(online)
    torch.testing.assert_close(target(online, inputs), before)


@pytest.mark.parametrize("mode", [True, False])
def test_dropout_is_off_in_the_copy_in_both_modes(mode):
    target = EmaTarget(Net(), 0.5, tied=[]).train(mode)
    assert not target.network.dropout.training
    assert target.network(torch.randn(50, 3)).count_nonzero() == 250


def test_stochastic_depth_is_off_in_the_copy():
    online = Block(8, 2, drop_path=0.5)
    target = EmaTarget(online, 0.5, tied=[])
    inputs = torch.randn(8, 5, 8)
    expected = online.eval()(inputs)
    online.train()
    assert torch.equal(target(online, inputs), expected)


def test_batch_norm_uses_the_statistics_of_its_own_batches():
    online = Net()
    target = EmaTarget(online, 0.5, tied=[])
    nn.ModuleList([online, target]).train()  # as Lightning does
    contexts = torch.randn(64, 3) * 3 + 7
    output = target(online, contexts)
    torch.testing.assert_close(output.mean(dim=0), torch.zeros(5), atol=1e-5, rtol=0)
    torch.testing.assert_close(output.std(dim=0, correction=0), torch.ones(5), atol=1e-3, rtol=0)
    before_norm = target.network.linear(contexts + target.network.cls_token)
    torch.testing.assert_close(target.network.norm.running_mean, 0.1 * before_norm.mean(dim=0))
    assert not online.norm.running_mean.any()  # contexts do not change the online network's

    online(torch.randn(64, 3))
    running_mean = target.network.norm.running_mean.clone()
    target.update(online, 0.5)
    assert torch.equal(running_mean, target.network.norm.running_mean)  # exemplars do not change the copy's

    target.eval()
    output = target(online, contexts[:1])  # normalized by running statistics, so not all 0
    assert torch.equal(running_mean, target.network.norm.running_mean)
    assert output.abs().max() > 0


def test_affine_parameters_of_batch_norm_follow_by_ema():
    online = Net()
    target = EmaTarget(online, 0.25, tied=[])
    shift(online)
    target.update(online, 0)
    torch.testing.assert_close(target.network.norm.weight, 0.25 + 0.75 * online.norm.weight)


def test_a_shared_target_is_the_online_network_with_gradients():
    online = Net().eval()
    target = SharedTarget(online)
    inputs = torch.randn(4, 3)
    assert torch.equal(target(online, inputs), online(inputs))
    target(online, inputs).sum().backward()
    assert all(parameter.grad is not None for parameter in online.parameters())
    assert not list(target.parameters())
    assert target.update(online, 0.9) == {}


def test_a_separate_target_starts_equal_and_has_its_own_gradients():
    online = Net().eval()
    target = SeparateTarget(online).eval()
    inputs = torch.randn(4, 3)
    torch.testing.assert_close(target(online, inputs), online(inputs))
    target(online, inputs).sum().backward()
    assert all(parameter.grad is not None for parameter in target.parameters())
    assert all(parameter.grad is None for parameter in online.parameters())
    before = copy.deepcopy(target.network.state_dict())
    shift(online)
    target.update(online, 0.5)
    assert all(torch.equal(before[name], tensor) for name, tensor in target.network.state_dict().items())


@pytest.mark.parametrize(("applied", "moves"), [(1.0, True), (0.0, False)])
def test_a_skipped_step_does_not_move_the_copy(applied, moves):
    """The flag is a tensor, which does not wait for the device; the numbers are those without it."""
    online = Net()
    target, other = EmaTarget(online, 0.9, tied=[]), EmaTarget(online, 0.9, tied=[])
    before = copy.deepcopy(dict(target.network.named_parameters()))
    shift(online)
    assert target.update(online, 0.5, torch.tensor(applied)) == other.update(online, 0.5)
    expected = dict(other.network.named_parameters()) if moves else before
    for name, copied in target.network.named_parameters():
        assert torch.equal(copied, expected[name])


@pytest.mark.user_input("value", "`target.tied=[foo]`", "refused, with the names of the parameters")
def test_tied_names_are_parameters_of_one_of_the_networks():
    first, second = nn.Linear(2, 2), nn.LayerNorm(2)
    targets = [EmaTarget(network, 0.9, ["weight"]) for network in (first, second)]
    check_tied(targets)
    check_tied([EmaTarget(first, 0.9, ["bias"]), EmaTarget(nn.Linear(2, 2, bias=False), 0.9, ["bias"])])
    with pytest.raises(ConfigError, match=r"^tied=\[wait\]: no network has .*; did you mean weight\?$"):
        check_tied([SharedTarget(first), EmaTarget(first, 0.9, ["wait"])])


def test_the_fused_average_equals_lerp_to_the_bit_and_skips_a_step():
    """On the CPU, torch has the same fused kernel as on a GPU, where it is used."""
    generator = torch.Generator().manual_seed(0)
    sizes = (1, 7, 64, 12_345)
    values = [torch.randn(size, generator=generator) for size in sizes]
    averages = [torch.randn(size, generator=generator) for size in sizes]
    for weight in (0.004, 0.0017263, 0.3, 0.0):
        expected = [average.lerp(value, weight) for average, value in zip(averages, values, strict=True)]
        lerp_unless_skipped(averages, values, weight, torch.tensor(0.0))
        assert weight == 0 or not torch.equal(averages[3], expected[3])
        lerp_unless_skipped(averages, values, weight, torch.tensor(1.0))
        assert all(map(torch.equal, averages, expected))

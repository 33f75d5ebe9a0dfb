"""The head of DINO."""

import pytest
import torch

from cim_lightning.errors import ConfigError
from cim_lightning.models.dino_head import DINOHead


def test_outputs_are_cosines_of_the_mlp_output_to_each_prototype():
    torch.manual_seed(0)
    head = DINOHead(5, hidden_dim=7, bottleneck_dim=3, out_dim=11)
    features = torch.randn(4, 5)
    scores = head(features)
    bottleneck = head.mlp(features)
    for i in range(4):
        for j in range(11):
            cosine = torch.cosine_similarity(bottleneck[i], head.prototypes[j], dim=0)
            torch.testing.assert_close(scores[i, j], cosine)
    widths = [layer.out_features for layer in head.mlp if isinstance(layer, torch.nn.Linear)]
    assert widths == [7, 7, 3]


def test_a_mistake_gets_one_line():
    with pytest.raises(ConfigError, match=r"^out_dim=0: must be at least 1; try out_dim=1$"):
        DINOHead(5, 7, 3, 0)

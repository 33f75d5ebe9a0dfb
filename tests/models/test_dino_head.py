"""DINO's head."""

import pytest
import torch

from cim_lightning.errors import ConfigError
from cim_lightning.models.dino_head import DINOHead


def test_scores_are_cosines_of_the_mlps_output_to_each_prototype():
    torch.manual_seed(0)
    head = DINOHead(5, hidden=7, bottleneck=3, out=11)
    features = torch.randn(4, 5)
    scores = head(features)
    inside = head.mlp(features)
    for i in range(4):
        for j in range(11):
            cosine = torch.cosine_similarity(inside[i], head.prototypes[j], dim=0)
            torch.testing.assert_close(scores[i, j], cosine)
    widths = [layer.out_features for layer in head.mlp if isinstance(layer, torch.nn.Linear)]
    assert widths == [7, 7, 3]


def test_a_mistake_gets_one_line():
    with pytest.raises(ConfigError, match=r"^method\.head\.out=0: at least 1; try 1$"):
        DINOHead(5, 7, 3, 0)

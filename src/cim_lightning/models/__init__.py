"""Networks: backbones, decoders, targets, heads."""

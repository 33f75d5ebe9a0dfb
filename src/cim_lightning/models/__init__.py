"""Networks: backbones, decoders, targets."""

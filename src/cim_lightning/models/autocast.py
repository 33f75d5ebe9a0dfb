"""Device types of torch.autocast."""

from torch import Tensor


def autocast_device(tensor: Tensor) -> str:
    """Return the device type of a tensor for torch.autocast.

    The "meta" device, on which operations are counted, has no autocast: its type is that of the CPU.
    """
    return "cpu" if tensor.device.type == "meta" else tensor.device.type

"""The fifteen common corruptions, computed on the device."""

"""Croppings: uint8 views in, batches for a method out, all on the device that holds the views."""

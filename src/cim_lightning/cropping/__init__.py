"""Croppings: map views to the batch of a method, on the device of the views."""

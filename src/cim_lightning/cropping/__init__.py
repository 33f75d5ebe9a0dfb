"""Exemplars, contexts and correlation maps, cut out of views on the device."""

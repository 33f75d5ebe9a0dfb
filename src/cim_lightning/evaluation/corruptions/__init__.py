"""The fifteen common corruptions, drawn on the device."""

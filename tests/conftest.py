"""Shapes and types in signatures are checked wherever the tests go."""

from jaxtyping import install_import_hook

install_import_hook("cim_lightning", "beartype.beartype").__enter__()

"""Lists of image files: text files with a path per line, CSV, TSV and Parquet tables."""

from collections.abc import Collection

from cim_lightning.data.listing import Listing

LIST_SUFFIXES = (".txt", ".lst", ".csv", ".tsv", ".parquet")


def read_list(path: str, parameter: str, given: str, suffixes: Collection[str]) -> Listing:
    raise NotImplementedError

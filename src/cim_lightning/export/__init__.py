"""The backbone alone, in the formats that others read, each compared with what it was written from."""

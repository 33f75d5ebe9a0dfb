"""The ledger of benchmarks: timing, results, and the page docs/benchmarks.md."""

"""The end of a run on several devices if one of its processes dies."""

from collections.abc import Iterator
from contextlib import contextmanager

from cim_lightning import stop_signals
from cim_lightning.errors import RunError


@contextmanager
def explain_lost_process() -> Iterator[None]:
    """Raise RunError if the block fails because another process of the run has ended.

    The communication between processes fails within seconds on CPUs (gloo). On GPUs, Lightning ends all
    processes within 5 seconds; on several nodes, NCCL's own time limit ends them.
    """
    try:
        yield
    except RuntimeError as error:
        from torch.distributed import DistError  # slow to import

        if not isinstance(error, DistError) and "gloo" not in str(error):
            raise
        line = "another process of this run ended; its own error, if any, is above"
        raise RunError(f"{line}; {stop_signals.outcome() or 'run the same command again'}") from error

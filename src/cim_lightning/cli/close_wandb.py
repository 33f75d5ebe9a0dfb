"""Close the run of wandb at the end of a job."""

import logging
import os
import sys
import threading
from pathlib import Path

from cim_lightning import stop_signals
from cim_lightning.stop_signals import Stopped

SECONDS = 20.0  # for the upload after a signal

log = logging.getLogger("cim_lightning")


def close_wandb(failed: bool) -> None:
    """Finish the run of wandb, if there is one. Otherwise, the next job of this process would log to it.

    After a signal, wandb gets a limited time, and then this process ends.

    Args:
        failed: whether the job failed.
    """
    wandb, number = sys.modules.get("wandb"), stop_signals.received()
    if wandb is None or wandb.run is None:
        return
    if number is None:
        wandb.finish(int(failed))
        return
    folder = Path(wandb.run.dir).parent
    thread = threading.Thread(target=wandb.finish, args=(1,), daemon=True)
    thread.start()
    thread.join(SECONDS)
    if thread.is_alive():
        log.warning("wandb: not all data is uploaded; to upload it later: wandb sync %s", folder)
        stopped = Stopped(number)
        stop_signals.report("cim-pretrain", stopped)
        logging.shutdown()
        os._exit(128 + number)  # wandb would wait again at exit

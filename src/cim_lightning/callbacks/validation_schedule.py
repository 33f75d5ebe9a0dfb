"""Schedule of callbacks that do not run in every validation."""

import lightning as L


def is_due(trainer: L.Trainer, every_n_epochs: int) -> bool:
    """Return whether this validation is the first, the last, or the one after an n-th epoch."""
    if trainer.state.fn != "fit":
        return True
    epoch = trainer.current_epoch + 1
    last = epoch == trainer.max_epochs or trainer.global_step >= trainer.estimated_stepping_batches
    return last or epoch % every_n_epochs == 0

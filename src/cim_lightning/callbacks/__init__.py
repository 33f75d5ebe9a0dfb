"""Lightning callbacks: checkpoints, online metrics, pictures, progress and the summary of a run."""

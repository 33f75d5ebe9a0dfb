"""Compare exemplars of the same frame with exemplars of other frames, on generated clips of moving squares.

Usage: python experiments/video/compare.py FOLDER
"""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from cim_lightning import load
from cim_lightning.cropping.exemplars import ExemplarCropper

SIDE, SQUARE, FRAMES = 64, 24, 16  # pixels, pixels, frames of a clip
NUM_TRAIN, NUM_VAL, STEPS = 200, 30, 1500
SMALL = ["backbone=vit_micro_patch8", "cropping=half", "decoder=cross_attention_small", "data.view_size=64"]
SHORT = ["data.batch_size=16", "data.frame_stride=1", "optim.base_lr=8.0e-3", "optim.warmup=0.1"]
RUNS = {"same frame": ["data.max_gap=0"], "at most 6 frames apart": ["data.max_gap=6"]}


def texture(side: int, low: int, high: int, rng: np.random.Generator) -> np.ndarray:
    """Return blobs of color, "h w 3" in low..high."""
    coarse = Image.fromarray(rng.integers(0, 256, (6, 6, 3), np.uint8)).resize(
        (side, side), Image.Resampling.BICUBIC
    )
    return (low + np.asarray(coarse) / 255 * (high - low)).astype(np.uint8)


def clip(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return frames "t h w 3" of a square that moves over a background, and its corners "t 2" (top, left)."""
    rng = np.random.default_rng(seed)
    background, square = texture(SIDE, 0, 160, rng), texture(SQUARE, 96, 255, rng)
    limit = SIDE - SQUARE
    start, end = rng.integers(0, limit + 1, (2, 2))
    corners = np.rint(np.linspace(start, end, FRAMES)).astype(int)
    frames = np.repeat(background[None], FRAMES, axis=0)
    for frame, (y, x) in zip(frames, corners, strict=True):
        frame[y : y + SQUARE, x : x + SQUARE] = square
    return frames, corners


def write_clips(folder: Path) -> None:
    for split, seeds in (("train", range(NUM_TRAIN)), ("val", range(NUM_TRAIN, NUM_TRAIN + NUM_VAL))):
        for seed in seeds:
            target = folder / split / f"clip_{seed}"
            target.mkdir(parents=True, exist_ok=True)
            for t, frame in enumerate(clip(seed)[0]):
                Image.fromarray(frame).save(target / f"{t}.png")


def target_quality(run: Path, gap: int) -> tuple[float, float]:
    """Return the mean IoU of the propagated target, and of the unmoved box, with the place of the square."""
    method = load(run)
    propagated, unmoved = [], []
    for seed in range(NUM_TRAIN, NUM_TRAIN + NUM_VAL):
        frames, corners = clip(seed)
        images = torch.from_numpy(frames[[0, gap]]).permute(0, 3, 1, 2)
        truth, box = torch.zeros(2, 1, 1, SIDE, SIDE)
        (y, x), (v, u) = corners[0], corners[gap]
        truth[..., y : y + SQUARE, x : x + SQUARE] = 1  # in the context, frame 0
        box[..., v : v + SQUARE, u : u + SQUARE] = 1  # in the frame of the exemplar
        crops = ExemplarCropper(num_exemplars=1, context_size=SIDE, exemplar_size=32)(images[None], 0)
        found = method.target_maps(crops._replace(maps=box.bool()))
        share = int(truth.sum())
        place = found.flatten().topk(share).indices  # as many pixels as the square has
        top = torch.zeros(SIDE * SIDE).index_fill(0, place, 1).view_as(truth)
        propagated.append(float((top * truth).sum() / (top + truth).clamp(max=1).sum()))
        unmoved.append(float((box * truth).sum() / (box + truth).clamp(max=1).sum()))
    return float(np.mean(propagated)), float(np.mean(unmoved))


def main(folder: Path) -> None:
    write_clips(folder / "clips")
    print("| exemplars | skill | IoU of the target, 6 frames apart | IoU of the unmoved box |")
    print("|---|---|---|---|")
    for name, overrides in RUNS.items():
        run = folder / name.replace(" ", "_")
        common = ["experiment=video", f"data.root={folder / 'clips'}", f"output_dir={run}", "logger=[csv]"]
        command = ["cim-pretrain", *common, *SMALL, *SHORT, f"trainer.max_steps={STEPS}", *overrides]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        skill = json.loads((run / "metrics.json").read_text())["val/skill"]
        propagated, unmoved = target_quality(run, 6)
        print(f"| {name} | {skill:.3f} | {propagated:.2f} | {unmoved:.2f} |", flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))

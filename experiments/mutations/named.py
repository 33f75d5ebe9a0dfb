"""The twelve errors of the issue: put each into the code, and see its test fail.

nice python experiments/mutations/named.py WORK_FOLDER --commit HEAD
"""

import argparse
import os
from pathlib import Path
from typing import NamedTuple

os.environ["OMP_NUM_THREADS"] = "1"

import isolated_pytest
from run import copy_of

SOURCE = "src/cim_lightning/"


class NamedError(NamedTuple):
    """An error: `old` becomes `new` everywhere in a file, and one of the tests must fail."""

    name: str
    path: str  # in src/cim_lightning
    old: str
    new: str
    tests: str  # files in tests


ERRORS = (
    NamedError(
        "probe without momentum",
        "evaluation/linear.py",
        "momentum=0.9",
        "momentum=0.0",
        "evaluation/test_linear.py",
    ),
    NamedError(
        "probe without its cosine",
        "evaluation/linear.py",
        "                schedule.step()\n",
        "",
        "evaluation/test_linear.py",
    ),
    NamedError(
        "low-shot on pooled instead of mean features",
        "evaluation/lowshot.py",
        ".get(self.features)",
        '.get("pooled")',
        "evaluation/test_lowshot.py",
    ),
    NamedError(
        "same random stream in each fine-tuning step",
        "evaluation/finetuning/classifier_module.py",
        "fork_rng(int(torch.randint(2**62, ())))",
        "fork_rng(0)",
        "evaluation/finetuning/test_classifier_module.py",
    ),
    NamedError(
        "learning rate of a micro-batch instead of the step",
        "evaluation/finetuning/classifier_training.py",
        "self.optim, global_batch_size, self.ema)",
        "self.optim, global_batch_size // parts, self.ema)",
        "evaluation/finetuning/test_classifier_module.py evaluation/finetuning/test_devices.py",
    ),
    NamedError(
        "top-5 computed as top-1",
        "evaluation/finetuning/classifier_module.py",
        "min(k, num_classes)",
        "1",
        "evaluation/finetuning/test_classifier_module.py",
    ),
    NamedError(
        "both views of alignment identical",
        "evaluation/representation.py",
        "for epoch in range(2)",
        "for epoch in (0, 0)",
        "evaluation/test_representation.py",
    ),
    NamedError(
        "learning rate without world size",
        "methods/method.py",
        " * self.trainer.world_size",
        "",
        "methods/test_plain_trainer.py",
    ),
    NamedError(
        "exemplars sampled with a footprint of 2.5",
        "cropping/random_crop.py",
        "offsets = offsets * spread",
        "offsets = 2.5 * offsets * spread",
        "cropping/test_random_crop.py",
    ),
    NamedError(
        "cached classifier of another data set reused",
        "evaluation/fitting.py",
        '"context": context.cache_key',
        '"context": None',
        "evaluation/finetuning/test_finetune.py",
    ),
    NamedError(
        "cached corruption accuracies ignore the classifier",
        "evaluation/robustness/imagenet_c.py",
        "fingerprint([self.classifier, ",
        "fingerprint([",
        "evaluation/robustness/test_variants.py",
    ),
    NamedError(
        "cached corruption accuracies ignore the number of images",
        "evaluation/robustness/imagenet_c.py",
        "self.num_images, context.view])",
        "context.view])",
        "evaluation/robustness/test_variants.py",
    ),
    NamedError(
        "gradient_clip_val changed on resume of a pre-training",
        "config/result_settings.py",
        '    "trainer.gradient_clip_val",\n',
        "",
        "config/test_result_settings.py",
    ),
    NamedError(
        "gradient_clip_val changed on resume of a fine-tuning",
        "evaluation/trainer_factory.py",
        '    "gradient_clip_val",\n',
        "",
        "evaluation/finetuning/test_finetune.py",
    ),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("--commit", default="HEAD")
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    tree = copy_of(args.commit, args.work / f"named{os.getpid()}")
    isolated_pytest.preload()
    print("| error | caught by |\n|---|---|")
    for error in ERRORS:
        path = tree / SOURCE / error.path
        source = path.read_text()
        assert error.old in source, f"{error.name}: the code has changed"
        path.write_text(source.replace(error.old, error.new))
        report = isolated_pytest.run(tree, [f"tests/{file}" for file in error.tests.split()], None, 900)
        path.write_text(source)
        print(f"| {error.name} | {report['failed'] or 'NOT CAUGHT'} |", flush=True)


if __name__ == "__main__":
    main()

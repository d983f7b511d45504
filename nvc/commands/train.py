"""``nvc train``: train the predictive network from a recipe, by LightningCLI."""

from __future__ import annotations

import argparse
from pathlib import Path

from nvc.errors import InputError, UsageError

EPILOG = """\
RECIPE.yaml holds everything; any of its values can be given after it as an option, for instance

  nvc train recipes/dhvc_s.yaml --data.folder clips --trainer.max_steps 2000
  nvc train recipes/dhvc_s.yaml --data.folder clips --ckpt_path runs/dhvc_s/last.ckpt

Several processes, also on several machines (docs/cluster.md):

  torchrun --nproc_per_node 2 -m nvc train recipes/dhvc_s.yaml --data.folder clips \\
      --trainer.devices 2 --trainer.strategy ddp_find_unused_parameters_true
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of ``nvc train``."""
    parser.add_argument("recipe", metavar="RECIPE.yaml", help="what to train, on what, how long")
    parser.add_argument(
        "options", nargs=argparse.REMAINDER, metavar="...", help="values that differ from it"
    )


def run(args: argparse.Namespace) -> int:
    """Train; checkpoints, logs and weights go where the recipe says."""
    if not Path(args.recipe).is_file():
        raise InputError(f"{args.recipe}: no such recipe")
    try:
        from lightning.pytorch.cli import LightningCLI
    except ImportError as error:
        raise UsageError(f"training needs the extra: pip install 'nvc[train]' ({error})") from error
    from nvc.data import ClipDataModule
    from nvc.predictive.module import PredictiveModule

    LightningCLI(
        PredictiveModule,
        ClipDataModule,
        args=["fit", "--config", args.recipe, "--weights_only", "true", *args.options],
        save_config_kwargs={"overwrite": True},
    )
    return 0

"""Training: clips are prepared once, batches keep planes and vectors together, a recipe trains."""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from clips import write_clip
from predictive_weights import tiny_network

from nvc.cli import main
from nvc.data import (
    ClipBatches,
    ClipDataModule,
    Stage,
    decisions,
    load_clip,
    motion_of,
    prepare_clip,
)
from nvc.errors import InputError
from nvc.predictive.checkpoint import load_network
from nvc.predictive.codec import EncodeOptions
from nvc.predictive.contexts import symbol_contexts
from nvc.predictive.frame_plan import decide
from nvc.predictive.lookahead import half_luma, linked
from nvc.predictive.module import OVERHEAD, PredictiveModule
from nvc.predictive.motion import compensate
from nvc.predictive.structure import coding_order, in_coding_order
from nvc.predictive.validation import measure_sequence

RECIPES = Path(__file__).parent.parent / "recipes"


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    folder = tmp_path / "clips"
    folder.mkdir()
    for name in ("pan_00", "pan_01", "walk_00"):
        write_clip(folder / f"{name}.mkv", width=150, height=134, frames=5)
    return folder


def test_a_clip_is_decoded_once(clips: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    folder = prepare_clip(clips / "pan_00.mkv", cache)
    stamp = (folder / "y.npy").stat().st_mtime_ns
    assert prepare_clip(clips / "pan_00.mkv", cache) == folder
    assert (folder / "y.npy").stat().st_mtime_ns == stamp
    clip = load_clip(folder)
    assert clip.size == (128, 144) and clip.frames == 5
    assert [p.shape for p in clip.planes] == [(5, 128, 144), (5, 64, 72), (5, 64, 72)]


def test_flipped_batches_keep_their_motion(clips: Path, tmp_path: Path) -> None:
    """Whatever the flips, the vectors predict a frame from the one before it."""
    clip = load_clip(prepare_clip(clips / "pan_00.mkv", tmp_path / "cache"))
    batches = iter(ClipBatches([clip], [Stage(steps=2, frames=2, crop=128, batch=8)], seed=1))
    batch = next(batches)
    assert batch["y"].shape == (2, 8, 1, 128, 128) and batch["u"].shape == (2, 8, 1, 64, 64)
    before, after = batch["y"].float()
    (moved,) = compensate([before], batch["vectors"][1], 1)
    inside = (slice(None), slice(None), slice(16, -16), slice(16, -16))
    copied = (before - after)[inside].square().mean((1, 2, 3))
    predicted = (moved - after)[inside].square().mean((1, 2, 3))
    assert (predicted <= copied + 1e-3).all() and predicted.sum() < copied.sum()


def test_batches_with_b_frames_come_in_coding_order(clips: Path, tmp_path: Path) -> None:
    """Each frame stands behind its references, and the mean of these predicts it."""
    clip = load_clip(prepare_clip(clips / "pan_00.mkv", tmp_path / "cache"))
    stage = Stage(steps=1, frames=5, crop=128, batch=3, bframes=3)
    batch = next(iter(ClipBatches([clip], [stage], seed=1)))
    assert batch["references"].tolist() == [[-1, -1], [0, -1], [0, 1], [0, 2], [2, 1]]
    assert batch["depth"].tolist() == [0, 0, 1, 2, 2]
    luma = batch["y"].float()
    for place in (2, 3, 4):
        earlier, later = batch["references"][place]
        (first,) = compensate([luma[earlier]], batch["vectors"][place], 1)
        (second,) = compensate([luma[later]], batch["second_vectors"][place], 1)
        inside = (slice(None), slice(None), slice(24, -24), slice(24, -24))
        one = (luma[earlier] - luma[place])[inside].square().mean()
        assert ((first + second) / 2 - luma[place])[inside].square().mean() < 0.5 * one


def test_an_older_reference_shows_what_was_hidden_for_a_moment(tmp_path: Path) -> None:
    """Low delay, the middle of three pictures covered: its squares come from the first one."""
    rng = np.random.default_rng(3)
    coarse = rng.integers(40, 215, (16, 16)).astype(np.float64)
    picture = np.kron(coarse, np.ones((8, 8))).astype(np.uint8)
    covered = picture.copy()
    covered[32:64, 48:96] = 128
    luma = np.stack([picture, covered, picture])
    order = coding_order(3, 0)
    assert [place.older for place in order] == [None, None, 0]
    _, second, parts = motion_of(luma, order, [40.0] * 3)
    assert not second[:2].any() and not parts[:2].any()
    hidden = np.zeros((8, 8), bool)
    hidden[2:4, 3:6] = True
    assert parts[2][hidden].mean() > 0.9 and (parts[2][~hidden] == 0).all()


def test_a_batch_names_the_second_reference(clips: Path, tmp_path: Path) -> None:
    """Of a P frame the older one, and a training step goes through it."""
    clip = load_clip(prepare_clip(clips / "pan_00.mkv", tmp_path / "cache"))
    batch = next(iter(ClipBatches([clip], [Stage(steps=1, frames=3, crop=128, batch=2)], seed=1)))
    assert batch["references"].tolist() == [[-1, -1], [0, -1], [1, 0]]
    assert batch["share"].shape == (3, 2, 1, 8, 8)
    assert set(batch["share"].unique().tolist()) <= {0.0, 0.5, 1.0}
    batch["share"][2] = 1
    module = PredictiveModule(size="tiny", reset_rate=0.0)
    module.network = tiny_network()
    alone = module.sequence(batch)[2].pictures[-1]
    batch["second_vectors"][2] += 32
    assert not torch.equal(module.sequence(batch)[2].pictures[-1], alone)


def test_an_analysis_that_is_held_learns_nothing_and_hides_nothing(
    clips: Path, tmp_path: Path
) -> None:
    """Steps and analysis have no gradient; a prediction hears of bits through the transform."""
    clip = load_clip(prepare_clip(clips / "pan_00.mkv", tmp_path / "cache"))
    batch = next(iter(ClipBatches([clip], [Stage(steps=1, frames=2, crop=128, batch=2)], seed=1)))
    batch["qps"][:] = 12
    module = PredictiveModule(size="tiny", reset_rate=0.0, hold_analysis=True, hold_intra=True)
    module.start_from_batches([batch])
    costs = [module.costs(result) for result in module.sequence(batch)]
    bits = costs[-1][0].sum()
    bits.backward()
    learnt = {name for name, one in module.network.named_parameters() if one.grad is not None}
    assert learnt and not any(name.startswith("intra.") for name in learnt)
    held = ("transform", "source_", "log_step")
    assert not any(name.split(".")[2].startswith(held) for name in learnt)
    assert {"levels.1.fine_out.weight", "levels.1.fine_in.weight"} <= learnt
    gradient = module.network.levels[1].fine_out.weight.grad
    assert gradient is not None and float(gradient.abs().max()) > 0


@pytest.mark.parametrize(("bframes", "qp"), [(3, 20), (3, 50), (0, 20), (0, 50)])
def test_a_batch_is_decided_as_an_encode_is(bframes: int, qp: int) -> None:
    """QPs and prices of a whole GOP, against the encoder's look ahead over the same frames."""
    rng = np.random.default_rng(2)
    still = np.kron(rng.integers(40, 215, (8, 8)), np.ones((8, 8))).astype(np.uint8)
    moving = rng.integers(0, 255, (32, 64, 64)).astype(np.uint8)
    luma = np.concatenate((np.repeat(still[None], 32, axis=0), moving), axis=2)
    order = coding_order(32, bframes)
    qps, worth = decisions(luma, order, qp, bframes)
    planes = [(torch.from_numpy(picture)[None, None].float() / 255,) for picture in luma]
    options = EncodeOptions(qp=qp, bframes=bframes)
    found = linked(planes, half_luma)
    for number, (place, (_, links)) in enumerate(in_coding_order(found, bframes=bframes)):
        known = [links] * (2 if bframes and place.earlier is None else 1)
        wanted, prices = decide(options, place, qp, known, (64, 128))
        assert order[number] == place and int(qps[number]) == wanted
        prices = torch.ones(1, 1, 4, 8) if prices is None else prices
        assert torch.allclose(worth[number], prices, rtol=1e-3)
    assert worth[0, 0, :, :4].mean() > 2 * worth[0, 0, :, 4:].mean()  # what stays is worth more


def test_short_sequences_have_the_qps_of_a_gop(clips: Path, tmp_path: Path) -> None:
    """P frames of all QPs, though only few frames follow."""
    clip = load_clip(prepare_clip(clips / "pan_00.mkv", tmp_path / "cache"))
    stage = Stage(steps=12, frames=3, crop=128, batch=8)
    batches = [*ClipBatches([clip], [stage], seed=1)]
    apart = torch.cat([(batch["qps"][1:] - batch["qp"]).float().flatten() for batch in batches])
    assert apart.mean().abs() < 10 and apart.std() > 3
    every = torch.cat([batch["qps"][1:].flatten() for batch in batches])
    assert int(every.min()) <= 3 and int(every.max()) >= 60


def test_batches_made_in_the_background_are_the_same(clips: Path, tmp_path: Path) -> None:
    found = []
    for background in (False, True):
        data = ClipDataModule(
            str(clips),
            [Stage(steps=3, frames=3, crop=64, batch=2)],
            cache=str(tmp_path / "cache"),
            halves=True,
            background=background,
        )
        data.prepare_data()
        data.setup("fit")
        loader = data.train_dataloader()
        assert loader.num_workers == int(background and sys.platform == "linux")
        found.append([*loader])
    sizes = {clip.size for clip in data.training}
    assert sizes == {(128, 144), (64, 64)}  # whole clips, and these at half the size
    for here, there in zip(*found, strict=True):
        assert here.keys() == there.keys()
        assert all(torch.equal(here[name], there[name]) for name in here)


def test_halves_are_means_of_four_samples(clips: Path, tmp_path: Path) -> None:
    whole, half = (
        load_clip(prepare_clip(clips / "pan_00.mkv", tmp_path / "cache", halve=halve))
        for halve in (False, True)
    )
    for large, small in zip(whole.planes, half.planes, strict=True):
        rows, columns = small.shape[1:]
        cells = large[:, : 2 * rows, : 2 * columns].reshape(-1, rows, 2, columns, 2)
        assert np.abs(cells.mean((2, 4)) - small).max() <= 0.5


@pytest.mark.parametrize("autocast", [False, True])
def test_the_loss_goes_by_shares_of_rate_and_error(autocast: bool) -> None:
    """A tenth of the bits is worth the same at any rate, and so is a tenth of the error."""
    module = PredictiveModule(size="tiny")
    bits, errors = torch.tensor([[0.05, 0.5]]), torch.full((3, 2), 1e-4)
    errors[:, 1] = 1e-5
    bits.requires_grad_(), errors.requires_grad_()
    coarse = torch.zeros(1, 2)
    costs = [(torch.cat((bits / 10, bits)), errors, coarse)] * 3
    qp = torch.tensor([40, 10])
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
        rate, *_ = module.shares(costs, qp)
        loss = module.objective(costs, qp)
    loss.backward()
    assert bits.grad is not None and errors.grad is not None
    by_share = bits.grad[0] * bits[0].detach() * rate.detach() / (rate.detach() - OVERHEAD)
    assert torch.allclose(by_share, torch.full((2,), 0.5), atol=1e-4)  # of a mean over two
    by_share = (errors.grad * errors.detach()).sum(0)
    assert torch.allclose(by_share, torch.full((2,), module.hparams["kappa"] / 2), rtol=0.15)


def test_an_intra_frame_counts_for_the_frames_it_serves() -> None:
    module = PredictiveModule(size="tiny", gop=33)
    dear = (torch.full((2, 1), 1.0), torch.full((3, 1), 1e-4), torch.zeros(1, 1))
    cheap = (torch.zeros(2, 1), *dear[1:])
    qp = torch.tensor([30])
    for frames in (5, 17, 33):
        rate, *_ = module.shares([dear, *[cheap] * (frames - 1)], qp)
        assert float(rate) == pytest.approx(2 / 33 + OVERHEAD, rel=1e-4)


def test_clips_too_small_for_the_schedule_are_named(clips: Path, tmp_path: Path) -> None:
    clip = load_clip(prepare_clip(clips / "pan_00.mkv", tmp_path / "cache"))
    with pytest.raises(InputError, match="2 frames of 256x256"):
        next(iter(ClipBatches([clip], [Stage(steps=1, crop=256)])))


def test_a_tiny_recipe_trains_resumes_and_validates_on_real_bytes(
    clips: Path, tmp_path: Path
) -> None:
    recipe = yaml.safe_load((RECIPES / "dhvc_s.yaml").read_text())
    runs = str(tmp_path / "runs")
    recipe["trainer"] |= {"max_steps": 6, "precision": "32-true", "default_root_dir": runs}
    recipe["trainer"] |= {
        "enable_progress_bar": False,
        "accelerator": "cpu",
        "log_every_n_steps": 1,
    }
    recipe["trainer"]["logger"]["init_args"]["save_dir"] = runs
    checkpoints, validation = recipe["trainer"]["callbacks"]
    checkpoints["init_args"] |= {"dirpath": runs}
    validation["init_args"] |= {"folder": runs, "every": 4, "qps": 2, "frames": 2}
    recipe["model"]["size"] = "tiny"
    recipe["data"] = {
        "folder": str(clips),
        "cache": str(tmp_path / "cache"),
        "validation_scenes": ["walk"],
        "stages": [
            {"steps": 4, "frames": 2, "crop": 128, "batch": 2},
            {"steps": 6, "frames": 3, "crop": 128, "batch": 1, "bframes": 1},
        ],
    }
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump(recipe))
    assert main(["train", str(path)]) == 0
    assert (tmp_path / "runs" / "last.ckpt").exists()
    resume = ["--ckpt_path", f"{runs}/last.ckpt", "--trainer.max_steps", "8"]
    assert main(["train", str(path), *resume]) == 0

    with (tmp_path / "runs" / "rd.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["step"]) for row in rows] == [4, 4, 6, 6, 8, 8]
    assert {row["clip"].split("-")[0] for row in rows} == {"walk_00"}
    assert all(0 < float(row["bpp"]) < 20 for row in rows)
    # The figures are those of the weights written beside them.
    network = load_network(tmp_path / "runs" / "weights.safetensors")
    counted, start = network.intra[-1].contexts.codes, symbol_contexts(3).codes
    assert not torch.equal(counted[0], start[0])  # their contexts were counted
    clip = load_clip(next((tmp_path / "cache").glob("walk_00-*")))
    frames = [
        tuple(
            torch.from_numpy(np.array(plane[n, : 128 >> int(i > 0), : 128 >> int(i > 0)]))[
                None, None
            ].float()
            / 255
            for i, plane in enumerate(clip.planes)
        )
        for n in range(2)
    ]
    bpp, psnr = measure_sequence(network, frames, int(rows[-1]["qp"]))
    assert bpp == pytest.approx(float(rows[-1]["bpp"]), rel=0.1)
    assert psnr == pytest.approx(float(rows[-1]["psnr_yuv"]), abs=0.5)


@pytest.mark.parametrize("recipe", sorted(RECIPES.glob("dhvc*.yaml")), ids=lambda p: p.stem)
def test_shipped_recipes_are_consistent(recipe: Path) -> None:
    """Every key is known to what it configures, and the schedule fills the run."""
    from nvc.predictive.config import size_config

    values = yaml.safe_load(recipe.read_text())
    stages = [Stage(**stage) for stage in values["data"]["stages"]]
    assert sum(stage.steps for stage in stages) == values["trainer"]["max_steps"]
    assert size_config(values["model"]["size"], reference=values["model"]["reference"])

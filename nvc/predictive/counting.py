"""Count where the adaptive bits should begin: encode clips, and set the network's probabilities."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence

import torch

from nvc.predictive.codec import EncodeOptions, encode_frames
from nvc.predictive.contexts import ContextCounts, symbol_probabilities, vector_probabilities
from nvc.predictive.network import PredictiveNetwork
from nvc.predictive.row_coder import open_coder
from nvc.video.frames import Frame, VideoInfo

Clip = Sequence[tuple[torch.Tensor, ...]]  # planes (H, W) and halves, uint8, of each frame

QPS = (12, 28, 44)  # what a clip is encoded at


def count_contexts(
    network: PredictiveNetwork, clips: Iterable[Clip], *, qps: Sequence[int] = QPS
) -> ContextCounts:
    """Zeros and ones in every context over encodes of these clips.

    The encoder decides by the probabilities that the network has, so counting once more, from those
    counted first, changes a little.
    """
    counts = ContextCounts()
    network = copy.deepcopy(network)  # what is prepared for a network knows nothing of training
    for clip in clips:
        height, width = clip[0][0].shape
        info = VideoInfo(width=width, height=height, frame_count=len(clip))
        coder = open_coder(network, (height, width))
        coder.counts = counts
        for qp in qps:
            frames = (Frame(planes=planes, pts=number) for number, planes in enumerate(clip))
            for _ in encode_frames(EncodeOptions(qp=qp), frames, info, coder=coder):
                pass
    return counts


def set_contexts(network: PredictiveNetwork, counts: ContextCounts) -> None:
    """Make what was counted the network's probabilities; forms not seen keep theirs."""
    for (shrink, form), bits in counts.symbols.items():
        for level in network.bank(form == 0):
            if level.config.shrink == shrink:
                level.contexts.set(form, symbol_probabilities(bits))
    for row, probability in vector_probabilities(counts.vectors).items():
        network.motion_contexts.set(row, probability)

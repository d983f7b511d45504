"""The commands of ``nvc``, one module each: ``add_arguments(parser)`` and ``run(args) -> int``.

These modules import torch, numpy and the codecs only inside ``run``, so that --help is instant.
"""

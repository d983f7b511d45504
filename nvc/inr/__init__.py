"""Implicit neural representations: a clip is fitted as the weights of a small network.

``config`` says which parts make the network and how it is fitted, ``embeddings``, ``blocks`` and
``network`` are the parts, ``parameters`` quantises and codes the weights, ``module`` fits them and
``codec`` turns frames into units and back.
"""

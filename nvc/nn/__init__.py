"""Blocks and quantisers shared by both codec families."""

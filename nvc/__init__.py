"""nvc: a neural video codec."""

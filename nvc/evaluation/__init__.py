"""How results are measured: distortion metrics, BD-rate, conventional encoders beside ours."""

"""The predictive family: a hierarchical coder of multiscale latent residuals (DHVC style)."""

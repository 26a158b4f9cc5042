"""Training recipes: one trainer, one file per experiment (`python -m experiments.NAME`)."""

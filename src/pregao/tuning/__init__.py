"""Many trainings compared by validation: Hydra sweeps and Optuna searches. The test part is not read here."""

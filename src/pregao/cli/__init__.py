"""The commands: Hydra around a stage, refusals as one sentence, exit codes, terminal tables."""

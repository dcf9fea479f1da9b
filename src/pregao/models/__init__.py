"""The model contract, the models, their encoders, calibration and files. No training, download or tracking."""

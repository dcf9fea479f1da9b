"""The model contract, the models, their encoders, calibration and files. Nothing here trains, downloads or tracks."""

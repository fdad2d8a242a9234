"""Read a CT: bone, walls, lesion, calibration."""

"""Arrays in, arrays out: the only floor where speed is worked on."""

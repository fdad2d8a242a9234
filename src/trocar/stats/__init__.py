"""Arrays in, small frozen results out: what a statistician would ask of the record."""

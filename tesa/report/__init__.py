"""Tables, pictures and plain data out of what the other parts found. Changes nothing and decides nothing."""

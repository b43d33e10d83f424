"""A compiled network as one C function that needs no runtime: straight lists of calls on places in an arena."""

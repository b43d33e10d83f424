"""From generated code to object files and libraries, in parallel and through a cache."""

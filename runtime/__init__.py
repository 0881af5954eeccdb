"""Ground floor: errors, whole files, memory, worker processes, devices and the command line; uses no other package."""

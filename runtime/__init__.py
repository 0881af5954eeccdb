"""Base package: errors, atomic files, memory, processes, devices and the command line. It uses no other package."""
